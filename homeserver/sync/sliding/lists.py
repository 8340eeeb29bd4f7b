"""Everybody's lists of rooms: read once in compact rows, and moved on by what their feeds say.

Spec of what counts where: MSC4186, https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from weakref import WeakKeyDictionary

import orjson
from attrs import define, field

from federation.flight import SingleFlight
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Feed, Hub, newer
from homeserver.sync.sliding.asks import Filters
from homeserver.sync.sliding.views import RoomList, Row, Window
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.invite_filter import InviteFilter, Wishes
from storage import room_lists as rows
from storage.account_data import AccountDatum
from storage.database import Database
from storage.ports import Cursor
from storage.room_lists import ListedRoom

DIRECT = "m.direct"
TAG = "m.tag"
ENCRYPTION = "m.room.encryption"
CHILD = "m.space.child"

BUMPING = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "org.matrix.msc3381.poll.start",
    "m.beacon_info",
    "org.matrix.msc3672.beacon_info",
)
"""What counts as somebody having said something: `bump_stamp`."""


@define(eq=False)
class RoomLists:
    """See the module's docstring."""

    _database: Database
    _rooms: Rooms
    _events: EventCache
    _account_data: AccountData
    _invite_filter: InviteFilter
    _hub: Hub
    _lists: WeakKeyDictionary[Feed, RoomList] = field(factory=WeakKeyDictionary, init=False)
    """They go with the feeds."""
    _flights: SingleFlight[int, None] = field(factory=SingleFlight, init=False)
    """One at a time reads a list or moves it on."""

    async def get(self, feed: Feed, position: int) -> RoomList:
        """The list, with everything in it up to a position, which is the hub's now or was it a moment ago."""
        wishes = await self._invite_filter.of(feed.user_id)
        while True:
            found = self._lists.get(feed)
            if found is None or not found.is_read:
                await self._flights.do(id(feed), lambda: self._read(feed, position))
            elif found.is_stale(position, wishes):
                await self._flights.do(id(feed), lambda found=found: self._catch_up(found, feed, position, wishes))  # type: ignore[misc]
            else:
                return found

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        """Somebody's account data changed (a listener of `AccountData`)."""
        feed = self._hub.feed(user_id)
        found = None if feed is None else self._lists.get(feed)
        if found is None:
            return
        if datum.type == DIRECT and datum.room_nid == GLOBAL:
            found.stale_directs = datum.position
        elif datum.type == TAG:
            found.stale_tags = datum.position

    async def window(self, found: RoomList, filters: Filters, ranges: Sequence[tuple[int, int]] | None) -> Window:
        """What a list shows of the rooms. The list is as of its position, or a moment newer."""
        if filters.by_tags:
            await self._read_tags(found)
        if filters.is_encrypted is not None and not found.knows_encryption:
            encrypted = await self._database.run(rows.with_state, ENCRYPTION, list(found.rows))
            for row in found.rows.values():
                row.is_encrypted = row.nid in encrypted
            found.knows_encryption = True
        allowed = None if filters.spaces is None else await self._children(found, filters.spaces)
        return Window(found.view(filters, allowed), ranges)

    async def bumps(self, wanted: Sequence[Row]) -> None:
        """Find out when something was last said in these rooms (`Row.bumped`)."""
        missing = [row for row in wanted if row.bumped is None]
        if missing:
            nids = [row.nid for row in missing]
            found = await self._database.run(rows.newest_of_types, BUMPING, nids)
            for row in missing:
                row.bumped = found.get(row.nid, row.moved)

    # ----------------------------------------------------------------------------------------------------------

    async def _read(self, feed: Feed, position: int) -> None:
        wishes = await self._invite_filter.of(feed.user_id)
        found = self._lists[feed] = RoomList(feed.user_id, position, {}, {}, wishes)
        listed, kicked = await self._database.run(_read, feed.user_id, None)
        for one in listed:
            self._put(found, one, kicked)
        await self._read_inviters(found, list(found.rows.values()))
        found.stale_directs = 0
        self._apply_directs(found, await self._account_data.get(feed.user_id, GLOBAL, DIRECT), 0)
        found.sort()
        found.is_read = True

    async def _catch_up(self, found: RoomList, feed: Feed, upto: int, wishes: Wishes) -> None:
        since = found.position
        if found.stale_directs:
            position, found.stale_directs = found.stale_directs, 0
            content = await self._account_data.get(feed.user_id, GLOBAL, DIRECT)
            self._apply_directs(found, content, position)
        if found.stale_tags and found.knows_tags:
            found.knows_tags = False
            await self._read_tags(found)
        if wishes != found.wishes:
            found.wishes = wishes
            for row in found.rows.values():
                if row.membership == "invite":
                    self._judge(found, row)
                    found.touch(row, max(since, upto))
                    found.changed(row)
        if since >= upto:
            return
        moved = newer(feed.moved, since)
        changed = newer(feed.changed, since)
        before = {nid: found.rows[nid].active for nid in (*moved, *changed) if nid in found.rows}
        cold = [nid for nid in changed if (live := self._rooms.peek_nid(nid)) is None or live.window_floor > since]
        if moved or cold:
            listed, kicked = await self._database.run(_read, feed.user_id, list({*moved, *cold}))
            fresh = [put for one in listed if (put := self._put(found, one, kicked)) is not None]
            await self._read_inviters(found, fresh)
            if moved and found.knows_tags:
                tags = await self._database.run(rows.data_of_type, feed.user_id, TAG)
                for row in fresh:
                    row.tags = _tags_in(tags.get(row.nid))
        # From here on without waiting, in the order of the stream.
        news: list[tuple[int, Row]] = []
        for nid in dict.fromkeys([*moved, *changed]):
            if nid in found.rows:
                row = found.rows[nid]
                active = row.active
                live = self._rooms.peek_nid(nid)
                if live is not None and row.membership == "join":
                    self._look_at(found, row, live, since)
                    active = max(active, _newest(live))
                row.active = before.get(nid, 0)
                news.append((active, row))
        for active, row in sorted(news, key=lambda one: (one[0], one[1].nid)):
            if active > row.active:
                found.happened(row, active)
            else:
                found.changed(row)
        found.position = upto

    def _put(self, found: RoomList, one: ListedRoom, kicked: Collection[int]) -> Row | None:
        """Take over what the database says of a room."""
        if one.forgotten:
            gone = found.rows.pop(one.nid, None)
            if gone is not None:
                gone.is_listed = False
                found.by_id.pop(gone.room_id, None)
                found.changed(gone)
            return None
        active = one.newest if one.membership == "join" else one.position
        row = found.rows.get(one.nid)
        if row is None:
            row = Row(one.nid, one.room_id, one.membership, one.member_nid, one.position, active, one.room_type)
            found.rows[one.nid] = row
            found.by_id[one.room_id] = one.nid
        elif one.position >= row.moved:
            row.membership, row.member_nid, row.moved = one.membership, one.member_nid, one.position
            row.room_type = one.room_type
            row.active = max(row.active, active)
        row.is_kicked = one.member_nid in kicked
        row.inviter = ""
        self._judge(found, row)
        return row

    def _judge(self, found: RoomList, row: Row) -> None:
        if row.membership in ("leave", "ban"):
            row.is_listed = row.is_kicked
        elif row.membership == "invite":
            row.is_listed = bool(row.inviter) and found.wishes.judge(row.inviter) == "allow"
        else:
            row.is_listed = True

    async def _read_inviters(self, found: RoomList, among: Sequence[Row]) -> None:
        invited = [row for row in among if row.membership == "invite"]
        if invited:
            events = await self._events.get_many([row.member_nid for row in invited])
            for row in invited:
                if (stored := events.get(row.member_nid)) is not None:
                    row.inviter = stored.event.sender
                    self._judge(found, row)

    def _look_at(self, found: RoomList, row: Row, live: LiveRoom, since: int) -> None:
        """What of a room in use may have changed."""
        row.is_encrypted = (ENCRYPTION, "") in live.frame
        ref = live.visible.state.get(("m.room.member", found.user_id))
        if ref is not None and ref.membership == "join":
            row.member_nid = ref.nid
        if row.bumped is None:
            return
        for entry in reversed(live.window):
            if entry.position <= since:
                break
            if entry.stored is not None and entry.stored.event.type in BUMPING:
                row.bumped = max(row.bumped, entry.position)
                break

    def _apply_directs(self, found: RoomList, content: bytes | None, position: int) -> None:
        directs = _directs_in(content)
        for row in found.rows.values():
            if row.is_dm != (row.room_id in directs):
                row.is_dm = not row.is_dm
                if position:
                    found.touch(row, position)
                    found.changed(row)

    async def _read_tags(self, found: RoomList) -> None:
        if found.knows_tags:
            return
        found.stale_tags = 0
        known = await self._database.run(rows.data_of_type, found.user_id, TAG)
        for row in found.rows.values():
            tags = _tags_in(known.get(row.nid))
            if tags != row.tags:
                row.tags = tags
                found.changed(row)
        found.knows_tags = True

    async def _children(self, found: RoomList, spaces: Collection[str]) -> frozenset[str]:
        """The rooms that are children of some spaces, of those that the user is in."""
        joined = [
            nid for space in sorted(spaces) if (nid := found.by_id.get(space)) and found.rows[nid].membership == "join"
        ]
        children: dict[int, str] = {}
        for live in (await self._rooms.get_many(joined)).values():
            children.update((ref.nid, key[1]) for key, ref in live.frame.items() if key[0] == CHILD)
        events = await self._events.get_many(list(children))
        # A child without `via` is none: that is how they are taken out.
        return frozenset(
            children[nid] for nid, stored in events.items() if isinstance(stored.event.content.get("via"), list)
        )


def _read(cursor: Cursor, user_id: str, room_nids: Sequence[int] | None) -> tuple[list[ListedRoom], set[int]]:
    listed = rows.listed_rooms(cursor, user_id, room_nids)
    over = [one.member_nid for one in listed if one.membership in ("leave", "ban") and not one.forgotten]
    return listed, rows.ended_by_others(cursor, user_id, over)


def _newest(live: LiveRoom) -> int:
    """The position of the newest event at hand; 0 where there is none."""
    return next((entry.position for entry in reversed(live.window) if entry.stored is not None), 0)


def _directs_in(content: bytes | None) -> frozenset[str]:
    """The rooms that `m.direct` names. A client may have written anything there."""
    named = orjson.loads(content) if content is not None else {}
    return frozenset(
        room_id
        for rooms in (named.values() if isinstance(named, dict) else ())
        if isinstance(rooms, list)
        for room_id in rooms
        if isinstance(room_id, str)
    )


def _tags_in(content: bytes | None) -> frozenset[str]:
    tags = orjson.loads(content).get("tags") if content is not None else None
    return frozenset(tags) if isinstance(tags, dict) else frozenset()
