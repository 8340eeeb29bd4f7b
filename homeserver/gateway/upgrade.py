"""`GET /_guildhall/client/v1/gateway`: a WebSocket on the same port as everything else.

The handshake is judged here, as other requests are; the connection then belongs to `homeserver.gateway.socket`.

Spec: https://www.rfc-editor.org/rfc/rfc6455#section-4
"""

from __future__ import annotations

import binascii
from base64 import b64decode

import msgspec

from homeserver.errors import Forbidden, InvalidParam, MatrixError
from homeserver.gateway.lobby import Lobby
from homeserver.http.route import NONE, RequestInfo, Upgrade, route

PATH = "/_guildhall/client/v1/gateway"
_HEAD = "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
_KEY = "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"


class OpenGateway(msgspec.Struct, frozen=True):
    room: str | None = None
    """A room to subscribe to at once: the connection ends where there is none to see."""
    upgrade: str = ""
    origin: str | None = None
    sec_websocket_key: str = ""
    sec_websocket_version: str = ""


@route(
    "GET",
    PATH,
    auth=NONE,  # a token comes in the first message: it never stands in a URL, and browsers send no header of ours
    rate="anonymous",
    query=("room",),
    headers=("upgrade", "origin", "sec-websocket-key", "sec-websocket-version"),
)
async def open_gateway(lobby: Lobby, info: RequestInfo, ask: OpenGateway) -> Upgrade:
    if ask.upgrade.lower() != "websocket":
        raise MatrixError(426, "M_UNRECOGNIZED", "This is a WebSocket", headers={"Upgrade": "websocket"})
    if ask.sec_websocket_version != "13":
        error = "This server speaks WebSocket 13"
        raise MatrixError(426, "M_UNRECOGNIZED", error, headers={"Sec-WebSocket-Version": "13", "Upgrade": "websocket"})
    if not _is_key(ask.sec_websocket_key):
        raise InvalidParam("`Sec-WebSocket-Key` is 16 bytes in base64")
    if not lobby.admits(ask.origin):
        raise Forbidden("Pages of this origin may not use the gateway")
    head = _HEAD.format(path=PATH) + _KEY.format(key=ask.sec_websocket_key)
    return Upgrade(lobby.receive(info, ask.room), head.encode())


def _is_key(text: str) -> bool:
    try:
        return len(text) == 24 and len(b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
