"""`POST /_matrix/client/v4/sync`: sliding sync as it was accepted, with everything in the body.

MSC4186: https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""

from __future__ import annotations

import msgspec
import orjson

from homeserver.client.sliding.shapes import (
    Count,
    ExtensionsShape,
    FiltersShape,
    Member,
    Presence,
    check_conn_id,
    check_range,
    check_rules,
    check_size,
    common_members,
    timeline_limit,
    unread_members,
    write_by_name,
    write_counts,
    write_list,
    write_object,
    write_told,
)
from homeserver.client.sliding.unstable import JSON
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.sync.sliding.asks import ListAsk, RoomConfig, SlidingAsk, StateRule
from homeserver.sync.sliding.engine import SlidingSync
from homeserver.sync.sliding.results import Answer, RoomResult


class Filters(FiltersShape, frozen=True):
    is_invited: bool | None = None


class Element(msgspec.Struct, frozen=True):
    """A pattern of state events; what is left out is any."""

    type: str | None = None
    state_key: str | None = None


class RequiredState(msgspec.Struct, frozen=True):
    include: list[Element] = []
    exclude: list[Element] = []
    lazy_members: bool = False

    @property
    def size(self) -> int:
        return len(self.include) + len(self.exclude)


class RoomShape(msgspec.Struct, frozen=True):
    timeline_limit: Count
    required_state: RequiredState

    def config(self) -> RoomConfig:
        include, exclude = (
            tuple(dict.fromkeys((one.type, one.state_key) for one in elements))
            for elements in (self.required_state.include, self.required_state.exclude)
        )
        rule = StateRule(include, exclude, self.required_state.lazy_members)
        return RoomConfig(timeline_limit(self.timeline_limit), (rule,))


class ListShape(RoomShape, frozen=True):
    range: tuple[Count, Count] | None = None
    filters: Filters | None = None

    def read(self, name: str) -> ListAsk:
        """Raises InvalidParam."""
        filters = self.filters or Filters()
        ranges = None if self.range is None else (check_range(f"lists.{name}.range", self.range),)
        return ListAsk(self.config(), filters.read(filters.is_invited), ranges)


class SlidingShape(msgspec.Struct, frozen=True):
    conn_id: str | None = None
    pos: str | None = None
    timeout: int = 0
    set_presence: Presence | None = None
    lists: dict[str, ListShape] | None = None
    room_subscriptions: dict[str, RoomShape] | None = None
    extensions: ExtensionsShape | None = None

    def read(self) -> SlidingAsk:
        """Raises InvalidParam."""
        lists, subscriptions = self.lists or {}, self.room_subscriptions or {}
        check_size("lists", lists)
        check_size("room_subscriptions", subscriptions)
        check_rules(sum(one.required_state.size for one in (*lists.values(), *subscriptions.values())))
        return SlidingAsk(
            conn_id=check_conn_id(self.conn_id or ""),
            pos=self.pos,
            timeout_ms=max(0, self.timeout),
            lists={name: one.read(name) for name, one in lists.items()},
            subscriptions={room_id: one.config() for room_id, one in subscriptions.items()},
            extensions=(self.extensions or ExtensionsShape()).read(),
        )


# It waits as a GET does, so it ends when its client hangs up.
@route("POST", "/_matrix/client/v4/sync", auth=GUEST, rate="sync", interruptible=True)
async def sync_v4(sliding: SlidingSync, presence: PresenceBoard, who: Requester, ask: SlidingShape) -> Reply:
    wanted = ask.read()
    presence.seen(who.user_id, ask.set_presence, who.device_id, wanted.timeout_ms)
    return Reply(200, write(await sliding.sync(who, wanted)), JSON)


def write(answer: Answer) -> bytes:
    return write_object(
        [
            (b"pos", orjson.dumps(answer.pos)),
            (b"lists", write_counts(answer.lists)),
            (b"rooms", write_by_name({room.room_id: _room(room) for room in answer.rooms})),
            (b"extensions", write_told(answer.told)),
        ]
    )


def _room(room: RoomResult) -> bytes:
    members: list[Member] = [(b"membership", orjson.dumps(room.membership)), *common_members(room)]
    if room.lists:
        members.append((b"lists", orjson.dumps(room.lists)))
    if room.unread is not None:
        members += unread_members(room.unread.main)  # without those of threads, as the proposal has it
    if room.expanded:
        members.append((b"expanded_timeline", b"true"))
    if room.stripped is not None:
        # Of a room that one was never in, what is shown of it says what it is called.
        members.append((b"stripped_state", write_list(room.stripped)))
        return write_object(members)
    if room.has_name:
        members.append((b"name", orjson.dumps(room.name)))
    if room.has_avatar:
        members.append((b"avatar", orjson.dumps(room.avatar)))
    gone = [orjson.dumps({"type": kind, "state_key": state_key}) for kind, state_key in room.gone]
    members.append((b"required_state", write_list([*room.state, *gone])))
    members.append((b"timeline_events", write_list(room.timeline)))
    return write_object(members)
