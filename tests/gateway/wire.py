"""A WebSocket client of the tests' own: blocking, and free to break every rule.

wire = Wire(server.port)
wire.say({"op": "identify", "token": ...}); wire.hear() == {"op": "ready", ...}
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

PATH = "/_guildhall/client/v1/gateway"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PATIENCE_S = 30.0


class Refused(Exception):
    """The handshake was answered with something else."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        self.body: Any = json.loads(body) if body else None


class Closed(Exception):
    """The server closed the connection: with a code, or without a word (0)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Wire:
    """One connection."""

    def __init__(self, port: int, query: str = "", **headers: str) -> None:
        """Headers are named with underscores; an empty one is left out."""
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        given = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"GET {PATH}{query} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._buffer = b""
        head = self._until(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 101:
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            raise Refused(status, self._take(length))

    # -- saying ------------------------------------------------------------------------------------------------

    def say(self, message: Mapping[str, Any]) -> None:
        self.frame(TEXT, json.dumps(message).encode())

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> None:
        self.raw(frame_of(opcode, payload, fin=fin, masked=masked))

    def raw(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the server may have had enough: what it said of that is to be heard yet
            self.socket.sendall(data)

    # -- hearing -----------------------------------------------------------------------------------------------

    def hear(self) -> Any:
        """The next message. Raises Closed."""
        while True:
            try:
                first, second = self._take(2)
                length = second & 127
                if length == 126:
                    (length,) = struct.unpack("!H", self._take(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", self._take(8))
                payload = self._take(length)
            except (ConnectionError, TimeoutError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise Closed(0) from None
            match first & 15:
                case 1:
                    return json.loads(payload)
                case 8:
                    code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    self.frame(CLOSE, payload[:2])
                    raise Closed(code, payload[2:].decode())
                case 9:
                    self.frame(PONG, payload)

    def hear_until(self, wanted: Callable[[Any], bool]) -> Any:
        """Skip messages up to one that is wanted."""
        while not wanted(message := self.hear()):
            pass
        return message

    def closed(self) -> int:
        """The code with which it ends, whatever is said before."""
        try:
            while True:
                self.hear()
        except Closed as closed:
            return closed.code

    def __del__(self) -> None:
        self.socket.close()

    def drop(self) -> None:
        """Go without a word."""
        self.socket.close()

    # ----------------------------------------------------------------------------------------------------------

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._fill()
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        taken, _, self._buffer = self._buffer.partition(mark)
        return taken

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError
        self._buffer += data


def frame_of(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    length, bit = len(payload), 128 if masked else 0
    first = bytes([opcode | (128 if fin else 0)])
    if length < 126:
        head = first + bytes([bit | length])
    elif length < 1 << 16:
        head = first + bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head = first + bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    mask = b"mask"  # any will do
    pad = (mask * (length // 4 + 1))[:length]
    covered = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(length, "big")
    return head + mask + covered
