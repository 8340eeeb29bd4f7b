"""What is left to do when an account ends: leave every room and, if asked, take back all that was said.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from federation.service import service
from homeserver.errors import MatrixError
from homeserver.rooms.events import EventCache
from homeserver.rooms.membership import Memberships
from homeserver.rooms.pruning import prune
from homeserver.rooms.registry import Rooms
from homeserver.rooms.send import Sender
from homeserver.rooms.transactions import TransactionLog
from homeserver.streams.hub import Hub
from storage import events as event_rows
from storage.database import Database
from storage.ports import StoredEvent

PAGE = 200


@service
class Departures:
    """Listens to accounts (`homeserver.accounts.ports`)."""

    database: Database
    rooms: Rooms
    events: EventCache
    sender: Sender
    memberships: Memberships
    hub: Hub
    transactions: TransactionLog

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nothing to do for those who come."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        if erase:
            await self._erase(user_id)
        await self.memberships.leave_all(user_id)
        if erase:
            await self._erase(user_id)  # the member events of leaving, too

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        for device_id in device_ids:
            self.transactions.forget_device(user_id, device_id)

    async def _erase(self, user_id: str) -> None:
        """Redact the person's messages and the state that is about the person: for everybody where it still is a
        member, and in this server's own copy where it has left. Other state stays: a room keeps the name that the
        person gave it.
        """
        after = 0
        while True:
            page = await self.database.run(event_rows.events_of_sender, user_id, after_nid=after, limit=PAGE)
            if not page:
                return
            after = page[-1][0]
            by_room: dict[int, list[StoredEvent]] = defaultdict(list)
            for stored in (await self.events.get_many([nid for nid, _, _ in page])).values():
                if _is_personal(stored, user_id):
                    by_room[stored.room_nid].append(stored)
            for room_nid, targets in by_room.items():
                await self._erase_in(room_nid, user_id, targets)

    async def _erase_in(self, room_nid: int, user_id: str, targets: Sequence[StoredEvent]) -> None:
        room = (await self.rooms.get_many([room_nid])).get(room_nid)
        if room is None:
            return
        if room.membership_of(user_id) == "join":
            try:
                await self.sender.redact_own(user_id, room.room_id, targets)
                return
            except MatrixError:
                pass  # the room does not let the person speak any more
        await prune(self.database, self.events, self.hub, room, targets, redacted_by=0)


def _is_personal(stored: StoredEvent, user_id: str) -> bool:
    event = stored.event
    if event.state_key is None:
        return event.type != "m.room.redaction"
    return event.state_key == user_id  # its memberships, where it is, what it calls itself there
