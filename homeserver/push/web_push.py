"""Notifications straight to browsers, through the push service that each browser has.

Spec: MSC4174 (https://github.com/matrix-org/matrix-spec-proposals/pull/4174)
Sources: https://www.rfc-editor.org/rfc/rfc8030, https://www.rfc-editor.org/rfc/rfc8291
"""

from __future__ import annotations

import base64
import hashlib

import orjson

from federation.outbound.web import Web, parse_url
from federation.service import service
from homeserver.push.kinds import read_base64, url_of
from homeserver.push.ports import Again, Gone, Json, Outcome, Said, Vain
from homeserver.push.posting import post
from homeserver.push.vapid import Vapid
from storage.pushers import Pusher

TTL_S = 24 * 3600
"""For how long a push service keeps what it can't deliver."""
TOPIC_CHARACTERS = 32

SAID = frozenset({200, 201, 202, 204})
GONE = frozenset({403, 404, 410})
"""Of these 403 says that the subscription is somebody else's: with it nothing will ever go through."""
BUSY = frozenset({408, 425, 429})

DISPENSABLE = ("content", "room_alias", "default_payload", "room_name", "sender_display_name", "devices")
"""What is left out, in this order, of what is too long."""


@service
class WebPush:
    """A carrier (`homeserver.push.ports.Carrier`)."""

    web: Web
    vapid: Vapid
    allows_plain: bool

    async def carry(self, pusher: Pusher, told: Json, notification: Json) -> Outcome:
        data = told["data"]
        more = data.get("default_payload")
        # COMPAT Sable, Hydrogen: what they set as `default_payload` they look for in the message, as Sygnal has it.
        message = {**more, **notification} if isinstance(more, dict) else notification
        tweaks = notification["devices"][0].get("tweaks", {})
        headers = {"Urgency": "high" if "sound" in tweaks or "highlight" in tweaks else "normal"}
        if data.get("only_last_per_room") is True:
            headers["Topic"] = _topic(data["auth"], notification["room_id"])
        return await self.send(pusher, told, message, headers)

    async def send(self, pusher: Pusher, told: Json, message: Json, headers: dict[str, str]) -> Outcome:
        """Any message to the browser."""
        from homeserver.push.sealing import seal  # few need it

        url = parse_url(url_of(told["data"]))
        body = seal(_fit(message), read_base64(pusher.pushkey), read_base64(told["data"]["auth"]))
        sealed = {
            "Content-Type": "application/octet-stream",
            "Content-Encoding": "aes128gcm",
            "TTL": str(TTL_S),
            "Authorization": await self.vapid.header(url),
            **headers,
        }
        answer = await post(self.web, url.text, sealed, body, allows_plain=self.allows_plain)
        if isinstance(answer, Again | Vain):
            return answer
        if answer.status in SAID:
            return Said()
        if answer.status in GONE:
            return Gone()
        if answer.status >= 500 or answer.status in BUSY:
            return Again(f"it answers {answer.status}", _seconds(answer.headers.get("retry-after", "")))
        return Vain(f"it answers {answer.status}")


def _fit(message: Json) -> bytes:
    """As JSON, with as much of it as may be sent."""
    from homeserver.push.sealing import LARGEST_PLAIN

    written = orjson.dumps(message)
    short = dict(message)
    for name in DISPENSABLE:
        if len(written) <= LARGEST_PLAIN:
            return written
        short.pop(name, None)
        written = orjson.dumps(short)
    if len(written) > LARGEST_PLAIN:
        needed = {name: short[name] for name in ("event_id", "room_id", "counts") if name in short}
        written = orjson.dumps(needed)
    return written


def _topic(secret: str, room_id: str) -> str:
    """The same for all messages of a room to a browser, and of no meaning to the push service."""
    digest = hashlib.sha256(f"{secret}\n{room_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:TOPIC_CHARACTERS]


def _seconds(text: str) -> float:
    """`Retry-After`, where it is a number."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0
