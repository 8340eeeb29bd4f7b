"""The book-keeping of what goes out, on this server's database and rooms.

What a server missed is made up for with the newest events of each room, its forward extremities: everything else
comes before them, and the server asks for what it lacks. A server that is no longer in the room gets the last event
that it was to hear of, which is how it was put out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from federation.outbound.parcels import MAX_PDUS, Changes, Newest, Owed, Pause, Recovered
from federation.room.identifiers import server_of
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import destinations as rows
from storage import events as event_rows
from storage import visibility as visibility_rows
from storage.database import Database
from storage.destinations import Attempts, Debt
from storage.ports import Cursor, StoredEvent

SEEN_BY_ALL = ("world_readable", "shared")


@frozen
class OutboundLedger:
    """A `federation.outbound.parcels.Ledger`."""

    server_name: str
    database: Database
    rooms: Rooms
    hub: Hub

    async def recover(self, head: int) -> Recovered:
        after = await self.database.run(rows.read_upto)
        changes = Changes(sent_upto=head)
        if after is not None and after < head:
            unsent = await self.database.run(rows.unsent, self.server_name, after, head)
            for room in unsent:
                # One at a time: there may be more of them than should be in memory together.
                live = (await self.rooms.get_many([room.room_nid])).get(room.room_nid)
                owed = dict(room.departed)
                if live is not None:
                    owed.update(dict.fromkeys(live.servers, room.position))
                owed.pop(self.server_name, None)
                changes.owed += [Owed(server, room.room_id, position) for server, position in sorted(owed.items())]
        if changes.owed or after is None or after < head:
            await self.save(changes)
        creditors, attempts = await self.database.run(_read)
        pauses = {name: Pause(one.failures, one.retry_at_ts) for name, one in attempts.items()}
        return Recovered(creditors, pauses)

    async def save(self, changes: Changes) -> None:
        await self.database.write(_write, changes)

    async def newest(self, destination: str, max_pdus: int) -> Sequence[Newest]:
        debts = await self.database.run(rows.debts_to, destination, min(max_pdus, MAX_PDUS))
        if not debts:
            return []
        # What is visible from now on holds everything up to here, whichever of the rooms is read first.
        upto = self.hub.position
        live = await self.rooms.get_many([debt.room_nid for debt in debts])
        extremities: dict[int, tuple[str, ...]] = {}
        for debt in debts:
            room = live.get(debt.room_nid)
            if room is not None and destination in room.servers:
                extremities[debt.room_nid] = room.visible.head.extremities
        found: list[Newest] = []
        count = 0
        for debt, is_whole, pdus in await self.database.run(_newest, destination, debts, extremities):
            pdus = pdus[-MAX_PDUS:]
            if found and count + len(pdus) > max_pdus:
                break
            count += len(pdus)
            found.append(Newest(debt.room_id, max(upto, debt.position) if is_whole else debt.position, pdus))
        return found


# -- in a database thread ----------------------------------------------------------------------------------------


def _read(cursor: Cursor) -> tuple[list[str], dict[str, Attempts]]:
    return rows.all_creditors(cursor), rows.all_attempts(cursor)


def _write(cursor: Cursor, changes: Changes) -> None:
    rows.clear(cursor, changes.cleared)
    rows.settle(cursor, [(owed.destination, owed.room_id, owed.position) for owed in changes.settled])
    rows.owe(cursor, [(owed.destination, owed.room_id, owed.position) for owed in changes.owed])
    attempts = {
        name: None if pause is None else Attempts(pause.failures, pause.until_ms)
        for name, pause in changes.pauses.items()
    }
    if attempts:
        rows.write_attempts(cursor, attempts)
    if changes.sent_upto is not None:
        rows.write_upto(cursor, changes.sent_upto)


def _newest(
    cursor: Cursor, destination: str, debts: Sequence[Debt], extremities: Mapping[int, tuple[str, ...]]
) -> list[tuple[Debt, bool, list[bytes]]]:
    """What to send for each debt, in the order of positions, and whether everything in the room comes before it."""
    ids = [event_id for event_ids in extremities.values() for event_id in event_ids]
    by_id = event_rows.load_by_ids(cursor, ids)
    answer = []
    for debt in debts:
        chosen: dict[int, StoredEvent] = {}
        is_whole = debt.room_nid in extremities
        for event_id in extremities.get(debt.room_nid, ()):
            stored = by_id.get(event_id)
            if stored is None or not _may_see(cursor, destination, stored):
                is_whole = False
            elif server_of(stored.event.sender) != destination:  # what comes from there is known there
                chosen[stored.nid] = stored
        if not is_whole:
            for stored in event_rows.timeline(
                cursor, debt.room_nid, after=debt.position - 1, upto=debt.position, limit=1
            ):
                chosen[stored.nid] = stored
        in_order = sorted(chosen.values(), key=lambda stored: stored.position)
        answer.append((debt, is_whole, [stored.event.raw for stored in in_order]))
    return answer


def _may_see(cursor: Cursor, destination: str, stored: StoredEvent) -> bool:
    """Whether a server that is in the room now may see an event of it that others sent, perhaps before it came."""
    setting = visibility_rows.setting_at(cursor, stored.before)
    if setting in SEEN_BY_ALL or setting is None:
        return True
    wanted = {"join", "invite"} if setting == "invited" else {"join"}
    return not wanted.isdisjoint(visibility_rows.memberships_of_server(cursor, stored.after, destination))
