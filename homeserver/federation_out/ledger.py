"""The book-keeping of what goes out, on this server's database and rooms: events, news of devices, letters.

What a server missed is made up for with the newest events of each room, its forward extremities: everything else
comes before them, and the server asks for what it lacks. A server that is no longer in the room gets the last event
that it was to hear of, which is how it was put out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from federation.outbound.parcels import LETTERS, MAX_PDUS, Changes, Newest, Owed, Pause, Recovered
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.encryption.lists import DeviceLists, edu_json
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import destinations as rows
from storage import device_lists as device_rows
from storage import events as event_rows
from storage import memberships as membership_rows
from storage import overruled
from storage import to_device as letter_rows
from storage import visibility as visibility_rows
from storage.database import Database
from storage.destinations import Attempts, Debt
from storage.ports import Cursor, StoredEvent

SEEN_BY_ALL = ("world_readable", "shared")
MOST_LETTERS = 50
"""In one parcel that makes up for what was missed; and people of whose devices it tells, in one or two EDUs each."""
MOST_PEOPLE = 20
MOST_LETTER_BYTES = 2 * 1024 * 1024


@service
class OutboundLedger:
    """A `federation.outbound.parcels.Ledger`."""

    server_name: str
    database: Database
    rooms: Rooms
    hub: Hub
    lists: DeviceLists

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
            changes.owed += await self._news_since(after)
        if changes.owed or after is None or after < head:
            await self.save(changes)
        creditors, attempts = await self.database.run(_read)
        pauses = {name: Pause(one.failures, one.retry_at_ts) for name, one in attempts.items()}
        return Recovered(creditors, pauses)

    async def save(self, changes: Changes) -> None:
        await self.database.write(_write, changes)

    async def newest(self, destination: str, most: int) -> Sequence[Newest]:
        letters = await self.database.run(_letters, destination, min(most, MOST_LETTERS))
        people = await self.database.run(_people, destination, min(most, MOST_PEOPLE), self.lists)
        found = [*letters, *people, *await self._rooms(destination, most)]
        return found[:1] if most == 1 else found

    async def _news_since(self, after: int) -> list[Owed]:
        """Whom to tell of the devices that changed after a position."""
        changed, where = await self.database.run(_changed_people, after)
        owed: list[Owed] = []
        for user_id, position in changed:
            live = await self.rooms.get_many(where.get(user_id, ()))
            servers = {server for room in live.values() for server in room.servers} - {self.server_name}
            owed += [Owed(server, user_id, position) for server in sorted(servers)]
        return owed

    async def _rooms(self, destination: str, max_pdus: int) -> Sequence[Newest]:
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
    creditors = {*rows.all_creditors(cursor), *letter_rows.destinations(cursor)}
    return sorted(creditors), rows.all_attempts(cursor)


def _changed_people(cursor: Cursor, after: int) -> tuple[list[tuple[str, int]], dict[str, frozenset[int]]]:
    changed = device_rows.updated_since(cursor, after)
    return changed, membership_rows.joined_rooms(cursor, [user_id for user_id, _ in changed])


def _letters(cursor: Cursor, destination: str, most: int) -> list[Newest]:
    waiting = letter_rows.posted(cursor, destination, most)
    size = 0
    for number, letter in enumerate(waiting):
        size += len(letter.json)
        if number and size > MOST_LETTER_BYTES:
            waiting = waiting[:number]
            break
    if not waiting:
        return []
    return [Newest(LETTERS, waiting[-1].position, edus=[letter.json for letter in waiting])]


def _people(cursor: Cursor, destination: str, most: int, lists: DeviceLists) -> list[Newest]:
    return [
        Newest(debt.user_id, debt.position, edus=[edu_json(*edu) for edu in lists.catch_up(cursor, debt.user_id)])
        for debt in rows.device_debts_to(cursor, destination, most)
    ]


def _write(cursor: Cursor, changes: Changes) -> None:
    rows.clear(cursor, changes.cleared)
    rows.settle(cursor, _about("!", changes.settled))
    rows.settle_devices(cursor, _about("@", changes.settled))
    for letters in changes.settled:
        if letters.topic == LETTERS:
            letter_rows.delete_posted(cursor, letters.destination, letters.position)
    rows.owe(cursor, _about("!", changes.owed))
    rows.owe_devices(cursor, _about("@", changes.owed))
    attempts = {
        name: None if pause is None else Attempts(pause.failures, pause.until_ms)
        for name, pause in changes.pauses.items()
    }
    if attempts:
        rows.write_attempts(cursor, attempts)
    if changes.sent_upto is not None:
        rows.write_upto(cursor, changes.sent_upto)


def _about(sigil: str, debts: Iterable[Owed]) -> list[tuple[str, str, int]]:
    """Those that are about rooms, or about people."""
    return [(owed.destination, owed.topic, owed.position) for owed in debts if owed.topic.startswith(sigil)]


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
            chosen.update((stored.nid, stored) for stored in _at(cursor, debt.room_nid, debt.position))
        if debt.room_nid not in extremities:
            # It is out: something that was meant for it since may stand in the place of what put it out.
            last = overruled.last_event(cursor, debt.room_nid, destination)
            ended = [] if last is None else _at(cursor, debt.room_nid, last.position)
            chosen.update((stored.nid, stored) for stored in ended if _is_about(stored, destination))
        in_order = sorted(chosen.values(), key=lambda stored: stored.position)
        answer.append((debt, is_whole, [stored.event.raw for stored in in_order]))
    return answer


def _at(cursor: Cursor, room_nid: int, position: int) -> Sequence[StoredEvent]:
    return event_rows.timeline(cursor, room_nid, after=position - 1, upto=position, limit=1)


def _is_about(stored: StoredEvent, server: str) -> bool:
    """Whether an event says of somebody of a server that they are in a room, or are not."""
    return stored.event.type == "m.room.member" and (stored.event.state_key or "").endswith(f":{server}")


def _may_see(cursor: Cursor, destination: str, stored: StoredEvent) -> bool:
    """Whether a server that is in the room now may see an event of it that others sent, perhaps before it came."""
    setting = visibility_rows.setting_at(cursor, stored.before)
    if setting in SEEN_BY_ALL or setting is None:
        return True
    wanted = {"join", "invite"} if setting == "invited" else {"join"}
    return not wanted.isdisjoint(visibility_rows.memberships_of_server(cursor, stored.after, destination))
