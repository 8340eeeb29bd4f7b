"""`/_guildhall/mail/…`: where links in mail lead. Looking at a page changes nothing: mail programs look, too.

One click in a mail program ends it without a page: https://www.rfc-editor.org/rfc/rfc8058
"""

from __future__ import annotations

import msgspec

from homeserver.about import About
from homeserver.errors import NotFound
from homeserver.http.route import NONE, Reply, route
from homeserver.mail.letters import CONFIRM, STOP, render
from homeserver.push.consent import Consent

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Look(msgspec.Struct, frozen=True):
    token: str


class Press(msgspec.Struct, frozen=True):
    token: str
    form: bytes = b""
    """Whatever is in it: that it came is enough."""


@route("GET", CONFIRM, auth=NONE, rate="anonymous", query=["token"])
async def look_at_confirm(about: About, consent: Consent, ask: Look) -> Reply:
    pusher = consent.find(ask.token)
    if pusher is None:
        raise NotFound("This link is not good any more")
    return _page(about, f"Mail for {pusher.user_id} to {pusher.pushkey}?", "Yes, send me mail")


@route("POST", CONFIRM, auth=NONE, rate="anonymous", max_body=4096, query=["token"], body="form")
async def confirm(about: About, consent: Consent, ask: Press) -> Reply:
    if not await consent.accept(ask.token):
        raise NotFound("This link is not good any more")
    return _page(about, "Thank you. You will get mail when you are away.")


@route("GET", STOP, auth=NONE, rate="anonymous", query=["token"])
async def look_at_stop(about: About, consent: Consent, ask: Look) -> Reply:
    pusher = consent.find(ask.token)
    if pusher is None:
        return _page(about, "There will be no more mail.")
    return _page(about, f"No more mail to {pusher.pushkey}?", "No more mail")


@route("POST", STOP, auth=NONE, rate="anonymous", max_body=4096, query=["token"], body="form")
async def stop(about: About, consent: Consent, ask: Press) -> Reply:
    await consent.stop(ask.token)
    return _page(about, "There will be no more mail.")


def _page(about: About, text: str, button: str | None = None) -> Reply:
    page = render("mail_page.html", {"server_name": about.settings.server.name, "text": text, "button": button})
    return Reply(200, page.encode(), HEADERS)
