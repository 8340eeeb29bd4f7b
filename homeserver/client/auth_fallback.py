"""`/auth/{type}/fallback/web`: a stage of interactive authentication in a browser, for clients that do not know it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#fallback
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from homeserver.about import About
from homeserver.accounts.interactive import InteractiveAuth
from homeserver.errors import MatrixError, NotFound
from homeserver.http.asks import parse_query
from homeserver.http.route import NONE, Reply, RequestInfo, route

if TYPE_CHECKING:
    from jinja2 import Template

PATH = "/_matrix/client/v3/auth/{kind}/fallback/web"

SCRIPT = """
if (window.onAuthDone) window.onAuthDone();
else if (window.opener && window.opener.postMessage) window.opener.postMessage("authDone", "*");
"""
"""What clients wait for."""

_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'",
    "Referrer-Policy": "no-referrer",
}


class Show(msgspec.Struct, frozen=True):
    kind: str
    session: str


class Submit(msgspec.Struct, frozen=True):
    kind: str
    form: bytes
    """As HTML forms send it."""


@route("GET", PATH, auth=NONE, rate="login_address", query=["session"])
async def show_stage(about: About, interactive: InteractiveAuth, ask: Show) -> Reply:
    if not interactive.offers(ask.session, ask.kind):
        raise NotFound("There is nothing to be done here: the session is over")
    return _page(about, ask.kind, ask.session)


@route("POST", PATH, auth=NONE, rate="login_address", max_body=4096, body="form")
async def submit_stage(about: About, interactive: InteractiveAuth, ask: Submit, info: RequestInfo) -> Reply:
    fields = {name: texts[0] for name, texts in parse_query(ask.form.decode("latin-1")).items()}
    session = fields.pop("session", "")
    if not interactive.offers(session, ask.kind):
        raise NotFound("There is nothing to be done here: the session is over")
    try:
        await interactive.pass_stage(session, {**fields, "type": ask.kind}, info.address)
    except MatrixError as error:
        return _page(about, ask.kind, session, wrong=error.error)
    return _page(about, ask.kind, session, done=True)


def _page(about: About, kind: str, session: str, *, wrong: str | None = None, done: bool = False) -> Reply:
    page = _template().render(
        server_name=about.settings.server.name,
        kind=kind,
        session=session,
        wrong=wrong,
        done=done,
        script=SCRIPT,
    )
    return Reply(200, page.encode(), HEADERS)


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment  # only servers whose people need this page pay for it

    source = files("homeserver.templates").joinpath("auth_fallback.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(source)
