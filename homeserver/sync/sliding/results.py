"""What is told of a room in sliding sync, before it is written in one way or the other (`homeserver.client`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from federation.room.event import StateKey
from homeserver.push.ledger import Unread
from homeserver.relations.subscriptions import Page
from homeserver.sync.profiles import Updates
from homeserver.sync.sliding.connections import Sent


class Hero(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of those by whom a room without a name is known."""

    user_id: str
    displayname: str | None = None
    avatar_url: str | None = None


class RoomResult(msgspec.Struct, gc=False):
    """What a client is told of a room. None: as it was, or not to be told."""

    room_id: str
    membership: str
    sent: Sent | None
    """What it knows of the room then; None: it need not be remembered."""
    lists: Sequence[str] = ()
    """Those that show the room."""
    initial: bool = False
    expanded: bool = False
    name: str | None = None
    avatar: str | None = None
    has_name: bool = False
    """Whether `name` is told: None is that it has none."""
    has_avatar: bool = False
    heroes: Sequence[Hero] | None = None
    is_dm: bool | None = None
    state: Sequence[bytes] = ()
    gone: Sequence[StateKey] = ()
    """What is not in the state any more."""
    timeline: Sequence[bytes] = ()
    prev_batch: str | None = None
    limited: bool = False
    num_live: int = 0
    counts: tuple[int, int] | None = None
    """Who is joined, and who is invited."""
    unread: Unread | None = None
    bump_stamp: int | None = None
    stripped: Sequence[bytes] | None = None
    """What those who are invited or knock are shown."""
    shown: Sequence[int] = ()
    """The events of the timeline, by nid."""
    is_news: bool = True


class Told(msgspec.Struct):
    """What the extensions have to say."""

    to_device: tuple[str, Sequence[bytes]] | None = None
    """The next `since`, and messages."""
    stock: bytes | None = None
    """Members of an object: counts of keys."""
    device_lists: tuple[Sequence[str], Sequence[str]] | None = None
    """Whose devices changed, and whose need not be watched any more."""
    global_data: Sequence[bytes] | None = None
    room_data: Mapping[str, Sequence[bytes]] = {}
    receipts: Mapping[str, bytes] | None = None
    typing: Mapping[str, bytes] | None = None
    threads: Page | None = None
    """What threads the reader follows, and follows no more."""
    sticky: tuple[str, Mapping[str, Sequence[bytes]]] | None = None
    """The next `since`, and events by room."""
    profiles: Updates | None = None
    is_news: bool = False


class Answer(msgspec.Struct):
    """The whole of it."""

    lists: Mapping[str, int]
    """How many rooms each holds."""
    rooms: Sequence[RoomResult]
    told: Told
    pos: str = ""

    @property
    def is_news(self) -> bool:
        return bool(self.rooms) or self.told.is_news
