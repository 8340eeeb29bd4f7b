"""How mail is written: as text and as a page, from templates, with what mail programs want to know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from jinja2 import Template

LONGEST_SUBJECT = 150
CONFIRM, STOP = "/_guildhall/mail/confirm", "/_guildhall/mail/stop"


class Letters(msgspec.Struct, frozen=True):
    """Writes for one server."""

    sender: str
    base_url: str
    """Under which links lead to this server."""
    server_name: str

    def link(self, path: str, token: str) -> str:
        return f"{self.base_url.rstrip('/')}{path}?token={token}"

    def write(
        self, template: str, address: str, token: str, subject: str, now_ms: int, values: Mapping[str, Any], about: str
    ) -> EmailMessage:
        """`template` is there as text and as a page. `about`: a letter about the same has the same id, also if it is
        sent again after a crash.
        """
        stop = self.link(STOP, token)
        values = {**values, "server_name": self.server_name, "stop": stop, "confirm": self.link(CONFIRM, token)}
        letter = EmailMessage()
        letter["From"] = self.sender
        letter["To"] = address
        letter["Subject"] = " ".join(subject.split())[:LONGEST_SUBJECT]
        letter["Date"] = formatdate(now_ms / 1000)
        digest = hashlib.sha256(f"{token}\n{about}".encode()).hexdigest()[:32]
        letter["Message-ID"] = f"<{digest}@{parseaddr(self.sender)[1].rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        # One click in the mail program is enough: https://www.rfc-editor.org/rfc/rfc8058
        letter["List-Unsubscribe"] = f"<{stop}>"
        letter["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        letter.set_content(render(f"{template}.txt", values), cte="quoted-printable")
        letter.add_alternative(render(f"{template}.html", values), subtype="html", cte="quoted-printable")
        return letter


def render(name: str, values: Mapping[str, Any]) -> str:
    return _template(name).render(values)


@lru_cache(maxsize=8)
def _template(name: str) -> Template:
    from jinja2 import Environment  # few servers send mail

    source = files("homeserver.templates").joinpath(name).read_text(encoding="utf-8")
    environment = Environment(autoescape=name.endswith(".html"), trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)
