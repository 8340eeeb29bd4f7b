"""The part of a `/sync` answer that speaks of one room: timeline, state, receipts and typing, account data, summary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs
import msgspec
import orjson
from attrs import field, frozen

from federation.room.event import StateKey
from federation.service import service
from homeserver.push.ledger import Ledger, Unread
from homeserver.relations.bundles import NOTHING, Bundled, Bundles
from homeserver.rooms.events import EventCache
from homeserver.rooms.lineage import Lineage
from homeserver.rooms.live import CANONICAL_ALIAS, NAME, LiveRoom
from homeserver.rooms.render import Reader, client_event, federation_event, is_personal
from homeserver.rooms.sticky import StickyBoard
from homeserver.rooms.tracing import STILL, without_later
from homeserver.rooms.visibility import is_ignored
from homeserver.sync.filters import Filter, keep_fields
from homeserver.sync.room_state import (
    ALL_NEWS,
    NO_NEWS,
    SummaryNews,
    before_timeline,
    heroes,
    outcome,
    summary,
    summary_news,
)
from homeserver.sync.steps import state_steps
from homeserver.sync.timeline import Span, Timeline, Timelines, Viewer, admits
from storage.database import Database
from storage.ports import StoredEvent
from storage.spans import StateStep
from storage.state import read_state


class Want(msgspec.Struct, gc=False):
    """What a reader wants of one room."""

    room: LiveRoom
    span: Span
    """Where the timeline may begin and where the reader's view ends."""
    full: bool
    """All of the state, as in a first sync or after joining; otherwise what changed in the span."""
    receipts_after: int
    ephemeral: list[bytes] = msgspec.field(default_factory=list)
    account_data: list[bytes] = msgspec.field(default_factory=list)
    is_entered: bool = False
    """The reader was not in the room at its last sync: the timeline continues nothing that it has."""
    is_left: bool = False
    """The reader has left, and learns nothing of what the room is now."""
    end_snapshot: int = 0
    """The snapshot at the end of the view of a reader that has left."""
    end_state: Mapping[StateKey, int] | None = None
    """What was read of it; None where nothing asks for it."""

    def state_now(self, members: Collection[str] | None) -> dict[StateKey, int]:
        """The state (event nids) at the end of the reader's view; of the members only these, where some are named.

        Then it costs nothing that there are many others.
        """
        if self.is_left:
            return dict(self.end_state or {})
        state = self.room.visible.state
        if members is None:
            return {key: ref.nid for key, ref in state.items()}
        found = {key: ref.nid for key, ref in self.room.frame.items()}
        for member in members:
            key = ("m.room.member", member)
            ref = state.get(key)
            if ref is not None:
                found[key] = ref.nid
        return found

    def nid_now(self, key: StateKey) -> int | None:
        """One entry of `state_now`."""
        if self.is_left:
            return (self.end_state or {}).get(key)
        ref = self.room.visible.state.get(key)
        return None if ref is None else ref.nid


@frozen
class Manner:
    """How this request wants its rooms: the same for all of them."""

    reader: Reader
    filter: Filter
    use_state_after: bool
    ignored: frozenset[str] = frozenset()
    """Whose messages the reader does not want to see."""

    _state_reader: Reader = field(init=False)

    @_state_reader.default
    def _without_peek(self) -> Reader:
        return Reader(self.reader.user_id, self.reader.device_id, self.reader.now_ms)

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.reader.user_id, self.ignored)

    @property
    def limit(self) -> int:
        return self.filter.room.timeline.limit

    def copy(self, stored: StoredEvent, membership: str | None = None) -> bytes:
        """The reader's copy of an event in the timeline."""
        return self._copy(stored, self.reader, membership)

    def state_copy(self, stored: StoredEvent) -> bytes:
        """The reader's copy of an event of the state, without what it replaced: that may be from before their time."""
        return self._copy(stored, self._state_reader, None)

    def _copy(self, stored: StoredEvent, reader: Reader, membership: str | None) -> bytes:
        if self.filter.event_format == "federation":
            made = federation_event(stored, reader, membership=membership)
        else:
            made = client_event(stored, reader, room_id=False, membership=membership)
        if self.filter.event_fields is not None:
            made = orjson.dumps(keep_fields(orjson.loads(made), self.filter.event_fields))
        return made

    @property
    def lazy(self) -> bool:
        return self.filter.room.state.lazy_load_members


class Core(msgspec.Struct, frozen=True, gc=False):
    """What members may have in common of a room's section: `timeline` and `state`."""

    json: bytes
    """Members of the section's object, comma-separated."""
    is_news: bool
    """Whether there is anything in it that the reader does not know."""
    news: SummaryNews
    """What the `summary`, which is each reader's own, has to tell."""
    personal: Collection[str] = ()
    """Who is told something else in it."""


class _Part(msgspec.Struct, gc=False):
    """One room on its way: its timeline, and which state events go with it."""

    want: Want
    timeline: Timeline
    state: dict[StateKey, int]
    news: SummaryNews
    sticky: list[StoredEvent]
    """What sticks to the room and is not in the timeline."""


@service
class RoomSections:
    """Makes the JSON of rooms."""

    database: Database
    events: EventCache
    timelines: Timelines
    lineage: Lineage
    bundles: Bundles
    sticky: StickyBoard
    ledger: Ledger

    async def make(self, wants: Sequence[Want], manner: Manner) -> dict[str, bytes]:
        """Room id → JSON, for the rooms of which there is something to say. At most a few crossings for all of them."""
        wants = [want for want in wants if manner.filter.room.admits_room(want.room.room_id)]
        cores: dict[str, Core] = {}
        cold: list[Want] = []
        for want in wants:
            cached = want.room.shared_sections.get(_share_key(want, manner)) if _sharable(want, manner) else None
            if cached is not None and not self._is_personal(want, cached, manner):
                cores[want.room.room_id] = cached
            else:
                cold.append(want)
        if cold:
            cores.update(await self._make_cold(cold, manner))
        told = [want for want in wants if _is_told(want, cores[want.room.room_id])]
        here = [want.room for want in told if not want.is_left]
        unread = await self.ledger.of(manner.reader.user_id, here) if here else {}
        by_thread = manner.filter.unread_thread_notifications
        found: dict[str, bytes] = {}
        for want in told:
            counts = _unread(unread[want.room.nid], by_thread) if want.room.nid in unread else None
            found[want.room.room_id] = _assemble(want, cores[want.room.room_id], manner.reader.user_id, counts)
        return found

    async def _make_cold(self, wants: Sequence[Want], manner: Manner) -> dict[str, Core]:
        parts = await self._read(wants, manner)
        nids = {nid for part in parts for nid in part.state.values()}
        events = await self.events.get_many(sorted(nids))
        bundled = await self._bundled(parts, manner)
        if bundled.parts:
            manner = attrs.evolve(manner, reader=msgspec.structs.replace(manner.reader, bundled=bundled.parts))
        made: dict[str, Core] = {}
        for part in parts:
            core = self._core(part, events, manner, bundled.personal)
            room = part.want.room
            made[room.room_id] = core
            is_theirs = part.news.heroes and manner.lazy  # nobody is among those who are shown to itself
            hangs = any(stored.nid in bundled.parts for stored, _ in part.timeline.events)
            if is_theirs or manner.reader.user_id in core.personal or (hangs and not room.always_open):
                continue
            if part.sticky:
                continue  # whose time runs out
            if (
                _sharable(part.want, manner)
                and not _personal_events(part.timeline.events, manner)
                and self._are_common(room, part.timeline.events)
            ):
                room.shared_sections[_share_key(part.want, manner)] = core
        return made

    def _are_common(self, room: LiveRoom, events: Iterable[tuple[StoredEvent, str]]) -> bool:
        """Whether everybody who is here now was here at each event: on a fork, somebody may not have been."""
        head = room.visible.head.snapshot
        for snapshot in {stored.after for stored, _ in events if stored.after != head}:
            keys = self.lineage.differing(snapshot, head)
            if keys is None or any(kind == "m.room.member" and key in room.local_joined for kind, key in keys):
                return False
        return True

    async def _bundled(self, parts: Sequence[_Part], manner: Manner) -> Bundled:
        """What hangs on the events of timelines with a gap before them: in others, the reader hears of all of it.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events
        """
        limited = [
            (part.want.room, [stored for stored, _ in part.timeline.events])
            for part in parts
            if part.timeline.limited or part.want.full
        ]
        return await self.bundles.of(manner.reader, limited, room_id=False) if limited else NOTHING

    async def _read(self, wants: Sequence[Want], manner: Manner) -> list[_Part]:
        rooms = {want.room.nid: want.room for want in wants}
        spans_of = {want.room.nid: want.span for want in wants}
        limit, filter = manner.limit, manner.filter.room.timeline
        newest = await self.timelines.read_many(rooms, spans_of, limit, manner.viewer, filter)
        parts = []
        for want in wants:
            timeline = await self.timelines.narrow(
                want.room, manner.viewer, want.span, newest[want.room.nid], filter, limit
            )
            if want.is_entered:
                timeline.limited = True
            steps = [] if want.full else await state_steps(self.database, want.room, want.span)
            news = ALL_NEWS if want.full else summary_news(want.room, steps)
            if want.is_left:
                news = NO_NEWS
            elif news.heroes and await self._has_name(want.room):
                news = SummaryNews(news.counts, False)
            members = self._members(want, timeline, manner, news) if manner.lazy else None
            if want.is_left and (want.full or members is not None):
                keys = None if want.full else [("m.room.member", member) for member in sorted(members or ())]
                want.end_state = await self._end_state(want, keys)
            if want.full:
                state = self._full_state(want, timeline, manner, members)
            else:
                state = self._changed_state(steps, timeline, manner)
            if members is not None:
                state = self._pick(want, state, timeline, manner, members, steps)
            parts.append(_Part(want, timeline, state, news, await self._sticking(want, timeline, manner)))
        return parts

    async def _sticking(self, want: Want, timeline: Timeline, manner: Manner) -> list[StoredEvent]:
        """What sticks to the room and would be missed: in a timeline without a gap there is all of it."""
        room_nid = want.room.nid
        if want.is_left or not (want.full or timeline.limited) or self.sticky.is_empty(room_nid):
            return []
        found = await self.sticky.of(room_nid, 0 if want.full else want.span.after, want.span.upto)
        shown = {stored.nid for stored, _ in timeline.events}
        return [one for one in found if one.nid not in shown and not is_ignored(one, manner.ignored)]

    async def _end_state(self, want: Want, keys: Sequence[StateKey] | None) -> Mapping[StateKey, int]:
        """The state that somebody left, all of it or some keys: it mostly is that of now but for a change or two."""
        now, head = want.room.visible.state, want.room.visible.head
        state = self.lineage.derive(now, head.snapshot, want.end_snapshot)
        if state is None:
            return await self.database.run(read_state, want.end_snapshot, keys)
        return {key: ref.nid for key in (state if keys is None else keys) if (ref := state.get(key)) is not None}

    async def _has_name(self, room: LiveRoom) -> bool:
        for key, member in ((NAME, "name"), (CANONICAL_ALIAS, "alias")):
            ref = room.visible.state.get(key)
            stored = None if ref is None else await self.events.get(ref.nid)
            if stored is not None and stored.event.content.get(member):
                return True
        return False

    def _full_state(
        self, want: Want, timeline: Timeline, manner: Manner, members: Collection[str] | None
    ) -> dict[StateKey, int]:
        now = want.state_now(members)
        return now if manner.use_state_after else before_timeline(now, [stored for stored, _ in timeline.events])

    def _changed_state(self, steps: Sequence[StateStep], timeline: Timeline, manner: Manner) -> dict[StateKey, int]:
        if manner.use_state_after:
            return outcome(steps)
        shown = {stored.nid for stored, _ in timeline.events}
        start = timeline.start.position
        before = outcome(step for step in steps if step[0] <= start)
        # Resolution may change the state with no event of the timeline to show for it.
        besides = outcome(step for step in steps if step[0] > start and step[2] not in shown)
        if besides and manner.filter.room.timeline.is_open:
            before.update(besides)
        return before

    def _members(self, want: Want, timeline: Timeline, manner: Manner, news: SummaryNews) -> frozenset[str]:
        """Lazy loading: the members whom the timeline and the summary show, and at first the reader."""
        user_id = manner.reader.user_id
        members = {stored.event.sender for stored, _ in timeline.events}
        if want.full:
            members.add(user_id)
        if news.heroes:
            members.update(heroes(want.room, user_id))
        return frozenset(members)

    def _pick(
        self,
        want: Want,
        state: dict[StateKey, int],
        timeline: Timeline,
        manner: Manner,
        members: frozenset[str],
        steps: Sequence[StateStep],
    ) -> dict[StateKey, int]:
        """Lazy loading: these members, changed or not, and everybody who did something in a gap.

        Not those who turned out to be there when a room became whole: nobody was told of them before.
        """
        doing = {key for position, key, _ in steps if position != want.room.whole_since}
        picked = {
            key: nid for key, nid in state.items() if key[0] != "m.room.member" or key[1] in members or key in doing
        }
        shown = {stored.nid for stored, _ in timeline.events}
        for member in sorted(members):
            key = ("m.room.member", member)
            nid = want.nid_now(key)
            if nid is not None and key not in picked and (manner.use_state_after or nid not in shown):
                picked[key] = nid
        return picked

    def _core(self, part: _Part, events: Mapping[int, StoredEvent], manner: Manner, personal: Collection[str]) -> Core:
        want, timeline = part.want, part.timeline
        state_filter = manner.filter.room.state
        until = want.span.upto if want.is_left else STILL
        state = [
            manner.state_copy(without_later(stored, until))
            for nid in part.state.values()
            if (stored := events.get(nid)) is not None and (state_filter.is_open or admits(state_filter, stored))
        ]
        # COMPAT matrix-nio, matrix-js-sdk: both sections are there even if they are empty, as Synapse has it.
        json = b'"timeline":{"events":[%b],"limited":%b,"prev_batch":"%b"},"%b":{"events":[%b]}' % (
            b",".join([manner.copy(stored, membership) for stored, membership in timeline.events]),
            b"true" if timeline.limited else b"false",
            str(timeline.start).encode(),
            b"state_after" if manner.use_state_after else b"state",
            b",".join(state),
        )
        if part.sticky:
            json += b',"msc4354_sticky":{"events":[%b]}' % b",".join([manner.copy(one) for one in part.sticky])
        # That members came who were left out shows in their number only, to who loads them lazily.
        is_news = bool(timeline.events or timeline.limited or state or want.full or part.news.counts)
        return Core(json, is_news, part.news, personal if timeline.limited or want.full else ())

    def _is_personal(self, want: Want, core: Core, manner: Manner) -> bool:
        if manner.reader.user_id in core.personal:
            return True
        for entry in reversed(want.room.window):
            if entry.position <= want.span.after:
                break
            if entry.stored is not None and is_personal(entry.stored, manner.reader.user_id):
                return True
        return False


def _sharable(want: Want, manner: Manner) -> bool:
    """Whether all members who ask alike are answered alike: nobody joined or left, and nothing is filtered."""
    return (
        not want.full
        and not want.is_left
        and not manner.ignored
        and manner.filter.room.timeline.is_open
        and manner.filter.room.state.is_open
        and manner.filter.event_fields is None
        and manner.filter.event_format == "client"
        and want.room.window_floor <= want.span.after
    )


def _share_key(want: Want, manner: Manner) -> tuple[int, int, int, bool, bool]:
    return (want.span.after, want.span.upto, manner.limit, manner.use_state_after, manner.lazy)


def _personal_events(events: Iterable[tuple[StoredEvent, str]], manner: Manner) -> bool:
    return any(membership != "join" or is_personal(stored, manner.reader.user_id) for stored, membership in events)


def _is_told(want: Want, core: Core) -> bool:
    """Whether there is anything to say of the room."""
    return bool(core.is_news or want.ephemeral or want.account_data)


def _unread(unread: Unread, by_thread: bool) -> bytes:
    """The members that count what is unread.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync_response-200_unread-notification-counts
    """
    shown = unread.main if by_thread else unread.total
    counted = b'{"highlight_count":%d,"notification_count":%d}'
    told = b'"unread_notifications":' + counted % (shown.highlights, shown.notifications)
    if by_thread and unread.threads:
        threads = [
            orjson.dumps(thread) + b":" + counted % (one.highlights, one.notifications)
            for thread, one in unread.threads.items()
        ]
        told += b',"unread_thread_notifications":{%b}' % b",".join(threads)
    return told


def _assemble(want: Want, core: Core, user_id: str, unread: bytes | None) -> bytes:
    """The whole section."""
    fields = [core.json]
    if core.news is not NO_NEWS and (told := summary(want.room, user_id, core.news)):
        fields.append(b'"summary":' + orjson.dumps(told))
    # COMPAT Complement, as Synapse has it: this section is there even if it is empty.
    fields.append(b'"ephemeral":{"events":[%b]}' % b",".join(want.ephemeral))
    if unread is not None:
        fields.append(unread)
    if want.account_data:
        fields.append(b'"account_data":{"events":[%b]}' % b",".join(want.account_data))
    return b"{" + b",".join(fields) + b"}"
