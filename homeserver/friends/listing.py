"""`m.direct` kept right: the account data by which clients know whom a room is a direct one with.

Spec: https://spec.matrix.org/v1.19/client-server-api/#direct-messaging
"""

from __future__ import annotations

from typing import Any

from federation.service import service
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.heirlooms import DIRECT


@service
class DirectList:
    """Changes people's lists; what clients put there besides is left as it is."""

    account_data: AccountData

    async def add(self, user_id: str, other_id: str, room_id: str) -> None:
        """A room is the one of these two: clients take the first of several."""

        def edit(content: dict[str, Any]) -> dict[str, Any] | None:
            listed = content.get(other_id)
            rooms = listed if isinstance(listed, list) else []
            return None if room_id in rooms else {**content, other_id: [room_id, *rooms]}

        await self.account_data.edit(user_id, GLOBAL, DIRECT, edit)

    async def remove(self, user_id: str, other_id: str, room_id: str) -> None:
        """It is none any more."""

        def edit(content: dict[str, Any]) -> dict[str, Any] | None:
            listed = content.get(other_id)
            if not isinstance(listed, list) or room_id not in listed:
                return None
            rooms = [one for one in listed if one != room_id]
            others = {name: value for name, value in content.items() if name != other_id}
            return {**others, other_id: rooms} if rooms else others

        await self.account_data.edit(user_id, GLOBAL, DIRECT, edit)
