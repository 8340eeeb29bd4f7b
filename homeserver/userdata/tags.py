"""Tags: how a person sorts their rooms. Kept as `m.tag`, account data of the room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-tagging
"""

from __future__ import annotations

from typing import Any

import orjson

from federation.service import service
from homeserver.errors import BadJson, InvalidParam
from homeserver.userdata.account_data import AccountData

TAG = "m.tag"
MAX_NAME_BYTES = 255
MAX_TAGS = 100
"""On one room: many times what anybody can tell apart."""


@service
class Tags:
    """One person's tags on rooms."""

    account_data: AccountData

    async def of_room(self, user_id: str, room_nid: int) -> dict[str, Any]:
        """Name → what is said of it (`order`)."""
        content = await self.account_data.get(user_id, room_nid, TAG)
        return {} if content is None else _tags_in(orjson.loads(content))

    async def put(self, user_id: str, room_nid: int, name: str, about: dict[str, Any]) -> None:
        """Add a tag, or change what is said of it. Raises InvalidParam or BadJson."""
        if not name or len(name.encode()) > MAX_NAME_BYTES:
            raise InvalidParam(f"A tag's name has from 1 to {MAX_NAME_BYTES} bytes")
        order = about.get("order")
        if order is not None and (isinstance(order, bool) or not isinstance(order, int | float)):
            raise BadJson("`order` must be a number")
        if name not in (tags := await self.of_room(user_id, room_nid)) and len(tags) >= MAX_TAGS:
            raise InvalidParam(f"A room has at most {MAX_TAGS} tags")

        def add(content: dict[str, Any]) -> dict[str, Any]:
            return {**content, "tags": {**_tags_in(content), name: about}}

        await self.account_data.edit(user_id, room_nid, TAG, add)

    async def remove(self, user_id: str, room_nid: int, name: str) -> None:
        """Take a tag away. One that is not there is no error."""

        def take_away(content: dict[str, Any]) -> dict[str, Any] | None:
            tags = _tags_in(content)
            if name not in tags:
                return None
            del tags[name]
            return {**content, "tags": tags}

        await self.account_data.edit(user_id, room_nid, TAG, take_away)


def _tags_in(content: dict[str, Any]) -> dict[str, Any]:
    """A copy of the tags. A client may have written any JSON there as account data."""
    tags = content.get("tags")
    return dict(tags) if isinstance(tags, dict) else {}
