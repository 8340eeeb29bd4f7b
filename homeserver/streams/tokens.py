"""Stream tokens: opaque to clients, versioned, and cheap to make and read.

    s1_<position>_<serial>[_<inbox>]  a place in the whole stream: `next_batch` and `since` of /sync
    t1_<position>[_<held>.<held>…]    a place in one room's timeline: `prev_batch`, `from` and `to` of /messages

`position` orders everything durable (events, receipts, account data …). With several writers it will become a map
writer → sequence; the version stands in front so that old tokens can still be told from new ones. `serial` orders
what lives in memory only (typing, presence); it starts at the time of the boot in milliseconds, so one of an earlier
run is simply old. `inbox` is there while more messages wait for the device than went into one answer. `held` are
positions that lie in front of the place all the same: docs/decisions/0015-first-looks-by-the-graph.md.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from homeserver.errors import InvalidParam


class StreamToken(msgspec.Struct, frozen=True, gc=False):
    """Everything up to `position` and `serial` has been seen, but of the messages for the device only those up to
    `behind`, if that is not 0.
    """

    position: int
    serial: int
    behind: int = 0

    @property
    def inbox(self) -> int:
        """Up to where messages for the device have been seen."""
        return self.behind or self.position

    def __str__(self) -> str:
        text = f"s1_{self.position}_{self.serial}"
        return f"{text}_{self.behind}" if self.behind else text


START = StreamToken(0, 0)

MOST_HELD = 8
"""Events that a timeline may hold back though they came later than its first one."""


class RoomToken(msgspec.Struct, frozen=True, gc=False):
    """A place in a room's timeline: in front of it lies everything up to `position`, and what is `held` back besides.

    `held`: later positions, ascending, at most MOST_HELD. Backfilled events have negative ones.
    """

    position: int
    held: tuple[int, ...] = ()

    def before(self, position: int) -> RoomToken:
        """The place in front of an event that lies in front of this one."""
        return RoomToken(min(self.position, position - 1), tuple(one for one in self.held if one < position))

    def behind(self, position: int) -> RoomToken:
        """The place behind an event that lies behind this one."""
        return RoomToken(position, tuple(one for one in self.held if one > position))

    def __str__(self) -> str:
        text = f"t1_{self.position}"
        return f"{text}_{'.'.join(map(str, self.held))}" if self.held else text


def parse_stream_token(text: str) -> StreamToken:
    """Read a `since`. Raises InvalidParam for what no server of this kind wrote."""
    version, _, rest = text.partition("_")
    parts = rest.split("_")
    if version == "s1" and len(parts) in (2, 3) and all(map(_is_number, parts)):
        return StreamToken(*map(int, parts))
    raise InvalidParam("`since` is not a token of this server")


def parse_room_token(text: str, name: str = "from") -> RoomToken:
    """Read a `from` or `to`: a `prev_batch`, a whole stream token, or the `pos` of a sliding sync.

    Raises InvalidParam naming the parameter.
    """
    version, _, rest = text.partition("_")
    place, comma, later = rest.partition("_")
    if version in ("s1", "ss1"):
        comma = later = ""
    held = later.split(".") if comma else []
    if version in ("t1", "s1", "ss1") and len(held) <= MOST_HELD and all(map(_is_place, (place, *held))):
        token = RoomToken(int(place), tuple(map(int, held)))
        if all(one < other for one, other in pairwise((token.position, *token.held))):
            return token
    raise InvalidParam(f"`{name}` is not a token of this server")


def _is_place(text: str) -> bool:
    return _is_number(text.removeprefix("-"))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
