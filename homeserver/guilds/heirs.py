"""When an account ends, the guilds that it owned get another owner: the member who ranks highest."""

from __future__ import annotations

from federation.service import service
from homeserver.guilds.book import GuildBook
from homeserver.guilds.editor import Edit, Editor
from storage.database import Database
from storage.memberships import rooms_of


@service
class Heirs:
    """Listens to accounts (`homeserver.accounts.ports`), before their memberships end."""

    editor: Editor
    book: GuildBook
    database: Database

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nothing to do for those who come."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        def work(edit: Edit) -> None:
            if edit.guild.is_owner(user_id):
                edit.hand_over(edit.highest())

        for found in await self.database.run(rooms_of, user_id, ["join"]):
            room = await self.book.rooms.get(found.room_id)
            guild = None if room is None else await self.book.find(room)
            if room is not None and room.create.sender == self.editor.steward and guild and guild.is_owner(user_id):
                await self.editor.edit(found.room_id, self.editor.steward, work)
