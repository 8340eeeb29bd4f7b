"""What a client asks for in sliding sync, understood: the same whichever way it was written (`homeserver.client`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from federation.room.event import StateKey
from homeserver.rooms.live import LiveRoom

MEMBER = "m.room.member"

Pattern = tuple[str | None, str | None]
"""A type and a state key of state events; None stands for any."""
Range = tuple[int, int]
"""First and last place in a list, counted from 0, both included."""


class StateRule(msgspec.Struct, frozen=True):
    """Which state a client wants of a room."""

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    lazy: bool = False
    """Of the members those whom the timeline shows. A pattern for any type is not one for members then."""

    def admits(self, key: StateKey) -> bool:
        lazy = self.lazy and key[0] == MEMBER
        wanted = any(_fits(one, key) and not (lazy and one[0] is None) for one in self.include)
        return wanted and not any(_fits(one, key) for one in self.exclude)


class RoomConfig(msgspec.Struct, frozen=True):
    """What a client wants of a room: that which any of the rules admits."""

    limit: int
    """Events in the timeline."""
    rules: tuple[StateRule, ...]

    @property
    def lazy(self) -> bool:
        return any(rule.lazy for rule in self.rules)

    def admits(self, key: StateKey) -> bool:
        return any(rule.admits(key) for rule in self.rules)

    def select(self, room: LiveRoom) -> list[StateKey]:
        """The keys of the room's state that are wanted. Goes through the members only where all of them are."""
        found: dict[StateKey, None] = {}
        state = room.visible.state
        for rule in self.rules:
            for kind, state_key in rule.include:
                keys: Iterable[StateKey]
                if kind is not None and state_key is not None:
                    keys = [(kind, state_key)] if (kind, state_key) in state else []
                elif kind == MEMBER or (kind is None and not rule.lazy):
                    keys = state
                else:
                    keys = room.frame
                found.update((key, None) for key in keys if rule.admits(key))
        return list(found)


def combine(configs: Iterable[RoomConfig]) -> RoomConfig:
    """What satisfies all of them. There is one at least."""
    first, *others = configs
    if not others:
        return first
    rules = dict.fromkeys(rule for config in (first, *others) for rule in config.rules)
    return RoomConfig(max(config.limit for config in (first, *others)), tuple(rules))


class Filters(msgspec.Struct, frozen=True):
    """Which rooms a list holds."""

    is_dm: bool | None = None
    is_encrypted: bool | None = None
    is_invited: bool | None = None
    room_types: frozenset[str | None] | None = None
    not_room_types: frozenset[str | None] = frozenset()
    tags: frozenset[str] | None = None
    not_tags: frozenset[str] = frozenset()
    spaces: frozenset[str] | None = None
    """Rooms that are children of any of these, which the user must be in."""

    @property
    def by_tags(self) -> bool:
        return self.tags is not None or bool(self.not_tags)


class ListAsk(msgspec.Struct, frozen=True):
    """One list."""

    config: RoomConfig
    filters: Filters
    ranges: tuple[Range, ...] | None
    """None: all of it."""


class Scope(msgspec.Struct, frozen=True):
    """The rooms that an extension is to speak of; None: of all that are looked at."""

    lists: frozenset[str] | None = None
    rooms: frozenset[str] | None = None


class ToDeviceAsk(msgspec.Struct, frozen=True):
    since: int
    """Messages up to this position have arrived. 0: none."""


class StickyAsk(msgspec.Struct, frozen=True):
    since: int
    """What sticks has arrived up to this position. 0: nothing of it."""
    limit: int
    """Events in one answer, but for those of rooms that are new to the client."""


class ProfilesAsk(msgspec.Struct, frozen=True):
    fields: tuple[str, ...] | None
    """Which fields of profiles; None: any."""

    @property
    def name(self) -> str:
        """Who asks for other fields than before begins anew."""
        return " ".join(("profiles", *sorted(("*",) if self.fields is None else self.fields)))


class Extensions(msgspec.Struct, frozen=True):
    """What else is asked for; None: not."""

    to_device: ToDeviceAsk | None = None
    e2ee: bool = False
    account_data: Scope | None = None
    receipts: Scope | None = None
    typing: Scope | None = None
    threads: int | None = None
    """Changes of what threads the reader follows: how many at most."""
    sticky: StickyAsk | None = None
    profiles: ProfilesAsk | None = None

    @property
    def names(self) -> frozenset[str]:
        """Those that go on from what was told before."""
        names = [name for name in ("account_data", "receipts", "typing", "threads") if getattr(self, name) is not None]
        return frozenset(names if self.profiles is None else [*names, self.profiles.name])


class SlidingAsk(msgspec.Struct, frozen=True):
    """One request."""

    conn_id: str
    pos: str | None
    timeout_ms: int
    lists: Mapping[str, ListAsk]
    subscriptions: Mapping[str, RoomConfig]
    extensions: Extensions


def _fits(pattern: Pattern, key: StateKey) -> bool:
    return pattern[0] in (None, key[0]) and pattern[1] in (None, key[1])
