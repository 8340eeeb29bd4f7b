"""Stream tokens: opaque to clients, versioned, and cheap to make and read.

    s1_<position>_<serial>    a place in the whole stream: `next_batch` and `since` of /sync
    t1_<position>             a place in one room's timeline: `prev_batch`, `from` and `to` of /messages

`position` orders everything durable (events, receipts, account data …). With several writers it will become a map
writer → sequence; the version stands in front so that old tokens can still be told from new ones. `serial` orders
what lives in memory only (typing, presence); it starts at the time of the boot in milliseconds, so one of an earlier
run is simply old.
"""

from __future__ import annotations

import msgspec

from homeserver.errors import InvalidParam


class StreamToken(msgspec.Struct, frozen=True, gc=False):
    """Everything up to `position` and `serial` has been seen."""

    position: int
    serial: int

    def __str__(self) -> str:
        return f"s1_{self.position}_{self.serial}"


START = StreamToken(0, 0)


def parse_stream_token(text: str) -> StreamToken:
    """Read a `since`. Raises InvalidParam for what no server of this kind wrote."""
    version, _, rest = text.partition("_")
    position, _, serial = rest.partition("_")
    if version == "s1" and _is_number(position) and _is_number(serial):
        return StreamToken(int(position), int(serial))
    raise InvalidParam("`since` is not a token of this server")


def room_token(position: int) -> str:
    """The token between the events up to `position` and those after it. Backfilled places are negative."""
    return f"t1_{position}"


def parse_room_token(text: str, name: str = "from") -> int:
    """Read a `from` or `to`, a `prev_batch` or a whole stream token. Raises InvalidParam naming the parameter."""
    version, _, rest = text.partition("_")
    if version == "s1":
        rest = rest.partition("_")[0]
    elif version != "t1":
        raise InvalidParam(f"`{name}` is not a token of this server")
    if not _is_number(rest.removeprefix("-")):
        raise InvalidParam(f"`{name}` is not a token of this server")
    return int(rest)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
