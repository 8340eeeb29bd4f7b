"""What happens to direct rooms by whatever way: other servers, and clients that know nothing of friends.

    invited to one       noted; a friend request, if the invitation says so
    inviting to one      noted
    came into one        in `m.direct`; and if it was a friend request, that is a yes
    left, or was put out, or the invitation ended      gone from all that
    the other came, went or said something             what the two are to each other may have changed

Rooms with more people in them are none of its business, and cost nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog
from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from federation.room.event import Event
from homeserver.errors import MatrixError
from homeserver.friends.direct import DirectRooms
from homeserver.friends.halves import FRIEND, REQUEST
from homeserver.guilds.steward import is_steward
from homeserver.rooms.accept import Accepted
from homeserver.rooms.membership import MEMBER
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage import friends as rows
from storage.database import Database
from storage.ports import StateChange, StoredEvent

log = structlog.get_logger("homeserver.friends")

PAUSES_S = (1.0, 5.0, 30.0, 300.0)
"""Before it is tried again to come into a room that somebody invites to: who has just sent the invitation away does not
know of it yet."""

Step = tuple[str, str]
"""(what, whose membership it is about)"""


@define(eq=False)
class Watch:
    """An observer of the door, and of rooms that this server is not in."""

    server_name: str
    direct: DirectRooms
    database: Database
    hub: Hub
    tasks: Tasks
    timers: IReactorTime
    _busy: int = field(default=0, init=False)

    async def start(self) -> None:
        """Heed what a crash left out."""
        for one in await self.database.run(rows.unheeded):
            await self._try(self._refresh, one.user_id, one.other_id, one.room_id, "")
        await self.tidy()

    async def tidy(self) -> None:
        """Note how far everything is heeded. To be called now and then."""
        if not self._busy:
            await self.database.write(rows.set_upto, self.hub.position)

    def accepted(self, accepted: Accepted) -> None:
        room = accepted.room
        if is_steward(room.create.sender) or (room.joined_count or 0) > 2:
            return
        steps: dict[Step, None] = {}
        by, invitation = "", None
        for new in accepted.events:
            event = new.stored.event
            for change in new.changes:
                if change.key[0] in (FRIEND, MEMBER):
                    by = event.sender
                    steps.update(dict.fromkeys(self._steps(change)))
            if event.type == MEMBER and _is_direct_invitation(new.stored):
                invitation = event
        for change in accepted.changes or ():
            steps.update(dict.fromkeys(self._steps(change)))
        if steps or invitation is not None:
            self._spawn(self._follow(room.room_id, list(steps), by, invitation))

    def membership_outside(self, stored: StoredEvent, position: int) -> None:
        event = stored.event
        user_id = event.state_key or ""
        if _is_direct_invitation(stored):
            self._spawn(self._follow(event.room_id, [], event.sender, event))
        elif event.content.get("membership") in ("leave", "ban"):
            self._spawn(self._follow(event.room_id, [("left", user_id)], event.sender, None))

    def _steps(self, change: StateChange) -> list[Step]:
        """What a change of state may mean."""
        kind, user_id = change.key
        if kind == FRIEND:
            return [("changed", "")]
        if kind != MEMBER:
            return []
        before = None if change.old is None else change.old.membership
        after = None if change.new is None else change.new.membership
        if before == after:
            return []
        if self._is_ours(user_id) and after == "join":
            return [("came", user_id), ("changed", "")]
        if self._is_ours(user_id) and after != "invite":
            return [("left", user_id), ("changed", "")]
        return [("changed", "")]

    async def _follow(self, room_id: str, steps: list[Step], by: str, invitation: Event | None) -> None:
        if invitation is not None:
            await self._heed(room_id, invitation.sender, invitation.state_key or "", invitation)
        for what, user_id in steps:
            for one in await self.database.run(rows.of_room, room_id):
                if what == "changed":
                    await self._try(self._refresh, one.user_id, one.other_id, room_id, by)
                elif one.user_id == user_id and what == "came":
                    await self._try(self._came, user_id, one.other_id, room_id)
                elif one.user_id == user_id:
                    work = partial(self.direct.left, user_id, one.other_id, room_id, by)
                    await self._alone(user_id, one.other_id, work)

    async def _heed(self, room_id: str, inviter: str, user_id: str, invitation: Event) -> None:
        """Somebody was invited to a direct room."""
        if self._is_ours(inviter):
            await self._alone(inviter, user_id, partial(self.direct.inviting, inviter, user_id, room_id))
        if self._is_ours(user_id):
            asks = invitation.content.get(REQUEST) is True
            await self._alone(user_id, inviter, partial(self.direct.invited, user_id, inviter, room_id, asks=asks))
            await self._give_way(user_id, inviter, PAUSES_S)

    async def _give_way(self, user_id: str, other_id: str, pauses_s: Sequence[float]) -> None:
        try:
            await self.direct.alone(user_id, other_id, partial(self.direct.give_way, user_id, other_id))
        except MatrixError as error:
            log.info("a direct room could not give way to another", user=user_id, why=error.error)
            if pauses_s:
                again = partial(self._give_way, user_id, other_id, pauses_s[1:])
                self.timers.callLater(pauses_s[0], lambda: self._spawn(again()))

    async def _came(self, user_id: str, other_id: str, room_id: str) -> None:
        await self.direct.alone(user_id, other_id, partial(self.direct.welcome, user_id, other_id, room_id))

    async def _refresh(self, user_id: str, other_id: str, room_id: str, by: str) -> None:
        await self.direct.alone(user_id, other_id, partial(self.direct.refresh, user_id, other_id, room_id, by))

    async def _alone(self, user_id: str, other_id: str, work: Callable[[], Awaitable[None]]) -> None:
        await self._try(self.direct.alone, user_id, other_id, work)

    async def _try(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        try:
            await work(*arguments)
        except MatrixError as error:
            log.info("a direct room could not be looked after", why=error.error)

    def _spawn(self, work: object) -> None:
        self._busy += 1
        self.tasks.spawn("friends", self._counted(work))

    async def _counted(self, work: object) -> None:
        try:
            await work  # type: ignore[misc]
        finally:
            self._busy -= 1

    def _is_ours(self, user_id: str) -> bool:
        return user_id.partition(":")[2] == self.server_name


def _is_direct_invitation(stored: StoredEvent) -> bool:
    content = stored.event.content
    return content.get("membership") == "invite" and content.get("is_direct") is True
