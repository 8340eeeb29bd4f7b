"""Rooms that this server is in, as they are shown to those outside: what of them, and to whom.

A room is shown to whoever could come in or look in:

    somebody in it or invited           the room
    its join rule lets everybody in, or lets them ask (`public`, `knock`, `knock_restricted`)
    its join rule lets in the members of another room, and they are there (`restricted`, `knock_restricted`)
    its history is for all the world    (`world_readable`)

For another server the same holds if it does for anybody there. Who is banned can neither come in nor ask.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from federation.room.acl import ServerAcl
from federation.service import service
from homeserver.rooms.summary import RoomSummary, summarise
from homeserver.spaces.children import Child, children_of
from storage.database import Database
from storage.memberships import NAMES
from storage.ports import Cursor
from storage.previews import RoomPreview, memberships_among, read_previews, rooms_of_server
from storage.rooms import find_nids


class Shown(msgspec.Struct, frozen=True):
    """A room that somebody may be shown."""

    summary: RoomSummary
    children: Sequence[Child]


class Found(msgspec.Struct, frozen=True):
    """What is known here of a room for somebody."""

    is_here: bool = False
    """Whether this server is in it. Otherwise others know better, and `shown` is None."""
    shown: Shown | None = None
    """None where the room must not be shown."""
    membership: str | None = None
    """The user's, also in a room that this server is not in."""


UNKNOWN = Found()


@service
class LocalRooms:
    """Looks rooms up, many at a time in one crossing."""

    database: Database
    server_name: str

    async def for_user(self, room_ids: Sequence[str], user_id: str) -> Mapping[str, Found]:
        """By room id; rooms that are not known here are left out."""
        return await self.database.run(_find_for_user, room_ids, user_id, self.server_name)

    async def for_server(self, room_ids: Sequence[str], server: str) -> Mapping[str, Found]:
        return await self.database.run(_find_for_server, room_ids, server, self.server_name)

    async def joined_any(self, user_id: str, room_ids: Sequence[str]) -> bool:
        """Whether a user is in any of the rooms."""
        return bool(await self.database.run(_joined_among, room_ids, user_id))


def is_open(summary: RoomSummary) -> bool:
    """Whether everybody may be shown a room but those who are banned."""
    return summary.join_rule == "public" or summary.takes_knocks


# -- in a database thread ----------------------------------------------------------------------------------------


def _find_for_user(cursor: Cursor, room_ids: Sequence[str], user_id: str, server_name: str) -> dict[str, Found]:
    previews = _read(cursor, room_ids, server_name)
    numbers = memberships_among(cursor, [preview.room.nid for preview, _ in previews], user_id)
    allowed = _joined_among(cursor, _named(previews), user_id)
    found = {}
    for preview, summary in previews:
        membership = NAMES[numbers.get(preview.room.nid, 0)]
        is_shown = membership in ("join", "invite") or summary.world_readable
        if membership != "ban" and not is_shown:
            is_shown = is_open(summary) or _lets_in(summary, allowed)
        found[summary.room_id] = _found(preview, summary, is_shown, membership)
    return found


def _find_for_server(cursor: Cursor, room_ids: Sequence[str], server: str, server_name: str) -> dict[str, Found]:
    previews = _read(cursor, room_ids, server_name)
    here = [preview.room.nid for preview, _ in previews if preview.is_here]
    present = rooms_of_server(cursor, here, server, ("join", "invite"))
    nids = find_nids(cursor, _named(previews))
    joined = rooms_of_server(cursor, list(nids.values()), server, ("join",))
    allowed = {room_id for room_id, nid in nids.items() if nid in joined}
    found = {}
    for preview, summary in previews:
        is_shown = summary.nid in present or summary.world_readable or is_open(summary) or _lets_in(summary, allowed)
        acl = preview.room.contents.get("server_acl")
        if acl is not None and not ServerAcl.parse(acl).allows(server):
            is_shown = False
        found[summary.room_id] = _found(preview, summary, is_shown, None)
    return found


def _found(preview: RoomPreview, summary: RoomSummary, is_shown: bool, membership: str | None) -> Found:
    if not preview.is_here:
        return Found(membership=membership)
    shown = Shown(summary, children_of(preview.children)) if is_shown else None
    return Found(True, shown, membership)


def _read(cursor: Cursor, room_ids: Sequence[str], server_name: str) -> list[tuple[RoomPreview, RoomSummary]]:
    previews = read_previews(cursor, room_ids, server_name)
    return [(preview, summarise(preview.room)) for preview in previews.values()]


def _named(previews: Iterable[tuple[RoomPreview, RoomSummary]]) -> list[str]:
    """Rooms whose members are let into others."""
    return sorted({room_id for _, summary in previews for room_id in summary.allowed_room_ids})


def _lets_in(summary: RoomSummary, allowed: Collection[str]) -> bool:
    return summary.lets_in_members_of_others and any(room_id in allowed for room_id in summary.allowed_room_ids)


def _joined_among(cursor: Cursor, room_ids: Sequence[str], user_id: str) -> set[str]:
    nids = find_nids(cursor, room_ids)
    numbers = memberships_among(cursor, list(nids.values()), user_id)
    return {room_id for room_id, nid in nids.items() if NAMES[numbers.get(nid, 0)] == "join"}
