"""One request of sliding sync: which rooms are looked at, what of them the client does not know, and wait for it if
there is nothing.

    lists, subscriptions ── windows over the person's rooms ── rooms that are new in them, or changed ── answer
                                        ▲                                             │ none
                                        └──────────── hub.wait (woken by a commit) ◄──┘

What changed comes from the person's feed, what came into a window from its front: a request that goes on from the last
costs what happened meanwhile, and not how many rooms there are. A room that changes while nobody looks at it is noted
as *behind*, and told from where the client knows it once it is looked at again.

MSC4186: https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from federation.service import service
from homeserver.clock import Clock
from homeserver.http.route import Requester
from homeserver.records.deliveries import Deliveries
from homeserver.rooms.events import EventCache
from homeserver.rooms.render import Reader
from homeserver.streams.hub import Feed, Hub, newer
from homeserver.streams.tokens import StreamToken
from homeserver.sync.feeds import FeedLoader
from homeserver.sync.polls import Polls
from homeserver.sync.sliding.asks import RoomConfig, SlidingAsk, combine
from homeserver.sync.sliding.connections import NOTHING, Connections, Seen, Sent, State
from homeserver.sync.sliding.extensions import ExtensionSections, Round, Scene
from homeserver.sync.sliding.lists import RoomLists
from homeserver.sync.sliding.results import Answer
from homeserver.sync.sliding.rooms import RoomResults, RoomWant
from homeserver.sync.sliding.views import RoomList, Row, Window
from homeserver.userdata.account_data import AccountChanges, AccountData
from homeserver.userdata.ignoring import Ignorance


class _Look(msgspec.Struct):
    """What a request looks at, as of one position."""

    ask: SlidingAsk
    state: State
    found: RoomList
    windows: Mapping[str, Window]
    subscribed: Mapping[int, str]
    changed: frozenset[int]
    """Rooms of which there may be news since the last answer."""

    def config(self, row: Row) -> RoomConfig | None:
        """What is wanted of a room; None: it is not looked at."""
        configs = [self.ask.lists[name].config for name, window in self.windows.items() if window.has(row.nid)]
        if row.nid in self.subscribed:
            configs.append(self.ask.subscriptions[row.room_id])
        return combine(configs) if configs else None

    def want(self, nid: int, joined: Mapping[int, int]) -> RoomWant | None:
        """What there is to tell of a room; None: nothing."""
        row, sent = self.found.rows.get(nid), self.state.rooms.get(nid)
        if row is None:
            return None
        config = self.config(row) if row.is_listed else None
        if config is None:
            if row.is_listed or sent is None:
                return None
            config = sent.config  # left: the last that is told of it, wherever it was
        if sent is not None and row.membership == "join":
            if sent.membership != "join" or joined.get(nid, 0) > sent.upto:
                sent = None  # another stay than the one that it knows
            elif nid not in self.changed and nid not in self.state.behind and _covers(sent, config):
                return None
        elif sent is not None and sent.membership == row.membership and sent.upto >= row.moved:
            return None
        lists = [name for name, window in self.windows.items() if window.has(nid)]
        return RoomWant(row, config, lists, sent)

    def candidates(self) -> Iterable[int]:
        """Every room of which there may be something to tell."""
        state, rows = self.state, self.found.rows
        yield from self.changed
        yield from state.behind
        yield from self.subscribed
        for name, window in self.windows.items():
            view = window.view
            is_same = state.lists.get(name) == Seen(self.ask.lists[name], view.allowed)
            if is_same and window.is_at_front and view.reshaped <= state.position:
                yield from window.newer(rows, state.position)
            else:
                yield from window.nids()


@service
class SlidingSync:
    """Answers."""

    clock: Clock
    hub: Hub
    feeds: FeedLoader
    events: EventCache
    connections: Connections
    lists: RoomLists
    results: RoomResults
    extensions: ExtensionSections
    account_data: AccountData
    ignoring: Ignorance
    polls: Polls
    deliveries: Deliveries
    max_timeout_ms: int

    async def sync(self, who: Requester, ask: SlidingAsk) -> Answer:
        """Waits up to `timeout_ms` where there is nothing to say yet, unless it is the first request of a connection.

        Raises UnknownPos.
        """
        if ask.pos is None:
            connection, state = self.connections.open(who, ask.conn_id), NOTHING
        else:
            connection, state = self.connections.find(who, ask.conn_id, ask.pos)
        deadline_ms = self.clock.now_ms() + min(ask.timeout_ms, self.max_timeout_ms)
        while True:
            feed = await self.feeds.get(who.user_id)
            marks = feed.marks
            answer, told = await self._look(who, feed, ask, state)
            remaining_ms = deadline_ms - self.clock.now_ms()
            if ask.pos is None or answer.is_news or remaining_ms <= 0 or self.hub.closing:
                self.deliveries.note(who.user_id, told.position)
                answer.pos = self.connections.keep(connection, told)
                return answer
            if feed.marks == marks:
                await self.polls.wait(feed, who.device_id, remaining_ms)

    async def _look(self, who: Requester, feed: Feed, ask: SlidingAsk, state: State) -> tuple[Answer, State]:
        """What there is to say now, and what the client knows once it is said."""
        serial = self.hub.serial
        found = await self.lists.get(feed, self.hub.position)
        windows = {name: await self.lists.window(found, one.filters, one.ranges) for name, one in ask.lists.items()}
        upto = StreamToken(found.position, serial)
        is_first, is_recent = state is NOTHING, state.position >= feed.floor
        data = AccountChanges([], {})
        if not is_first and (feed.account > state.position or not is_recent):
            data = await self.account_data.changes(who.user_id, state.position, upto.position)
        look = _Look(
            ask,
            state,
            found,
            windows,
            {nid: room_id for room_id in ask.subscriptions if (nid := found.by_id.get(room_id)) is not None},
            frozenset() if is_first else _changed(state, feed, found, is_recent),
        )
        wants = {nid: want for nid in dict.fromkeys(look.candidates()) if (want := look.want(nid, feed.joined))}
        await self.lists.bumps([want.row for want in wants.values() if want.row.membership == "join"])
        ignored = await self.ignoring.of(who.user_id)
        reader = Reader(who.user_id, who.device_id, self.clock.now_ms(), self.events.peek)
        live_after = upto.position if is_first else state.position
        results = await self.results.make(list(wants.values()), reader, ignored, upto.position, live_after)
        scene = Scene(found.rows, windows, look.subscribed)
        known = {nid: 0 if want.sent is None else want.sent.upto for nid, want in wants.items()}
        renewed = [nid for nid, after in known.items() if not after or nid in state.behind]
        shown = frozenset(nid for result in results for nid in result.shown) if ask.extensions.sticky else frozenset()
        now = Round(
            scene,
            None if is_first else state,
            upto,
            known,
            renewed,
            data,
            ignored,
            is_recent or is_first,
            reader,
            shown,
        )
        told = await self.extensions.tell(who, feed, ask.extensions, now)
        by_id = {found.rows[nid].room_id: nid for nid in wants if nid in found.rows}
        rooms = state.rooms.mutate()
        for result in results:
            if (nid := by_id.get(result.room_id)) is not None:
                if result.sent is not None:
                    rooms[nid] = result.sent
                elif nid in rooms:
                    del rooms[nid]
        missed = {*look.changed, *data.rooms} if is_recent else {*state.rooms.keys()}
        unseen = [nid for nid in missed if nid in state.rooms and (row := found.rows.get(nid)) and not look.config(row)]
        after = State(
            upto.position,
            upto.serial,
            rooms.finish(),
            frozenset(nid for nid in (*state.behind, *unseen) if nid not in wants) if unseen or wants else state.behind,
            {name: Seen(ask.lists[name], window.view.allowed) for name, window in windows.items()},
            ask.extensions.names,
        )
        counts = {name: len(window.view.order) for name, window in windows.items()}
        return Answer(counts, [result for result in results if result.is_news], told), after


def _changed(state: State, feed: Feed, found: RoomList, is_recent: bool) -> frozenset[int]:
    """The rooms of which there may be news since a state."""
    since = state.position
    if is_recent:
        return frozenset([*newer(feed.changed, since), *newer(feed.moved, since), *newer(found.touched, since)])
    # The feed is younger than the state: what the rows know of all rooms that the client knows.
    return frozenset(
        nid
        for nid, sent in state.rooms.items()
        if (row := found.rows.get(nid)) is not None
        and (row.active > sent.upto or row.membership != sent.membership or row.is_dm != sent.is_dm)
    )


def _covers(sent: Sent, config: RoomConfig) -> bool:
    """Whether a client that was sent that lacks nothing that the config asks for."""
    return sent.config is config or (config.limit <= sent.limit and config.rules == sent.config.rules)
