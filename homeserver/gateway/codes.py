"""Why connections are closed: `docs/gateway.md` tells clients. What breaks WebSocket's rules has WebSocket's codes."""

from __future__ import annotations

from typing import Final

import msgspec


class Close(msgspec.Struct, frozen=True, gc=False):
    """A close code, and the words that go with it (at most 123 bytes)."""

    code: int
    reason: str


NOT_AUTHENTICATED: Final = Close(4001, "Not authenticated")
NO_IDENTIFY: Final = Close(4001, "There was no identify within 10 seconds")
NO_GUESTS: Final = Close(4003, "Guests may not use the gateway")
PUT_OUT: Final = Close(4003, "You are not in this room any more")
NO_ROOM: Final = Close(4004, "There is no such room")
TOO_MANY: Final = Close(4008, "Too many requests")
TOO_MANY_CONNECTIONS: Final = Close(4008, "Too many connections of this account")
TOO_SLOW: Final = Close(4009, "Too slow: resume and carry on")
SILENT: Final = Close(4009, "Nothing was heard from you for too long")
GOING_DOWN: Final = Close(4010, "The server is going down: resume elsewhere")

NOT_TEXT: Final = Close(1003, "Messages are JSON in text frames")
NOT_JSON: Final = Close(1007, "A message is a JSON object with `op`, not too deep")
NOT_KNOWN: Final = Close(1008, "`op` is identify (once, first), call, ping or pong")
BROKEN: Final = Close(1011, "Something went wrong here: resume and carry on")
