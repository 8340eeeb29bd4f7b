"""Invitations by code: whoever has the code may come in, so often and so long as its maker said."""

from __future__ import annotations

import secrets
from typing import Final

from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import Forbidden, MatrixError, NotFound
from homeserver.guilds.attendance import Attendance
from homeserver.rooms.registry import Rooms
from storage import guild_invites as rows
from storage.database import Database
from storage.guild_invites import Invite

CODE_BYTES: Final = 9
MOST_INVITES: Final = 500
"""Of one guild, that can be used."""
NO_INVITE: Final = "There is no such invitation, or it is over"


@service
class Invites:
    """Makes, shows and redeems them."""

    database: Database
    clock: Clock
    rooms: Rooms
    attendance: Attendance

    async def make(
        self, guild_id: str, user_id: str, room_id: str | None, max_uses: int | None, lifetime_ms: int | None
    ) -> Invite:
        """Raises `M_TOO_LARGE` where the guild has too many already."""
        now = self.clock.now_ms()
        await self.database.write(rows.remove_invalid, guild_id, now)
        if len(await self.of_guild(guild_id)) >= MOST_INVITES:
            raise MatrixError(400, "M_TOO_LARGE", f"A guild has at most {MOST_INVITES} invitations")
        expires_ts = None if lifetime_ms is None else now + lifetime_ms
        invite = Invite(secrets.token_urlsafe(CODE_BYTES), guild_id, room_id, user_id, now, expires_ts, max_uses)
        await self.database.write(rows.add, invite)
        return invite

    async def of_guild(self, guild_id: str) -> list[Invite]:
        """Those that can be used, newest first."""
        return await self.database.run(rows.valid_of_guild, guild_id, self.clock.now_ms())

    async def require(self, code: str) -> Invite:
        """Raises NotFound, also for what is used up or over."""
        invite = None if "\0" in code else await self.database.run(rows.get_valid, code, self.clock.now_ms())
        if invite is None:
            raise NotFound(NO_INVITE)
        return invite

    async def remove(self, guild_id: str, code: str) -> None:
        """Raises NotFound."""
        if "\0" in code or not await self.database.write(rows.remove, guild_id, code):
            raise NotFound(NO_INVITE)

    async def redeem(self, code: str, user_id: str) -> Invite:
        """Let somebody in. Whoever is in already uses nothing up. Raises NotFound, Forbidden.

        The use is counted first, so that no two take the last one; a crash in between costs it.
        """
        invite = await self.require(code)
        room = await self.rooms.get(invite.guild_id)
        membership = None if room is None else room.membership_of(user_id)
        if room is None or membership == "join":
            return invite
        if membership == "ban":
            raise Forbidden("You are banned from this guild")
        if not await self.database.write(rows.take_use, code, self.clock.now_ms()):
            raise NotFound(NO_INVITE)
        try:
            await self.attendance.enter(invite.guild_id, user_id, is_invited=True)
        except BaseException:
            await self.database.write(rows.give_back, code)
            raise
        return invite
