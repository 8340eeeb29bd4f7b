"""Who may see which event: the four settings of `m.room.history_visibility`, judged by the state *at* each event.

Two pieces of state decide: the room's history visibility and the reader's own membership. What they were at an event
is a fact about its snapshots. A page of events is therefore *traced*: from the room's current snapshot, whose state
is in memory, from event to event, for as long as neither of the two changes. Only what the trace cannot tell is read
from the database, by snapshot, once per stretch; and as snapshots never change, it is remembered.

    allowed, at the event             world_readable   shared          invited            joined
    a member (`join`)                 yes              yes             yes                yes
    invited                           yes              if joined later if joined later    no
    anybody else                      yes              if joined later no                 no

"Joined later" includes having been joined when it was sent, and leaving: a former member keeps what it could see, and
sees nothing of what came after. The invited see nothing but world-readable events until they join.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-7 (room history visibility)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Literal

from attrs import define, evolve, frozen

from federation.room.event import Event, StateKey
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import HISTORY_VISIBILITY, LiveRoom
from storage import visibility as rows
from storage.database import Database
from storage.memberships import MembershipChange, membership_history
from storage.ports import Cursor, StoredEvent
from storage.shared import Memory

SHARED = "shared"
WORLD_READABLE = "world_readable"
INVITED = "invited"
SETTINGS = frozenset({WORLD_READABLE, SHARED, INVITED, "joined"})

STILL = 1 << 62
"""`joined_until` of somebody who is joined now."""
NEVER = -STILL
"""`joined_until` of somebody who never was."""

Replaced = Event | Literal["nothing", "unknown"]
"""What a state event took the place of, in the state before it."""

Seen = tuple[StoredEvent, str]
"""A visible event, and the reader's membership at it, the event included: `unsigned.membership`."""


def setting_of(value: object) -> str:
    """The setting that a `history_visibility` makes; what is not understood counts as `shared`."""
    return value if isinstance(value, str) and value in SETTINGS else SHARED


def setting_in(event: Event) -> str:
    return setting_of(event.content.get("history_visibility"))


def membership_in(event: Event) -> str:
    value = event.content.get("membership")
    return value if isinstance(value, str) else "leave"


def is_allowed(setting: str, membership: str, position: int, joined_until: int) -> bool:
    """The rules themselves, for state as it was at an event with that position."""
    if setting == WORLD_READABLE or membership == "join":
        return True
    if position >= joined_until:
        return False
    return setting == SHARED or (setting == INVITED and membership == "invite")


@frozen
class Viewer:
    """Who looks at a room, and what is known of its state now. `None` stands for what is not in memory."""

    user_id: str
    room_nid: int
    snapshot: int
    """The room's current state …"""
    setting: str | None
    """… its history visibility …"""
    membership: str
    """… and the viewer's membership in it."""
    member_nid: int
    """Its member event; 0 if there is none."""
    joined_until: int | None
    """Position of the event that ended the viewer's latest stay; `STILL`, or `NEVER`."""


class _Stretch:
    """Snapshots between which one piece of state does not change, and its value if it is known."""

    __slots__ = ("snapshot", "value")

    def __init__(self, snapshot: int, value: str | None = None) -> None:
        self.snapshot = snapshot
        self.value = value


@define(eq=False)
class Trace:
    """One page of events with what is known of the two pieces of state at each of them."""

    viewer: Viewer
    events: Sequence[StoredEvent]
    settings: dict[int, _Stretch]
    memberships: dict[int, _Stretch]
    """Snapshot → stretch."""

    def unknown(self) -> tuple[list[_Stretch], list[_Stretch]]:
        """What has to be read: stretches of the setting, stretches of the membership."""
        return _unknown(self.settings), _unknown(self.memberships)

    def seen(self) -> list[Seen]:
        """The visible events, in the page's order. Everything must be known."""
        user_id = self.viewer.user_id
        until = self.viewer.joined_until
        assert until is not None
        settings, memberships = self.settings, self.memberships
        found: list[Seen] = []
        for stored in self.events:
            event = stored.event
            membership = memberships[stored.after].value or "leave"
            if stored.before == stored.after or event.state_key is None:
                visible = is_allowed(settings[stored.after].value or SHARED, membership, stored.position, until)
            elif event.type == "m.room.member" and event.state_key == user_id:
                visible = True  # one always hears what became of oneself
            else:
                visible = any(
                    is_allowed(settings[snapshot].value or SHARED, membership, stored.position, until)
                    for snapshot in (stored.after, stored.before)
                )
            if visible:
                found.append((stored, membership))
        return found


def trace(viewer: Viewer, events: Sequence[StoredEvent], replaced: Callable[[StoredEvent], Replaced]) -> Trace:
    """Follow the two pieces of state through a page of events in timeline order, either way round."""
    events = [stored for stored in events if stored.position and not stored.rejected and not stored.soft_failed]
    settings = {0: _Stretch(0, SHARED), viewer.snapshot: _Stretch(viewer.snapshot, viewer.setting)}
    memberships = {0: _Stretch(0, "leave"), viewer.snapshot: _Stretch(viewer.snapshot, viewer.membership)}
    newest_first = events
    if events and events[0].position < events[-1].position:
        newest_first = events[::-1]
    for stored in newest_first:
        before, after = stored.before, stored.after
        if before == after:
            if after not in settings:
                settings[after] = _Stretch(after)
            if after not in memberships:
                memberships[after] = _Stretch(after)
            continue
        event = stored.event
        if event.type == "m.room.history_visibility" and event.state_key == "":
            _change(settings, stored, replaced, setting_in, SHARED)
            settings.setdefault(before, _Stretch(before))  # this one is judged by both
        else:
            _carry(settings, before, after)
        if event.type == "m.room.member" and event.state_key == viewer.user_id:
            _change(memberships, stored, replaced, membership_in, "leave")
        else:
            _carry(memberships, before, after)
    return Trace(viewer, events, settings, memberships)


def _carry(stretches: dict[int, _Stretch], before: int, after: int) -> None:
    """An event between the two snapshots leaves this piece of state as it was."""
    newer, older = stretches.get(after), stretches.get(before)
    if newer is None:
        newer = older if older is not None else _Stretch(after)
        stretches[after] = newer
    if older is None:
        stretches[before] = newer
    elif newer is not older:
        # Both were met already (forks): two stretches turn out to be one.
        newer.value = older.value = newer.value or older.value


def _change(
    stretches: dict[int, _Stretch],
    stored: StoredEvent,
    replaced: Callable[[StoredEvent], Replaced],
    value_in: Callable[[Event], str],
    default: str,
) -> None:
    """An event sets this piece of state."""
    _set(stretches, stored.after, value_in(stored.event))
    old = replaced(stored)
    if old == "nothing":
        _set(stretches, stored.before, default)
    elif old != "unknown":
        _set(stretches, stored.before, value_in(old))


def _set(stretches: dict[int, _Stretch], snapshot: int, value: str) -> None:
    stretch = stretches.get(snapshot)
    if stretch is None:
        stretches[snapshot] = _Stretch(snapshot, value)
    else:
        stretch.value = value


def _unknown(stretches: dict[int, _Stretch]) -> list[_Stretch]:
    return list({id(one): one for one in stretches.values() if one.value is None}.values())


def _cannot_say(stored: StoredEvent) -> Replaced:
    return "unknown"


class Visibility:
    """Filters pages of events for a reader, remembering what it has read. One per process.

    The methods without a cursor belong to the reactor's thread; `seen_with` runs in a database thread.
    """

    def __init__(self, database: Database, events: EventCache, server_name: str) -> None:
        self._database = database
        self._events = events
        self._local = ":" + server_name
        self._settings: Memory[int, str] = Memory(10_000)
        """History visibility event → its value. Redaction keeps it, so it never changes."""
        self._stays: Memory[int, int] = Memory(5_000)
        """Current membership event of somebody who is not joined → `joined_until`."""
        self._at: Memory[tuple[int, StateKey], str] = Memory(10_000)
        """Snapshot and piece of state → value."""

    def viewer(self, room: LiveRoom, user_id: str) -> Viewer:
        """What memory knows of a reader's relation to a room."""
        state = room.visible.state
        member = state.get(("m.room.member", user_id))
        until: int | None
        if member is None:
            nid, membership, until = 0, "leave", NEVER
        elif member.membership == "join":
            nid, membership, until = member.nid, "join", STILL
        else:
            nid, membership, until = member.nid, member.membership or "leave", self._stays.get(member.nid)
        return Viewer(user_id, room.nid, room.visible.head.snapshot, self.setting_now(room), membership, nid, until)

    def setting_now(self, room: LiveRoom) -> str | None:
        """The room's current history visibility; None if its event is not in memory."""
        ref = room.visible.state.get(HISTORY_VISIBILITY)
        if ref is None:
            return SHARED
        value = self._settings.get(ref.nid)
        if value is None:
            stored = self._events.peek(ref.nid)
            if stored is None:
                return None
            value = setting_in(stored.event)
            self._settings.put(ref.nid, value)
        return value

    async def prepare(self, rooms: Iterable[LiveRoom]) -> None:
        """Have the rooms' current settings in memory. Waits only where one is not."""
        missing = [room.visible.state[HISTORY_VISIBILITY].nid for room in rooms if self.setting_now(room) is None]
        if missing:
            for nid, stored in (await self._events.get_many(missing)).items():
                self._settings.put(nid, setting_in(stored.event))

    def filter_fast(
        self, room: LiveRoom, user_id: str, events: Sequence[StoredEvent], ignored: Container[str] = ()
    ) -> list[Seen] | None:
        """As `filter`, from memory alone: None where that does not do."""
        viewer = self.viewer(room, user_id)
        if viewer.joined_until is None:
            return None
        found = trace(viewer, events, self._replaced)
        if not self._recall(found):
            return None
        return without_ignored(found.seen(), ignored)

    async def filter(
        self, room: LiveRoom, user_id: str, events: Sequence[StoredEvent], ignored: Container[str] = ()
    ) -> list[Seen]:
        """The events of a page that a user may see, in the page's order, each with the user's membership at it.

        `events` are of one room, in timeline order or its reverse. Non-state events of `ignored` senders are left out.
        """
        return (await self.filter_many(user_id, [(room, events)], ignored))[0]

    async def filter_many(
        self, user_id: str, pages: Sequence[tuple[LiveRoom, Sequence[StoredEvent]]], ignored: Container[str] = ()
    ) -> list[list[Seen]]:
        """`filter` for pages of many rooms, in one crossing at most."""
        await self.prepare([room for room, _ in pages])
        done = [self.filter_fast(room, user_id, events, ignored) for room, events in pages]
        slow = [
            (self.viewer(room, user_id), events)
            for (room, events), seen in zip(pages, done, strict=True)
            if seen is None
        ]
        if slow:
            read = iter(await self._database.run(self._seen_of_many, slow))
            done = [without_ignored(next(read), ignored) if seen is None else seen for seen in done]
        return [seen for seen in done if seen is not None]

    def seen_with(self, cursor: Cursor, viewer: Viewer, events: Sequence[StoredEvent]) -> list[Seen]:
        """As `filter`, in a database thread: for a caller that is there already. `viewer` was made in the reactor's."""
        viewer = self._complete(cursor, viewer)
        found = trace(viewer, events, _cannot_say)
        if not self._recall(found):
            self._read(cursor, found)
        return found.seen()

    def joined_until(self, cursor: Cursor, viewer: Viewer) -> int:
        """Where the viewer's latest stay ended."""
        until = self._complete(cursor, viewer).joined_until
        assert until is not None
        return until

    # ----------------------------------------------------------------------------------------------------------

    def _seen_of_many(self, cursor: Cursor, pages: Iterable[tuple[Viewer, Sequence[StoredEvent]]]) -> list[list[Seen]]:
        return [self.seen_with(cursor, viewer, events) for viewer, events in pages]

    def _replaced(self, stored: StoredEvent) -> Replaced:
        """What a state event replaced, where that is certain and in memory.

        `replaces` speaks of the room's current state at the time. That is the state before the event only if it was
        composed on it, as every live event of this server is; a peer's may stand on a fork.
        """
        if stored.position < 0 or not stored.event.sender.endswith(self._local):
            return "unknown"
        if not stored.replaces:
            return "nothing"
        old = self._events.peek(stored.replaces)
        return "unknown" if old is None else old.event

    def _recall(self, found: Trace) -> bool:
        """Fill in what was read before. Says whether that is everything."""
        settings, memberships = found.unknown()
        if not settings and not memberships:
            return True
        key = ("m.room.member", found.viewer.user_id)
        for stretches, what in ((settings, HISTORY_VISIBILITY), (memberships, key)):
            for stretch in stretches:
                stretch.value = self._at.get((stretch.snapshot, what))
        return all(stretch.value is not None for stretch in (*settings, *memberships))

    def _read(self, cursor: Cursor, found: Trace) -> None:
        """Fill in what is still unknown, by snapshot."""
        settings, memberships = found.unknown()
        user_id = found.viewer.user_id
        key = ("m.room.member", user_id)
        read: dict[int, rows.VisibilityState] = {}
        for stretch in (*settings, *memberships):
            if stretch.snapshot not in read:
                read[stretch.snapshot] = rows.state_at(cursor, stretch.snapshot, user_id)
        for stretch in settings:
            stretch.value = setting_of(read[stretch.snapshot].setting)
            self._at.put((stretch.snapshot, HISTORY_VISIBILITY), stretch.value)
        for stretch in memberships:
            stretch.value = read[stretch.snapshot].membership or "leave"
            self._at.put((stretch.snapshot, key), stretch.value)

    def _complete(self, cursor: Cursor, viewer: Viewer) -> Viewer:
        """Find out when the viewer's latest stay ended, if that is not known."""
        if viewer.joined_until is not None:
            return viewer
        stay = last_stay(membership_history(cursor, viewer.room_nid, viewer.user_id), viewer.member_nid)
        until = NEVER if stay is None else stay.position
        self._stays.put(viewer.member_nid, until)
        return evolve(viewer, joined_until=until)


def last_stay(history: Sequence[MembershipChange], upto_nid: int) -> MembershipChange | None:
    """The event that ended a user's latest stay in a room; None if it never was in it.

    `upto_nid`: the user's member event that is in force; the database may know of later ones already.
    """
    ended: MembershipChange | None = None
    joined = False
    for change in history:
        if joined and change.membership != "join":
            ended = change
        joined = change.membership == "join"
        if change.event_nid == upto_nid:
            break
    return ended


def without_ignored(seen: list[Seen], ignored: Container[str]) -> list[Seen]:
    """Leave out what ignored people said; state stays, or the room would look different to those who ignore."""
    if not ignored:
        return seen
    return [
        (stored, membership)
        for stored, membership in seen
        if stored.event.state_key is not None or stored.event.sender not in ignored
    ]
