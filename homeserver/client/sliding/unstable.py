"""`POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`: sliding sync as today's clients ask for it.

COMPAT Element X (matrix-rust-sdk), matrix-js-sdk, Sable: they know only this one. `pos` and `timeout` are in the query,
ranges are a list, state is asked for with `*`, `$ME` and `$LAZY`.

MSC4186: https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import orjson

from homeserver.client.sliding.shapes import (
    MOST_RANGES,
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
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.errors import InvalidParam
from homeserver.http.route import GUEST, Reply, Requester, route
from homeserver.sync.sliding.asks import MEMBER, ListAsk, RoomConfig, SlidingAsk, StateRule
from homeserver.sync.sliding.engine import SlidingSync
from homeserver.sync.sliding.results import Answer, RoomResult

JSON = {"Content-Type": "application/json"}


class Filters(FiltersShape, frozen=True):
    is_invite: bool | None = None


class RoomShape(msgspec.Struct, frozen=True):
    required_state: Sequence[tuple[str, str]] = ()
    timeline_limit: Count = 10

    def config(self, user_id: str) -> RoomConfig:
        """What it means for a user."""
        lazy = (MEMBER, "$LAZY") in self.required_state
        named = {"*": None, "$ME": user_id}
        include = dict.fromkeys(
            (None if kind == "*" else kind, named.get(key, key))
            for kind, key in self.required_state
            if (kind, key) != (MEMBER, "$LAZY")
        )
        return RoomConfig(timeline_limit(self.timeline_limit), (StateRule(tuple(include), (), lazy),))


class ListShape(RoomShape, frozen=True):
    ranges: Annotated[list[tuple[Count, Count]], msgspec.Meta(max_length=MOST_RANGES)] | None = None
    filters: Filters | None = None

    def read(self, name: str, user_id: str) -> ListAsk:
        """Raises InvalidParam."""
        filters = self.filters or Filters()
        ranges = None
        if self.ranges is not None:
            ranges = tuple(check_range(f"lists.{name}.ranges", one) for one in self.ranges)
        return ListAsk(self.config(user_id), filters.read(filters.is_invite), ranges)


class SlidingShape(msgspec.Struct, frozen=True):
    pos: str | None = None
    timeout: int = 0
    set_presence: Presence | None = None
    conn_id: str | None = None
    txn_id: str | None = None
    lists: dict[str, ListShape] | None = None
    room_subscriptions: dict[str, RoomShape] | None = None
    extensions: ExtensionsShape | None = None

    def read(self, user_id: str) -> SlidingAsk:
        """Raises InvalidParam."""
        lists, subscriptions = self.lists or {}, self.room_subscriptions or {}
        check_size("lists", lists)
        check_size("room_subscriptions", subscriptions)
        check_rules(sum(len(one.required_state) for one in (*lists.values(), *subscriptions.values())))
        if self.txn_id is not None and len(self.txn_id) > 255:
            raise InvalidParam("'txn_id' has more than 255 characters")
        return SlidingAsk(
            conn_id=check_conn_id(self.conn_id or ""),
            pos=self.pos,
            timeout_ms=max(0, self.timeout),
            lists={name: one.read(name, user_id) for name, one in lists.items()},
            subscriptions={room_id: one.config(user_id) for room_id, one in subscriptions.items()},
            extensions=(self.extensions or ExtensionsShape()).read(),
        )


# It waits as a GET does, so it ends when its client hangs up.
@route(
    "POST",
    "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    auth=GUEST,
    rate="sync",
    query=("pos", "timeout", "set_presence"),
    interruptible=True,
)
async def sliding_sync(sliding: SlidingSync, presence: PresenceBoard, who: Requester, ask: SlidingShape) -> Reply:
    wanted = ask.read(who.user_id)
    presence.seen(who.user_id, ask.set_presence, who.device_id, wanted.timeout_ms)
    return Reply(200, write(await sliding.sync(who, wanted), ask.txn_id), JSON)


def write(answer: Answer, txn_id: str | None = None) -> bytes:
    members: list[Member] = [(b"pos", orjson.dumps(answer.pos))]
    if txn_id is not None:
        members.append((b"txn_id", orjson.dumps(txn_id)))
    rooms: Mapping[str, bytes] = {room.room_id: _room(room) for room in answer.rooms}
    members += [
        (b"lists", write_counts(answer.lists)),
        (b"rooms", write_by_name(rooms)),
        (b"extensions", write_told(answer.told)),
    ]
    return write_object(members)


def _room(room: RoomResult) -> bytes:
    members = common_members(room)
    if room.unread is not None:
        members += unread_members(room.unread.total)
    if room.expanded:
        members.append((b"unstable_expanded_timeline", b"true"))
    # Here a name that was taken away cannot be told from one that is as it was, but by the state.
    if room.name is not None:
        members.append((b"name", orjson.dumps(room.name)))
    if room.avatar is not None:
        members.append((b"avatar", orjson.dumps(room.avatar)))
    if room.stripped is not None and room.membership in ("invite", "knock"):
        members.append((b"invite_state", write_list(room.stripped)))
    else:
        members.append((b"required_state", write_list(room.state)))
        members.append((b"timeline", write_list(room.timeline)))
    return write_object(members)
