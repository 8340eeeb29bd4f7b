"""What the two ways of writing sliding sync have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import orjson

from homeserver.client.thread_subscriptions import DEFAULT_LIMIT, MOST_CHANGES, told_changes
from homeserver.errors import InvalidParam
from homeserver.push.ledger import Count as Tally
from homeserver.sync.filters import MAX_LIMIT
from homeserver.sync.sliding.asks import Extensions, Filters, ProfilesAsk, Scope, StickyAsk, ToDeviceAsk
from homeserver.sync.sliding.results import Hero, RoomResult, Told
from homeserver.userdata.profiles import keys_among

MOST_LISTS = 100
"""And as many subscriptions."""
MOST_RULES = 1000
"""Patterns of state in one request."""
MOST_RANGES = 20
"""Of one list."""
MOST_NAME = 255
"""Characters of the name of a list or a connection."""

THREADS = "io.element.msc4308.thread_subscriptions"
MOST_STICKY = 100
"""Sticky events in one answer."""
STICKY = "org.matrix.msc4354.sticky_events"
PROFILES = "org.matrix.msc4262.profiles"

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Presence = Literal["online", "offline", "unavailable"]
Member = tuple[bytes, bytes]
"""A name (as it is, without quotes) and JSON."""


class ScopeShape(msgspec.Struct, frozen=True):
    enabled: bool = False
    lists: list[str] | None = None
    rooms: list[str] | None = None

    def read(self) -> Scope | None:
        if not self.enabled:
            return None
        return Scope(
            None if self.lists is None else frozenset(self.lists),
            None if self.rooms is None else frozenset(self.rooms),
        )


class ToDeviceShape(msgspec.Struct, frozen=True):
    enabled: bool = False
    since: str | None = None

    def read(self) -> ToDeviceAsk | None:
        if not self.enabled:
            return None
        return ToDeviceAsk(read_since("to_device", self.since))


class StickyShape(msgspec.Struct, frozen=True):
    enabled: bool = False
    since: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] = MOST_STICKY

    def read(self) -> StickyAsk | None:
        if not self.enabled:
            return None
        return StickyAsk(read_since(STICKY, self.since), min(self.limit, MOST_STICKY))


def read_since(extension: str, given: str | None) -> int:
    """Raises InvalidParam."""
    since = given or "0"
    if not (since.isascii() and since.isdigit() and len(since) <= 18):
        raise InvalidParam(f"'extensions.{extension}.since' is not a token of this server")
    return int(since)


class E2eeShape(msgspec.Struct, frozen=True):
    enabled: bool = False


class ThreadsShape(msgspec.Struct, frozen=True):
    enabled: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] = DEFAULT_LIMIT

    def read(self) -> int | None:
        return min(self.limit, MOST_CHANGES) if self.enabled else None


class ProfilesShape(msgspec.Struct, frozen=True):
    enabled: bool = False
    fields: list[str] | None = None

    def read(self) -> ProfilesAsk | None:
        if not self.enabled:
            return None
        return ProfilesAsk(None if self.fields is None else keys_among(self.fields))


class ExtensionsShape(msgspec.Struct, frozen=True):
    to_device: ToDeviceShape | None = None
    e2ee: E2eeShape | None = None
    account_data: ScopeShape | None = None
    receipts: ScopeShape | None = None
    typing: ScopeShape | None = None
    threads: ThreadsShape | None = msgspec.field(default=None, name=THREADS)
    sticky: StickyShape | None = msgspec.field(name=STICKY, default=None)
    profiles: ProfilesShape | None = msgspec.field(name=PROFILES, default=None)

    def read(self) -> Extensions:
        """Raises InvalidParam."""
        return Extensions(
            None if self.to_device is None else self.to_device.read(),
            self.e2ee is not None and self.e2ee.enabled,
            None if self.account_data is None else self.account_data.read(),
            None if self.receipts is None else self.receipts.read(),
            None if self.typing is None else self.typing.read(),
            None if self.threads is None else self.threads.read(),
            None if self.sticky is None else self.sticky.read(),
            None if self.profiles is None else self.profiles.read(),
        )


class FiltersShape(msgspec.Struct, frozen=True):
    """What filters have in both ways of writing."""

    is_dm: bool | None = None
    spaces: list[str] | None = None
    is_encrypted: bool | None = None
    room_types: list[str | None] | None = None
    not_room_types: list[str | None] | None = None
    tags: list[str] | None = None
    not_tags: list[str] | None = None

    def read(self, is_invited: bool | None) -> Filters:
        return Filters(
            is_dm=self.is_dm,
            is_encrypted=self.is_encrypted,
            is_invited=is_invited,
            room_types=None if self.room_types is None else frozenset(self.room_types),
            not_room_types=frozenset(self.not_room_types or ()),
            tags=None if self.tags is None else frozenset(self.tags),
            not_tags=frozenset(self.not_tags or ()),
            spaces=None if self.spaces is None else frozenset(self.spaces),
        )


def timeline_limit(given: int) -> int:
    return min(given, MAX_LIMIT)


def check_size(what: str, given: Mapping[str, object]) -> None:
    """Raises InvalidParam where there are too many, or one has too long a name."""
    if len(given) > MOST_LISTS:
        raise InvalidParam(f"'{what}' has more than {MOST_LISTS} members")
    if any(len(name) > MOST_NAME for name in given):
        raise InvalidParam(f"'{what}' has a key of more than {MOST_NAME} characters")


def check_conn_id(conn_id: str) -> str:
    """Raises InvalidParam."""
    if len(conn_id) > MOST_NAME:
        raise InvalidParam(f"'conn_id' has more than {MOST_NAME} characters")
    return conn_id


def check_range(where: str, given: tuple[int, int]) -> tuple[int, int]:
    """Raises InvalidParam."""
    if given[0] > given[1]:
        raise InvalidParam(f"'{where}' ends before it begins")
    return given


def check_rules(number: int) -> None:
    """Raises InvalidParam."""
    if number > MOST_RULES:
        raise InvalidParam(f"'required_state' has more than {MOST_RULES} entries in all")


# -- writing ---------------------------------------------------------------------------------------------------


def write_object(members: Iterable[Member]) -> bytes:
    return b"{%b}" % b",".join([b'"%b":%b' % member for member in members])


def write_by_name(given: Mapping[str, bytes]) -> bytes:
    """An object whose members' names come from outside."""
    return b"{%b}" % b",".join([b"%b:%b" % (orjson.dumps(name), value) for name, value in given.items()])


def write_list(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def write_heroes(heroes: Sequence[Hero]) -> bytes:
    return msgspec.json.encode(heroes)


def write_counts(lists: Mapping[str, int]) -> bytes:
    return write_by_name({name: b'{"count":%d}' % count for name, count in lists.items()})


def common_members(room: RoomResult) -> list[Member]:
    """What is written of a room in both ways."""
    members: list[Member] = []
    if room.initial:
        members.append((b"initial", b"true"))
    if room.is_dm is not None:
        members.append((b"is_dm", orjson.dumps(room.is_dm)))
    if room.heroes is not None:
        members.append((b"heroes", write_heroes(room.heroes)))
    if room.prev_batch is not None:
        members.append((b"prev_batch", orjson.dumps(room.prev_batch)))
        members.append((b"limited", orjson.dumps(room.limited)))
        members.append((b"num_live", b"%d" % room.num_live))
    if room.counts is not None:
        members.append((b"joined_count", b"%d" % room.counts[0]))
        members.append((b"invited_count", b"%d" % room.counts[1]))
    if room.bump_stamp is not None:
        members.append((b"bump_stamp", b"%d" % room.bump_stamp))
    return members


def unread_members(counts: Tally) -> list[Member]:
    return [
        (b"notification_count", b"%d" % counts.notifications),
        (b"highlight_count", b"%d" % counts.highlights),
    ]


def write_told(told: Told) -> bytes:
    """The extensions."""
    members: list[Member] = []
    if told.to_device is not None:
        next_batch, events = told.to_device
        letters = write_object([(b"next_batch", orjson.dumps(next_batch)), (b"events", write_list(events))])
        members.append((b"to_device", letters))
    if told.stock is not None:
        parts = [told.stock]
        if told.device_lists is not None:
            changed, left = told.device_lists
            parts.append(b'"device_lists":' + orjson.dumps({"changed": changed, "left": left}))
        members.append((b"e2ee", b"{%b}" % b",".join(parts)))
    if told.global_data is not None:
        rooms = {room_id: write_list(events) for room_id, events in told.room_data.items()}
        data = write_object([(b"global", write_list(told.global_data)), (b"rooms", write_by_name(rooms))])
        members.append((b"account_data", data))
    for name, by_room in ((b"receipts", told.receipts), (b"typing", told.typing)):
        if by_room is not None:
            members.append((name, write_object([(b"rooms", write_by_name(by_room))])))
    if told.threads is not None:
        members.append((THREADS.encode(), orjson.dumps(told_changes(told.threads, "prev_batch"))))
    if told.sticky is not None:
        next_batch, sticking = told.sticky
        sections = {room_id: b'{"events":%b}' % write_list(events) for room_id, events in sticking.items()}
        stuck = write_object([(b"next_batch", orjson.dumps(next_batch)), (b"rooms", write_by_name(sections))])
        members.append((STICKY.encode(), stuck))
    if told.profiles is not None:
        users = {user_id: None if fields is None else _profile(fields) for user_id, fields in told.profiles.items()}
        members.append((PROFILES.encode(), orjson.dumps({"users": users})))
    return write_object(members)


def _profile(fields: Mapping[str, bytes | None]) -> dict[str, object]:
    """What is new of somebody's profile."""
    updated = {key: orjson.Fragment(value) for key, value in fields.items() if value is not None}
    removed = [key for key, value in fields.items() if value is None]
    return {**({"updated": updated} if updated else {}), **({"removed": removed} if removed else {})}
