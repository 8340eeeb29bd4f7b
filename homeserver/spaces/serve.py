"""A space and what is directly below it, for other servers.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

from typing import Any

from federation.service import service
from homeserver.errors import NotFound
from homeserver.spaces.local import LocalRooms

MOST_CHILDREN = 500
"""In one answer, which has no pages."""


@service
class SpaceService:
    """Shows the rooms of this server to others."""

    local: LocalRooms

    async def tell(self, origin: str, room_id: str, suggested_only: bool) -> dict[str, Any]:
        """Raises NotFound where there is no such room, and where nobody of that server could see it."""
        found = (await self.local.for_server([room_id], origin)).get(room_id)
        if found is None or found.shown is None:
            raise NotFound("There is no such room here, or it is none that your server may know of")
        children = [child for child in found.shown.children if child.suggested or not suggested_only][:MOST_CHILDREN]
        below = await self.local.for_server([child.room_id for child in children], origin)
        shown = []
        inaccessible = []
        for child in children:
            one = below.get(child.room_id)
            if one is None or not one.is_here:
                continue  # others may know it
            if one.shown is None:
                inaccessible.append(child.room_id)
            else:
                shown.append(one.shown.summary.to_json(whole=True))
        room = {**found.shown.summary.to_json(whole=True), "children_state": [child.event for child in children]}
        return {"room": room, "children": shown, "inaccessible_children": inaccessible}
