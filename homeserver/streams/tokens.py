"""Stream tokens: opaque to clients, versioned, and cheap to make and read.

    s1_<position>_<serial>[_<inbox>]  a place in the whole stream: `next_batch` and `since` of /sync
    t1_<position>                     a place in one room's timeline: `prev_batch`, `from` and `to` of /messages

`position` orders everything durable (events, receipts, account data …). With several writers it will become a map
writer → sequence; the version stands in front so that old tokens can still be told from new ones. `serial` orders
what lives in memory only (typing, presence); it starts at the time of the boot in milliseconds, so one of an earlier
run is simply old. `inbox` is there while more messages wait for the device than went into one answer.
"""

from __future__ import annotations

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


def parse_stream_token(text: str) -> StreamToken:
    """Read a `since`. Raises InvalidParam for what no server of this kind wrote."""
    version, _, rest = text.partition("_")
    parts = rest.split("_")
    if version == "s1" and len(parts) in (2, 3) and all(map(_is_number, parts)):
        return StreamToken(*map(int, parts))
    raise InvalidParam("`since` is not a token of this server")


def room_token(position: int) -> str:
    """The token between the events up to `position` and those after it. Backfilled places are negative."""
    return f"t1_{position}"


def parse_room_token(text: str, name: str = "from") -> int:
    """Read a `from` or `to`: a `prev_batch`, a whole stream token, or the `pos` of a sliding sync.

    Raises InvalidParam naming the parameter.
    """
    version, _, rest = text.partition("_")
    if version in ("s1", "ss1"):
        rest = rest.partition("_")[0]
    elif version != "t1":
        raise InvalidParam(f"`{name}` is not a token of this server")
    if not _is_number(rest.removeprefix("-")):
        raise InvalidParam(f"`{name}` is not a token of this server")
    return int(rest)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
