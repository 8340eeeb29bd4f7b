"""Who this server is, and where it keeps what it owns."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from config.field import http_url, setting

_SERVER_NAME = re.compile(r"(?:[A-Za-z0-9.-]{1,230}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def check_server_name(value: object) -> str | None:
    """Refuse what is no server name. Spec: https://spec.matrix.org/v1.19/appendices/#server-name"""
    if _SERVER_NAME.fullmatch(str(value)):
        return None
    return f"must be a host name or IP address, with a port if it needs one, not {value!r}"


@frozen(kw_only=True)
class Server:
    """Who this server is, and where it keeps what it owns."""

    name: str = setting(
        doc="The part after the colon in @alice:example.org. It can never be changed once there are accounts.",
        check=check_server_name,
        live=True,
    )
    public_baseurl: str | None = setting(
        None,
        doc="The address under which clients reach this server. It is what /.well-known/matrix/client answers; "
        "without it, that answers 404 and people type the address into their client.",
        check=http_url,
    )
    data_dir: Path = setting(
        Path(),
        doc="Where the database, the signing key and media are kept. A relative path starts at the directory of this "
        "file; relative paths in all other settings start at data_dir.",
    )
    signing_key_path: Path = setting(
        Path("signing.key"),
        doc="The file with the key that signs this server's events (signedjson's format). Keep a copy: whoever has it "
        "can speak as this server, and without it the server is a stranger to the others.",
    )
    description: str | None = setting(
        None, doc="One or two sentences for the landing page: whose server it is, and who may use it."
    )
    admin_contact: str | None = setting(
        None, doc="How to reach the people who run this server: an email address (mailto:…) or a page (https://…)."
    )
