"""Who is typing where. Lives in memory: it is gone in seconds anyway.

Spec: https://spec.matrix.org/v1.19/client-server-api/#typing-notifications
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import orjson
from twisted.internet.interfaces import IDelayedCall

from homeserver.clock import Clock
from homeserver.streams.hub import Hub

MAX_TIMEOUT_MS = 120_000
"""Nobody types longer without saying so again."""

NOBODY = b'{"content":{"user_ids":[]},"type":"m.typing"}'


class Room(Protocol):
    """What of a room matters here."""

    nid: int


class TypingListener(Protocol):
    """Told when somebody begins, goes on, or has stopped typing: must not wait and must not raise."""

    def typing_changed(self, room_nid: int, user_id: str, is_typing: bool) -> None: ...


class _Board(msgspec.Struct, eq=False):
    """The people typing in one room, and when the reactor's clock says that each has stopped."""

    ends: dict[str, float] = msgspec.field(default_factory=dict)
    timer: IDelayedCall | None = None
    content: bytes = NOBODY


class TypingBoard:
    """Who is typing in each room: the `m.typing` that its members are shown."""

    def __init__(self, hub: Hub, clock: Clock) -> None:
        self._hub = hub
        self._timers = clock.timers
        self._rooms: dict[int, _Board] = {}
        self.listeners: list[TypingListener] = []

    def content(self, room_nid: int) -> bytes:
        """The room's `m.typing` event as it stands in /sync. Made once for all readers."""
        board = self._rooms.get(room_nid)
        return NOBODY if board is None else board.content

    def is_quiet(self, room_nid: int) -> bool:
        """Whether nobody is typing: a first sync need not say so."""
        return room_nid not in self._rooms

    def typing_in(self, room_nid: int) -> list[str]:
        """The people typing, those who began first in front."""
        board = self._rooms.get(room_nid)
        return [] if board is None else list(board.ends)

    def set(self, room: Room, user_id: str, typing: bool, timeout_ms: int) -> None:
        """Someone says that they are typing, for at most `timeout_ms`, or that they have stopped.

        That the user is in the room must be certain already.
        """
        if typing and timeout_ms > 0:
            self._start(room.nid, user_id, min(timeout_ms, MAX_TIMEOUT_MS) / 1000)
        else:
            self.stop(room.nid, user_id)

    def stop(self, room_nid: int, user_id: str) -> None:
        """Someone has stopped typing, or left the room."""
        board = self._rooms.get(room_nid)
        if board is not None and board.ends.pop(user_id, None) is not None:
            self._changed(room_nid, board)
            self._tell(room_nid, user_id, False)

    def _start(self, room_nid: int, user_id: str, seconds: float) -> None:
        board = self._rooms.get(room_nid)
        if board is None:
            board = self._rooms[room_nid] = _Board()
        is_new = user_id not in board.ends
        end = board.ends[user_id] = self._timers.seconds() + seconds
        if board.timer is None or end < board.timer.getTime():
            self._wait(room_nid, board)
        if is_new:
            self._changed(room_nid, board)
        self._tell(room_nid, user_id, True)

    def _tell(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        for listener in self.listeners:
            listener.typing_changed(room_nid, user_id, is_typing)

    def _changed(self, room_nid: int, board: _Board) -> None:
        if board.ends:
            board.content = orjson.dumps({"content": {"user_ids": list(board.ends)}, "type": "m.typing"})
        else:
            if board.timer is not None:
                board.timer.cancel()
            del self._rooms[room_nid]
        self._hub.stir_room(room_nid)

    def _wait(self, room_nid: int, board: _Board) -> None:
        if board.timer is not None:
            board.timer.cancel()
        delay = max(0.0, min(board.ends.values()) - self._timers.seconds())
        board.timer = self._timers.callLater(delay, self._expire, room_nid, board)

    def _expire(self, room_nid: int, board: _Board) -> None:
        """The time of the first has come. Most have said again that they type, so often there is only a new wait."""
        board.timer = None
        # A millisecond early is in time: floating point may say that a timer came just before its hour.
        now = self._timers.seconds() + 0.001
        gone = [user_id for user_id, end in board.ends.items() if end <= now]
        for user_id in gone:
            del board.ends[user_id]
        if board.ends:
            self._wait(room_nid, board)
        if gone:
            self._changed(room_nid, board)
        for user_id in gone:
            self._tell(room_nid, user_id, False)

    def stop_timers(self) -> None:
        """For shutdown: leave nothing in the reactor."""
        for board in self._rooms.values():
            if board.timer is not None:
                board.timer.cancel()
        self._rooms.clear()
