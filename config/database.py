"""Where rooms and accounts are stored."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from config.field import between, setting

_PASSWORD_IN_URL = re.compile(r"(?P<before>://[^:/@?#]*:)[^@/?#]*(?=@)")
_PASSWORD_IN_QUERY = re.compile(r"(?P<before>[?&](?:password|sslpassword)=)[^&#]*")
SQLITE = "sqlite:///"


def _database_url(value: object) -> str | None:
    text = str(value)
    if text.startswith(("postgresql://", "postgres://")):
        return None
    if text.startswith(SQLITE):
        return None if text != SQLITE else "needs a path after sqlite:///"
    return "must begin with sqlite:/// or postgresql://"


def hide_password(url: str) -> str:
    """The URL with `********` in place of its password, in the authority or among the parameters."""
    url = _PASSWORD_IN_URL.sub(r"\g<before>********", url)
    return _PASSWORD_IN_QUERY.sub(r"\g<before>********", url)


@frozen(kw_only=True)
class Database:
    """Where rooms and accounts are stored."""

    url: str = setting(
        "sqlite:///homeserver.db",
        doc="sqlite:///PATH (three slashes and a path relative to data_dir, or four for an absolute one), or "
        "postgresql://USER:PASSWORD@HOST:PORT/NAME in any form that libpq takes; for a Unix socket "
        "postgresql:///NAME?host=/var/run/postgresql. On PostgreSQL the database's encoding is UTF8.",
        check=_database_url,
        mask=hide_password,
    )
    pool_size: int = setting(
        4, doc="How many threads read the database at the same time. One more writes.", check=between(1, 100)
    )

    @property
    def sqlite_path(self) -> Path | None:
        """The database file, or None where the database is PostgreSQL. Absolute after `load_settings`."""
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None
