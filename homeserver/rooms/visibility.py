"""Which events of a page a reader may see: the service that knows, from memory where it can.

The rules, and how a page is traced, are in `homeserver.rooms.tracing`. Snapshots never change, so what is read once
about one is remembered.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import msgspec

from federation.room.event import StateKey
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import HISTORY_VISIBILITY, LiveRoom
from homeserver.rooms.tracing import (
    NEVER,
    SHARED,
    STILL,
    WORLD_READABLE,
    Replaced,
    Seen,
    Trace,
    Viewer,
    setting_in,
    setting_of,
    trace,
)
from storage import visibility as rows
from storage.database import Database
from storage.memberships import MembershipChange, membership_history
from storage.ports import Cursor, StoredEvent
from storage.shared import Memory


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

    async def sees_all_of(self, rooms: Sequence[LiveRoom], user_id: str) -> set[int]:
        """In which rooms (nids) a user may see everything, because it is a member and nothing there ever was closed to
        members. Where it is not that simple, the room is left out.
        """
        joined = [room for room in rooms if room.membership_of(user_id) == "join"]
        unknown = {room.nid: room.related.changes for room in joined if room.always_open is None}
        found = {room.nid for room in joined if room.always_open}
        if unknown:
            settings = await self._database.run(rows.settings_ever, list(unknown))
            for room in joined:
                if room.nid not in unknown:
                    continue
                is_open = all(setting_of(value) in (SHARED, WORLD_READABLE) for value in settings[room.nid])
                if is_open:
                    found.add(room.nid)
                if unknown[room.nid] == room.related.changes:
                    room.always_open = is_open
        return found

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
        return msgspec.structs.replace(viewer, joined_until=until)


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
    return [one for one in seen if not is_ignored(one[0], ignored)] if ignored else seen


def is_ignored(stored: StoredEvent, ignored: Container[str]) -> bool:
    return stored.event.sender in ignored and stored.event.state_key is None


def _cannot_say(stored: StoredEvent) -> Replaced:
    return "unknown"
