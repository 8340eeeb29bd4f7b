"""What goes with the rooms in sliding sync: messages for the device, keys, account data, receipts, who is typing, what
threads one follows, what sticks to rooms, and profiles.

The same that `/sync` tells, by the same parts of the house; here a client asks for each apart, and for the rooms that
it looks at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from federation.service import service
from homeserver.encryption.letters import Letterbox
from homeserver.encryption.news import DeviceNews
from homeserver.encryption.states import DeviceStates
from homeserver.ephemeral.receipts import ReceiptBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.http.route import Requester
from homeserver.relations.subscriptions import Subscriptions
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.sticky import StickyBoard
from homeserver.rooms.visibility import is_ignored
from homeserver.streams.hub import Feed, newer
from homeserver.streams.tokens import StreamToken
from homeserver.sync.profiles import ProfileNews, merge
from homeserver.sync.sliding.asks import Extensions, ProfilesAsk, Scope, StickyAsk, ToDeviceAsk
from homeserver.sync.sliding.connections import State
from homeserver.sync.sliding.results import Told
from homeserver.sync.sliding.views import Row, Window
from homeserver.userdata.account_data import GLOBAL, AccountChanges, event_json
from homeserver.userdata.ignoring import without_ignored
from storage.database import Database
from storage.room_lists import data_of_rooms


class Scene(msgspec.Struct):
    """What is looked at in one request."""

    rows: Mapping[int, Row]
    windows: Mapping[str, Window]
    subscribed: Mapping[int, str]
    """Rooms by nid → id."""

    def shows(self, nid: int, scope: Scope) -> bool:
        """Whether an extension of that scope speaks of a room."""
        if nid in self.subscribed and _is_in(scope.rooms, self.subscribed[nid]):
            return True
        return any(window.has(nid) for name, window in self.windows.items() if _is_in(scope.lists, name))

    def all_shown(self, scope: Scope) -> list[int]:
        found = dict.fromkeys(nid for nid, room_id in self.subscribed.items() if _is_in(scope.rooms, room_id))
        for name, window in self.windows.items():
            if _is_in(scope.lists, name):
                found.update(dict.fromkeys(window.nids()))
        return list(found)

    def all_listed(self) -> set[int]:
        """The rooms of all lists, whether they are in their ranges or not, and those that are subscribed to."""
        return {*self.subscribed, *(nid for window in self.windows.values() for nid in window.view.order)}

    def joined(self, nid: int) -> bool:
        row = self.rows.get(nid)
        return row is not None and row.membership == "join"


class Round(msgspec.Struct):
    """What the rooms' part of an answer came to, for what goes with it."""

    scene: Scene
    state: State | None
    """What the client knew before; None: nothing."""
    upto: StreamToken
    told: Mapping[int, int]
    """Rooms that were looked into for this answer → position up to which the client knew them; 0: not at all."""
    renewed: Collection[int]
    """Those of them of which all account data are due, not only what changed since the last answer."""
    data: AccountChanges
    """Account data that changed since then."""
    ignored: frozenset[str]
    is_recent: bool
    """Whether the feed knows all that happened since then."""
    reader: Reader
    shown: Collection[int]
    """The events of the timelines, by nid, where that matters."""


@service
class ExtensionSections:
    """Makes them."""

    database: Database
    states: DeviceStates
    letterbox: Letterbox
    news: DeviceNews
    receipts: ReceiptBoard
    typing: TypingBoard
    subscriptions: Subscriptions
    sticky: StickyBoard
    profiles: ProfileNews

    async def tell(self, who: Requester, feed: Feed, ask: Extensions, now: Round) -> Told:
        told = Told()
        if ask.to_device is not None:
            await self._letters(who, ask.to_device, now, told)
        if ask.e2ee:
            await self._keys(who, feed, now, told)
        if ask.account_data is not None:
            await self._account_data(who.user_id, ask.account_data, now, told)
        if ask.receipts is not None:
            await self._receipts(who.user_id, ask.receipts, now, told)
        if ask.typing is not None:
            self._typing(feed, ask.typing, now, told)
        if ask.threads is not None:
            await self._threads(feed, ask.threads, now, told)
        if ask.sticky is not None:
            await self._sticky(feed, ask.sticky, now, told)
        if ask.profiles is not None:
            await self._profiles(feed, ask.profiles, now, told)
        return told

    async def _letters(self, who: Requester, ask: ToDeviceAsk, now: Round, told: Told) -> None:
        state = await self.states.get(who.user_id, who.device_id)
        events: Sequence[bytes] = ()
        position = now.upto.position
        if state.inbox:
            letters = await self.letterbox.open(who.user_id, who.device_id, state, ask.since, position)
            events = letters.events
            position = letters.upto or position
        told.to_device = (str(max(position, ask.since)), events)
        told.is_news |= bool(events)

    async def _keys(self, who: Requester, feed: Feed, now: Round, told: Told) -> None:
        state = await self.states.get(who.user_id, who.device_id)
        told.stock = state.stock_json
        if now.state is None:
            return
        lists = await self.news.between(feed, now.state.position, now.upto.position)
        if lists:
            told.device_lists = (lists.changed, lists.left)
        told.is_news |= bool(lists) or state.dry_at > now.state.serial

    async def _account_data(self, user_id: str, scope: Scope, now: Round, told: Told) -> None:
        scene, is_new = now.scene, _is_new("account_data", now)
        whole = [nid for nid in (scene.all_shown(scope) if is_new else now.renewed) if scene.shows(nid, scope)]
        rooms = {nid: events for nid, events in now.data.rooms.items() if scene.shows(nid, scope)}
        global_data = now.data.global_events
        if is_new:
            whole.append(GLOBAL)
            global_data = []
        if whole:
            full: dict[int, list[bytes]] = {}
            for datum in await self.database.run(data_of_rooms, user_id, whole):
                full.setdefault(datum.room_nid, []).append(event_json(datum.type, datum.content))
            global_data = [*global_data, *full.pop(GLOBAL, [])]
            rooms.update(full)
        told.global_data = global_data
        told.room_data = {scene.rows[nid].room_id: events for nid, events in rooms.items() if nid in scene.rows}
        told.is_news |= bool(global_data or rooms)

    async def _receipts(self, user_id: str, scope: Scope, now: Round, told: Told) -> None:
        scene = now.scene
        if _is_new("receipts", now):
            wants = {nid: 0 for nid in scene.all_shown(scope) if scene.joined(nid)}
        else:
            wants = {nid: after for nid, after in now.told.items() if scene.joined(nid) and scene.shows(nid, scope)}
            if not now.is_recent and now.state is not None:
                known = now.state.rooms
                shown = (nid for nid in scene.all_shown(scope) if nid in known and nid not in wants)
                wants.update((nid, known[nid].upto) for nid in shown if scene.joined(nid))
        found = await self.receipts.since_many(wants, user_id, now.upto.position) if wants else {}
        told.receipts = {
            scene.rows[nid].room_id: kept[0]
            for nid, event in found.items()
            if (kept := without_ignored([event], now.ignored))
        }
        told.is_news |= bool(told.receipts)

    def _typing(self, feed: Feed, scope: Scope, now: Round, told: Told) -> None:
        scene = now.scene
        if _is_new("typing", now):
            nids = [nid for nid in scene.all_shown(scope) if not self.typing.is_quiet(nid)]
        else:
            assert now.state is not None
            fresh = [nid for nid, after in now.told.items() if not after and not self.typing.is_quiet(nid)]
            known = feed.serial_floor <= now.state.serial
            nids = list(dict.fromkeys([*newer(feed.stirred, now.state.serial if known else 0), *fresh]))
        told.typing = {
            scene.rows[nid].room_id: without_ignored([self.typing.content(nid)], now.ignored)[0]
            for nid in nids
            if scene.joined(nid) and scene.shows(nid, scope)
        }
        told.is_news |= bool(told.typing)

    async def _threads(self, feed: Feed, limit: int, now: Round, told: Told) -> None:
        """MSC4308: https://github.com/matrix-org/matrix-spec-proposals/pull/4308"""
        after = 0
        if not _is_new("threads", now):
            assert now.state is not None
            after = now.state.position
            if now.is_recent and feed.threads <= after:
                return
        page = await self.subscriptions.changes(feed.user_id, after, now.upto.position, limit)
        if page.changes:
            told.threads = page
            told.is_news = True

    async def _sticky(self, feed: Feed, ask: StickyAsk, now: Round, told: Told) -> None:
        """What sticks and is not in the timelines, the oldest first, each with its place in that order.

        All of a room counts as of the moment at which its reader came in. What the client has passed over already is
        told once more of a room that it is shown for the first time: before, it had nothing to keep it with.

        MSC4480: https://github.com/matrix-org/matrix-spec-proposals/pull/4480
        """
        scene, upto = now.scene, now.upto.position
        since = ask.since if ask.since <= upto else 0  # a token of another database
        places: list[tuple[int, int]] = []
        for one in self.sticky.within(scene.all_listed()):
            if one.position > upto or not scene.joined(one.room_nid):
                continue
            place = max(one.position, feed.joined.get(one.room_nid, 0))
            if place > since:
                places.append((place, one.nid))
            elif not now.told.get(one.room_nid, 1):
                places.append((0, one.nid))
        places.sort()
        end = ask.limit
        while 0 < end < len(places) and places[end][0] in (0, places[end - 1][0]):
            end += 1  # there is no token between them
        upto = places[end - 1][0] if end < len(places) else upto
        found = await self.sticky.read([nid for _, nid in places[:end] if nid not in now.shown])
        by_room: dict[str, list[bytes]] = {}
        for stored in found:
            if not is_ignored(stored, now.ignored):
                copy = client_event(stored, now.reader, room_id=False)
                by_room.setdefault(stored.event.room_id, []).append(copy)
        told.sticky = (str(upto), by_room)
        told.is_news |= bool(by_room)

    async def _profiles(self, feed: Feed, ask: ProfilesAsk, now: Round, told: Told) -> None:
        """All of who is in a room that is new to the client, and changes of whoever shares a room with the reader.

        MSC4262: https://github.com/matrix-org/matrix-spec-proposals/pull/4262
        """
        is_new, scene = _is_new(ask.name, now), now.scene
        rooms = scene.all_shown(Scope()) if is_new else [nid for nid, after in now.told.items() if not after]
        rooms = [nid for nid in rooms if scene.joined(nid)]
        found = await self.profiles.everything(feed, ask.fields, rooms) if is_new or rooms else {}
        if not is_new:
            assert now.state is not None
            merge(found, await self.profiles.changes(feed, ask.fields, now.state.position, now.upto.position))
        users = {user_id: fields for user_id, fields in found.items() if fields is None or user_id not in now.ignored}
        if users:
            told.profiles = users
            told.is_news = True


def _is_new(name: str, now: Round) -> bool:
    """Whether the client asks for it for the first time on this connection."""
    return now.state is None or name not in now.state.extensions


def _is_in(names: frozenset[str] | None, name: str) -> bool:
    return names is None or name in names or "*" in names
