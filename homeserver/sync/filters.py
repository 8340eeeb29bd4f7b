"""Filters: what a client wants to see of its rooms, compiled so that asking costs a dict look-up.

`parse_filter` takes the JSON object of a filter and gives a `Filter` or raises `BadJson` naming the field. A compiled
filter is immutable from outside and shared by all syncs that use it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#filtering
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, TypeVar

import msgspec
import orjson

from federation.room.identifiers import InvalidIdentifier, parse_room_id, parse_user_id
from homeserver.errors import BadJson
from homeserver.sync.globs import Names
from homeserver.userdata.profiles import keys_among

DEFAULT_LIMIT = 10
"""Events in a room's timeline where the client does not say how many."""
MAX_LIMIT = 100
"""And at most: a first sync of a hundred rooms is made of this many events each."""
MAX_CACHED_TEXT = 4096
"""Inline filters longer than this (in characters) are parsed each time, so that nobody can fill the cache."""

PROFILE_FIELDS = "org.matrix.msc4429.profile_fields"

FieldPath = tuple[str, ...]
Shape = TypeVar("Shape")


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which events a client wants in one place, for events in rooms and others alike."""

    types: Names
    senders: Names
    rooms: Names
    contains_url: bool | None = None
    """True: only events with a `url` in their content; False: only events without."""
    limit: int = DEFAULT_LIMIT
    """Never more than `MAX_LIMIT`. 0 is what some clients say who want no timeline."""
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    related_by_senders: tuple[str, ...] | None = None
    """With `related_by_rel_types`: only events that have such relations to them. Not judged by `admits`."""
    related_by_rel_types: tuple[str, ...] | None = None
    is_open: bool = True
    """Nothing is filtered by type, sender or URL: `admits` need not be asked. (Rooms are asked for apart.)"""

    def admits(self, event_type: str, sender: str, content_has_url: bool | None = None) -> bool:
        """Whether an event of that type and sender is wanted.

        `content_has_url` need only be known where `contains_url` is not None; None counts as "has none".
        """
        if self.is_open:
            return True
        if self.contains_url is not None and bool(content_has_url) is not self.contains_url:
            return False
        return self.types.admit(event_type) and self.senders.admit(sender)

    def admits_room(self, room_id: str) -> bool:
        """Whether events of that room are wanted here at all."""
        return self.rooms.admit(room_id)


class RoomFilter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a client wants of its rooms. `rooms` comes before the filters of the sections."""

    rooms: Names
    ephemeral: EventFilter
    state: EventFilter
    timeline: EventFilter
    account_data: EventFilter
    include_leave: bool = False

    def admits_room(self, room_id: str) -> bool:
        return self.rooms.admit(room_id)


class Filter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One whole filter of /sync."""

    room: RoomFilter
    presence: EventFilter
    account_data: EventFilter
    event_fields: tuple[FieldPath, ...] | None = None
    """None: whole events. See `keep_fields`."""
    profile_fields: tuple[str, ...] = ()
    """Of whose changes the client wants to be told (`homeserver.sync.profiles`)."""
    event_format: Literal["client", "federation"] = "client"

    @property
    def lazy_load_members(self) -> bool:
        return self.room.state.lazy_load_members

    @property
    def unread_thread_notifications(self) -> bool:
        return self.room.timeline.unread_thread_notifications


def parse_filter(json: object) -> Filter:
    """Check and compile a filter. Raises `BadJson` naming the field."""
    shape = _convert(json, _FilterShape)
    room = shape.room or _RoomShape()
    rooms = _rooms(room.rooms, room.not_rooms, "room")
    return Filter(
        room=RoomFilter(
            rooms=rooms,
            ephemeral=_compile(room.ephemeral, "room.ephemeral"),
            state=_compile(room.state, "room.state"),
            timeline=_compile(room.timeline, "room.timeline"),
            account_data=_compile(room.account_data, "room.account_data"),
            include_leave=bool(room.include_leave),
        ),
        presence=_compile(shape.presence, "presence"),
        account_data=_compile(shape.account_data, "account_data"),
        event_fields=None if shape.event_fields is None else tuple(map(parse_field_path, shape.event_fields)),
        event_format=shape.event_format or "client",
        profile_fields=keys_among((shape.profile_fields and shape.profile_fields.ids) or ()),
    )


def parse_event_filter(json: object) -> EventFilter:
    """Check and compile the `filter` of /messages, /context and /search. Raises `BadJson` naming the field."""
    return _compile(_convert(json, _EventFilterShape), "filter")


def parse_inline_filter(text: str) -> Filter:
    """A filter as JSON text, as it stands in the query string of /sync. The same text is parsed once.

    Raises `BadJson`, with `M_NOT_JSON` where it is no JSON.
    """
    return _parse_text(text) if len(text) > MAX_CACHED_TEXT else _parse_text_once(text)


def parse_inline_event_filter(text: str) -> EventFilter:
    """As `parse_inline_filter`, for the `filter` of /messages and /context."""
    return _parse_event_text(text) if len(text) > MAX_CACHED_TEXT else _parse_event_text_once(text)


def parse_field_path(text: str) -> FieldPath:
    r"""Split a path such as `content.m\.relates_to.rel_type` at its dots; `\.` and `\\` stand for themselves.

    Spec: https://spec.matrix.org/v1.19/appendices/#dot-separated-property-paths
    """
    parts: list[str] = []
    part = ""
    position = 0
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        if character == "\\" and following in (".", "\\"):
            part += following
            position += 1
        elif character == ".":
            parts.append(part)
            part = ""
        else:
            part += character
        position += 1
    return (*parts, part)


def keep_fields(event: Mapping[str, Any], fields: tuple[FieldPath, ...]) -> dict[str, Any]:
    """A copy of an event with only the named fields; what an event does not have is left out."""
    kept: dict[str, Any] = {}
    for path in fields:
        value: Any = event
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                break
            value = value[name]
        else:
            _put(kept, path, value)
    return kept


def _put(target: dict[str, Any], path: FieldPath, value: Any) -> None:
    for name in path[:-1]:
        inner = target.get(name)
        # A longer path may run through a value that a shorter one has put there: never change what is the event's.
        target[name] = target = {} if inner is None else dict(inner)
    target[path[-1]] = value


# -- what stands in the JSON -------------------------------------------------------------------------------------


class _EventFilterShape(msgspec.Struct, gc=False):
    limit: int | None = None
    types: list[str] | None = None
    not_types: list[str] | None = None
    senders: list[str] | None = None
    not_senders: list[str] | None = None
    rooms: list[str] | None = None
    not_rooms: list[str] | None = None
    contains_url: bool | None = None
    lazy_load_members: bool | None = None
    include_redundant_members: bool | None = None
    unread_thread_notifications: bool | None = None
    related_by_senders: list[str] | None = None
    related_by_rel_types: list[str] | None = None


class _RoomShape(msgspec.Struct, gc=False):
    rooms: list[str] | None = None
    not_rooms: list[str] | None = None
    ephemeral: _EventFilterShape | None = None
    state: _EventFilterShape | None = None
    timeline: _EventFilterShape | None = None
    account_data: _EventFilterShape | None = None
    include_leave: bool | None = None


class _ProfileFieldsShape(msgspec.Struct, gc=False):
    ids: list[str] | None = None


class _FilterShape(msgspec.Struct, gc=False, rename={"profile_fields": PROFILE_FIELDS}):
    room: _RoomShape | None = None
    presence: _EventFilterShape | None = None
    account_data: _EventFilterShape | None = None
    event_fields: list[str] | None = None
    event_format: Literal["client", "federation"] | None = None
    profile_fields: _ProfileFieldsShape | None = None


def _compile(shape: _EventFilterShape | None, where: str) -> EventFilter:
    if shape is None:
        return _OPEN
    limit = DEFAULT_LIMIT if shape.limit is None else shape.limit
    if limit < 0:
        raise BadJson(f"`{where}.limit` must not be negative")
    for name, users in (
        ("senders", shape.senders),
        ("not_senders", shape.not_senders),
        ("related_by_senders", shape.related_by_senders),
    ):
        for user_id in users or ():
            _check(parse_user_id, user_id, f"{where}.{name}")
    types = Names.patterns(shape.types, shape.not_types)
    senders = Names.exact(shape.senders, shape.not_senders)
    return EventFilter(
        types=types,
        senders=senders,
        rooms=_rooms(shape.rooms, shape.not_rooms, where),
        contains_url=shape.contains_url,
        limit=min(limit, MAX_LIMIT),
        lazy_load_members=bool(shape.lazy_load_members),
        include_redundant_members=bool(shape.include_redundant_members),
        unread_thread_notifications=bool(shape.unread_thread_notifications),
        related_by_senders=None if shape.related_by_senders is None else tuple(shape.related_by_senders),
        related_by_rel_types=None if shape.related_by_rel_types is None else tuple(shape.related_by_rel_types),
        is_open=types.is_open and senders.is_open and shape.contains_url is None,
    )


def _rooms(rooms: list[str] | None, not_rooms: list[str] | None, where: str) -> Names:
    for name, room_ids in (("rooms", rooms), ("not_rooms", not_rooms)):
        for room_id in room_ids or ():
            _check(parse_room_id, room_id, f"{where}.{name}")
    return Names.exact(rooms, not_rooms)


def _check(parse: Any, text: str, where: str) -> None:
    try:
        parse(text)
    except InvalidIdentifier as error:
        raise BadJson(f"`{where}`: {error}") from None


def _convert(json: object, shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(json, shape)
    except msgspec.ValidationError as error:
        raise BadJson(str(error).replace("`$.", "`")) from None


def _loads(text: str) -> object:
    try:
        return orjson.loads(text)
    except (ValueError, RecursionError):
        raise BadJson("`filter` is not JSON", "M_NOT_JSON") from None


def _parse_text(text: str) -> Filter:
    return parse_filter(_loads(text))


def _parse_event_text(text: str) -> EventFilter:
    return parse_event_filter(_loads(text))


_parse_text_once = lru_cache(maxsize=512)(_parse_text)
_parse_event_text_once = lru_cache(maxsize=512)(_parse_event_text)

_OPEN = EventFilter(types=Names.ALL, senders=Names.ALL, rooms=Names.ALL)

NO_FILTER = parse_filter({})
"""Lets everything through, with the default limit."""

NO_EVENT_FILTER = _OPEN
