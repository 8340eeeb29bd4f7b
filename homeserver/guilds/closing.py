"""Closing rooms of the steward's: everybody is put out and forgets them. It goes on after a crash where it stopped.

the edit that takes a channel or a guild away ── mark ──► commit ──► put out, some at a time ──► the mark goes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from attrs import field
from twisted.internet.defer import Deferred

from federation.service import service
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.membership import INSIDE, MEMBER
from homeserver.rooms.registry import Rooms
from storage import directory as directory_rows
from storage import guilds as rows
from storage import memberships as membership_rows
from storage.database import Database
from storage.ports import Cursor

AT_ONCE = 200
"""People who are put out in one commit."""


@service
class Closer:
    """See the module's docstring."""

    steward: str
    door: Door
    rooms: Rooms
    database: Database
    closing: set[str] = field(factory=set)
    """Rooms that are being closed: what happens in them has no consequences any more."""

    async def start(self) -> None:
        """Take up what a crash left undone."""
        for room_id in await self.database.run(rows.closing):
            await self.close(room_id)

    def mark(self, room_ids: Iterable[str]) -> list[Callable[[Cursor], None]]:
        """What an edit writes with itself, so that these rooms are closed whatever happens then."""
        marked = list(room_ids)
        self.closing.update(marked)
        return [partial(rows.set_closing, room_id=room_id) for room_id in marked]

    async def close(self, room_id: str) -> None:
        """Put everybody out. Doing it twice is no mistake."""
        self.closing.add(room_id)
        room = await self.rooms.get(room_id)
        if room is not None:
            await self.database.write(directory_rows.unpublish, room.nid)
            inside = [
                user_id for user_id, ref in room.members() if ref.membership in INSIDE and user_id != self.steward
            ]
            inside.sort()
            for first in range(0, len(inside), AT_ONCE):
                await self._put_out(room_id, inside[first : first + AT_ONCE])
            local = [user_id for user_id in inside if user_id.endswith(f":{self.door.identity.server_name}")]
            await self.database.write(_forget, room.nid, local)
        await self.database.write(rows.set_closed, room_id)
        self.closing.discard(room_id)

    async def _put_out(self, room_id: str, people: list[str]) -> None:
        def work(drafts: Mapping[str, Draft]) -> tuple[None, list[Deferred[None]]]:
            draft = drafts[room_id]
            draft.need_members(people)
            for user_id in people:
                ref = draft.standing.state.get((MEMBER, user_id))
                if ref is not None and ref.membership in INSIDE:
                    draft.add(Template(MEMBER, self.steward, {"membership": "leave"}, user_id))
            return None, [self.door.append(draft)] if draft.new else []

        await self.door.settle_together([room_id], work)


def _forget(cursor: Cursor, room_nid: int, people: list[str]) -> None:
    for user_id in people:
        membership_rows.set_forgotten(cursor, room_nid, user_id)
