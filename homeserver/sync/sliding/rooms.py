"""What there is to tell of rooms: timelines from where the client knows them, and the state that it wants of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import orjson

from federation.room.event import StateKey
from federation.service import service
from homeserver.push.ledger import Ledger, Unread
from homeserver.relations.bundles import Bundles
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import NAME, LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.rooms.render import Reader, client_event, stripped_state
from homeserver.rooms.tracing import STILL, without_later
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER
from homeserver.sync.outside import OutsideSections
from homeserver.sync.room_state import heroes
from homeserver.sync.sliding.asks import MEMBER, RoomConfig
from homeserver.sync.sliding.connections import Sent
from homeserver.sync.sliding.results import Hero, RoomResult
from homeserver.sync.sliding.views import Row
from homeserver.sync.steps import state_steps
from homeserver.sync.timeline import Page, Span, Timeline, Timelines, Viewer
from storage.database import Database
from storage.ports import StoredEvent
from storage.spans import StateStep
from storage.state import read_state
from storage.stripped import get_stripped

AVATAR: StateKey = ("m.room.avatar", "")
MOST_MEMBERS = 200
"""Of whom it is remembered for a room that the client has their member events; past that, it gets some twice."""


class RoomWant(msgspec.Struct, gc=False):
    """What a client wants of one room."""

    row: Row
    config: RoomConfig
    lists: Sequence[str]
    sent: Sent | None
    """What it knows already of the room as it is now; None: nothing."""


class _Part(msgspec.Struct, gc=False):
    """A room on its way."""

    want: RoomWant
    room: LiveRoom
    span: Span
    steps: Sequence[StateStep] = ()
    state: Mapping[StateKey, int] | None = None
    """The state that somebody left; None: that of now."""
    own: StoredEvent | None = None
    """The member event by which somebody left."""
    timeline: Timeline = msgspec.field(default_factory=lambda: Timeline([], RoomToken(0), False))
    nids: dict[StateKey, int] = msgspec.field(default_factory=dict)
    """The state to tell; 0 for what is not there any more."""
    heroes: Sequence[str] | None = None
    members: frozenset[str] = frozenset()

    @property
    def initial(self) -> bool:
        return self.want.sent is None

    @property
    def expanded(self) -> bool:
        sent = self.want.sent
        return sent is not None and self.own is None and self.want.config.limit > sent.limit

    def nid_of(self, key: StateKey) -> int:
        if self.state is not None:
            return self.state.get(key, 0)
        ref = self.room.visible.state.get(key)
        return 0 if ref is None else ref.nid


@service
class RoomResults:
    """Makes them."""

    database: Database
    rooms: Rooms
    events: EventCache
    timelines: Timelines
    bundles: Bundles
    outside: OutsideSections
    ledger: Ledger

    async def make(
        self, wants: Sequence[RoomWant], reader: Reader, ignored: frozenset[str], upto: int, live_after: int
    ) -> list[RoomResult]:
        """One result for each, in no order. `live_after`: what is later has just happened."""
        glimpses = [want for want in wants if want.row.membership in ("invite", "knock")]
        found = await self._glimpses(glimpses, reader.user_id, upto) if glimpses else []
        inside = [want for want in wants if want.row.membership not in ("invite", "knock")]
        if not inside:
            return found
        live = await self.rooms.get_many([want.row.nid for want in inside])
        parts: list[_Part] = []
        for want in inside:
            room = live.get(want.row.nid)
            if want.row.membership != "join":
                part = await self._departure(want, room, reader.user_id, upto)
                if isinstance(part, RoomResult):
                    found.append(part)
                else:
                    parts.append(part)
            elif room is not None:
                if want.sent is not None and not want.config.lazy and room.whole_since > want.sent.upto:
                    want.sent = None  # members came that were left out: all are told, as `/sync` does
                parts.append(_Part(want, room, _span(want.sent, upto)))
        await self._read_timelines(parts, Viewer(reader.user_id, ignored))
        nids: set[int] = set()
        for part in parts:
            if not part.initial:
                part.steps = await state_steps(self.database, part.room, part.span)
            self._choose(part, reader.user_id)
            nids.update(part.nids.values())
            nids.update((part.nid_of(NAME), part.nid_of(AVATAR)))
            nids.update(part.nid_of((MEMBER, user_id)) for user_id in part.heroes or ())
        nids.discard(0)
        events = await self.events.get_many(sorted(nids))
        reader = await self._with_bundles(parts, reader)
        here = [part.room for part in parts if part.own is None]
        unread = await self.ledger.of(reader.user_id, here) if here else {}
        return [
            *found,
            *(self._result(part, events, reader, live_after, unread.get(part.room.nid)) for part in parts),
        ]

    # -- who is in the room ------------------------------------------------------------------------------------

    async def _read_timelines(self, parts: Sequence[_Part], viewer: Viewer) -> None:
        by_limit: dict[int, list[_Part]] = {}
        for part in parts:
            by_limit.setdefault(part.want.config.limit, []).append(part)
        for limit, those in by_limit.items():
            wanted = {part.room.nid: Span(0, part.span.upto) if part.expanded else part.span for part in those}
            rooms = {part.room.nid: part.room for part in those}
            pages: Mapping[int, Page] = await self.timelines.read_many(rooms, wanted, limit, viewer)
            for part in those:
                nid = part.room.nid
                part.timeline = await self.timelines.narrow(
                    part.room, viewer, wanted[nid], pages[nid], NO_EVENT_FILTER, limit
                )

    def _choose(self, part: _Part, user_id: str) -> None:
        """Which state goes with the timeline."""
        config, sent, room = part.want.config, part.want.sent, part.room
        changed: dict[StateKey, int] = {}
        for _, key, nid in part.steps:
            changed[key] = nid
        if sent is None:
            keys: Iterable[StateKey] = (
                config.select(room) if part.state is None else [key for key in part.state if config.admits(key)]
            )
            chosen = {key: part.nid_of(key) for key in keys}
        else:
            chosen = {key: nid for key, nid in changed.items() if config.admits(key)}
            if config.rules != sent.config.rules and part.own is None:
                more = [key for key in config.select(room) if not sent.config.admits(key)]
                chosen.update((key, part.nid_of(key)) for key in more if key not in chosen)
        if config.lazy:
            self._choose_members(part, chosen, changed)
        if part.own is not None:
            chosen[MEMBER, user_id] = part.own.nid
        part.nids = chosen
        if part.own is None:
            crossed = any(key[0] == MEMBER for key in changed)
            if sent is None or crossed or NAME in changed:
                part.heroes = heroes(room, user_id)

    def _choose_members(self, part: _Part, chosen: dict[StateKey, int], changed: Mapping[StateKey, int]) -> None:
        """Lazy loading: those whom the timeline shows, and without a gap all whose membership changed.

        After a gap, a client keeps nothing of what it knew of members.
        """
        sent, limited = part.want.sent, part.timeline.limited
        known = frozenset() if sent is None or limited else sent.members
        wanted: dict[str, None] = {}
        for stored, _ in part.timeline.events:
            wanted[stored.event.sender] = None
            if stored.event.type == MEMBER and stored.event.state_key is not None:
                wanted[stored.event.state_key] = None
        if not limited:
            wanted.update((key[1], None) for key in changed if key[0] == MEMBER)
        told = [user_id for user_id in wanted if user_id not in known or (MEMBER, user_id) in changed]
        for user_id in told:
            if (nid := part.nid_of((MEMBER, user_id))) or (MEMBER, user_id) in changed:
                chosen[MEMBER, user_id] = nid
        members = known.union(told)
        part.members = members if len(members) <= MOST_MEMBERS else frozenset(told[:MOST_MEMBERS])

    async def _with_bundles(self, parts: Sequence[_Part], reader: Reader) -> Reader:
        limited = [
            (part.room, [stored for stored, _ in part.timeline.events])
            for part in parts
            if part.timeline.events and (part.timeline.limited or part.initial or part.expanded)
        ]
        if not limited:
            return reader
        bundled = await self.bundles.of(reader, limited, room_id=False)
        return msgspec.structs.replace(reader, bundled=bundled.parts) if bundled.parts else reader

    def _result(
        self,
        part: _Part,
        events: Mapping[int, StoredEvent],
        reader: Reader,
        live_after: int,
        unread: Unread | None,
    ) -> RoomResult:
        want, timeline = part.want, part.timeline
        row, sent = want.row, want.sent
        until = part.span.upto if part.own is not None else STILL
        plain = Reader(reader.user_id, reader.device_id, reader.now_ms)
        limit = want.config.limit
        if sent is not None and not timeline.limited and not part.expanded:
            limit = max(limit, sent.limit)
        known = Sent(part.span.upto, row.membership, want.config, limit, part.members, row.is_dm, unread)
        found = RoomResult(
            row.room_id,
            row.membership,
            known if row.is_listed else None,
            want.lists,
            initial=part.initial,
            expanded=part.expanded,
            state=[
                client_event(without_later(stored, until), plain, room_id=False)
                for nid in part.nids.values()
                if (stored := events.get(nid)) is not None
            ],
            gone=[key for key, nid in part.nids.items() if not nid],
            timeline=[
                client_event(without_later(stored, until), reader, room_id=False, membership=membership)
                for stored, membership in timeline.events
            ],
            prev_batch=str(timeline.start),
            limited=timeline.limited,
            num_live=sum(stored.position > live_after for stored, _ in timeline.events),
            unread=unread if sent is None or sent.unread != unread else None,
            bump_stamp=row.moved if part.own is not None else row.bumped,
            shown=[stored.nid for stored, _ in timeline.events],
        )
        if part.own is None:
            self._describe(found, part, events)
        found.is_news = bool(
            part.initial
            or part.expanded
            or part.own is not None
            or timeline.events
            or timeline.limited
            or found.state
            or found.gone
            or found.has_name
            or found.has_avatar
            or found.counts
            or found.unread is not None
            or found.is_dm is not None
        )
        return found

    def _describe(self, found: RoomResult, part: _Part, events: Mapping[int, StoredEvent]) -> None:
        """What the room is called, and how many are in it, where that is news."""
        room, sent = part.room, part.want.sent
        changed = {key for _, key, _ in part.steps}
        name = _text(events.get(part.nid_of(NAME)), "name")
        if sent is None or NAME in changed:
            found.name, found.has_name = name, sent is not None or name is not None
        if sent is None or AVATAR in changed:
            found.avatar = _text(events.get(part.nid_of(AVATAR)), "url")
            found.has_avatar = sent is not None or found.avatar is not None
        if part.heroes is not None and name is None:
            found.heroes = [_hero(user_id, events.get(part.nid_of((MEMBER, user_id)))) for user_id in part.heroes]
        joined, invited = room.joined_count, room.invited_count
        crossed = sent is None or room.whole_since > sent.upto or any(key[0] == MEMBER for key in changed)
        if crossed and joined is not None and invited is not None:
            found.counts = (joined, invited)
        is_dm = part.want.row.is_dm
        if is_dm if sent is None else is_dm != sent.is_dm:
            found.is_dm = is_dm

    # -- who is not, or not any more ---------------------------------------------------------------------------

    async def _glimpses(self, wants: Sequence[RoomWant], user_id: str, upto: int) -> list[RoomResult]:
        """Invitations and knocks: little is shown of these rooms, on purpose."""
        members = await self.events.get_many([want.row.member_nid for want in wants])
        live = await self.rooms.get_many([want.row.nid for want in wants])
        afar = await self.database.run(get_stripped, [nid for nid, one in members.items() if not one.position])
        found = []
        for want in wants:
            row, stored = want.row, members.get(want.row.member_nid)
            if stored is None:
                continue
            room = live.get(row.nid)
            if stored.position and room is not None:
                shown = await self.outside.stripped(room, user_id)
            else:
                inner = afar.get(stored.nid, b"[]").strip()[1:-1]
                shown = [part for part in (inner, stripped_state(stored.event)) if part]
            found.append(_outline(want, shown, upto))
        return found

    async def _departure(self, want: RoomWant, room: LiveRoom | None, user_id: str, upto: int) -> _Part | RoomResult:
        """A room that somebody left, or was made to leave: what happened up to that, if it was inside before."""
        row, sent = want.row, want.sent
        own = await self.events.get(row.member_nid) if row.member_nid else None
        was_in = sent is not None and sent.membership == "join"
        is_closed = room is not None and await self.outside.closed.is_closed(room, user_id)
        if own is None or room is None or is_closed or own.position <= 0 or not (was_in or row.is_kicked):
            shown = [] if own is None else [stripped_state(own.event)]
            result = _outline(want, shown, upto)
            if own is not None:
                copy = client_event(own, Reader(user_id, None, own.event.origin_server_ts), room_id=False)
                result.timeline = [copy]
                result.state = [copy] if want.config.admits((MEMBER, user_id)) else []
            return result
        part = _Part(want, room, Span(sent.upto if sent is not None and was_in else 0, own.position), own=own)
        if not was_in:
            want.sent = None
        part.state = await self.database.run(read_state, own.after)
        return part


def _span(sent: Sent | None, upto: int) -> Span:
    """What happened since what the client knows of a room."""
    return Span(0, upto, is_first=True) if sent is None else Span(sent.upto, upto)


def _outline(want: RoomWant, shown: Sequence[bytes], upto: int) -> RoomResult:
    row = want.row
    known = Sent(upto, row.membership, want.config, 0, frozenset(), row.is_dm)
    found = RoomResult(
        row.room_id,
        row.membership,
        known if row.is_listed else None,
        want.lists,
        initial=True,
        stripped=shown,
        bump_stamp=row.moved,
        is_dm=True if row.is_dm else None,
    )
    for event in orjson.loads(b"[%b]" % b",".join(shown)):
        if isinstance(event, dict) and isinstance(content := event.get("content"), dict):
            if event.get("type") == "m.room.name" and isinstance(content.get("name"), str):
                found.name, found.has_name = content["name"], True
            elif event.get("type") == "m.room.avatar" and isinstance(content.get("url"), str):
                found.avatar, found.has_avatar = content["url"], True
    return found


def _text(stored: StoredEvent | None, member: str) -> str | None:
    value = None if stored is None else stored.event.content.get(member)
    return value if isinstance(value, str) and value else None


def _hero(user_id: str, stored: StoredEvent | None) -> Hero:
    return Hero(user_id, _text(stored, "displayname"), _text(stored, "avatar_url"))
