"""Moving a room to another version: a new room like the old one, and a tombstone in the old one that leads there.

    1. the new room is made, with what can be taken over of the old one's state
    2. the tombstone; with it, in one transaction, the aliases and the place in the directory move
    3. what may fail without harm: the old room falls silent, bans and the main alias come along

What people keep for themselves about the old room comes along when each of them joins the new one
(`homeserver.userdata.heirlooms`).

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-upgrades
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from federation.room.auth import PowerLevels
from federation.room.auth.power_levels import SETTINGS
from federation.room.identifiers import InvalidIdentifier, parse_user_id
from federation.room.retention import RETENTION_TYPES
from federation.room.versions import RoomVersion, get_room_version
from federation.service import service
from homeserver.errors import BadJson, Forbidden, MatrixError
from homeserver.rooms.accept import Door
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.aliases import advertised
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.create import TOMBSTONE_LEVEL, RoomMaker
from homeserver.rooms.directory import Directory
from homeserver.rooms.live import CANONICAL_ALIAS, LiveRoom
from homeserver.rooms.membership import MEMBER, in_room, member_content
from storage import aliases as alias_rows
from storage import directory as directory_rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent

TOMBSTONE = "m.room.tombstone"
POWER_LEVELS = "m.room.power_levels"
JOIN_RULES = "m.room.join_rules"

TAKEN_OVER = (
    JOIN_RULES,
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.policy",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    *RETENTION_TYPES,
    # COMPAT Cinny, Sable: what the levels are called.
    "m.room.power_level_tags",
    "in.cinny.room.power_level_tags",
)
"""State that says the same whoever sends it."""
SPACE_LINKS = ("m.space.child", "m.space.parent")
# COMPAT FluffyChat, Sable: image packs by their older name.
TAKEN_OVER_KEYED = (*SPACE_LINKS, "m.room.image_pack", "im.ponies.room_emotes")
"""The same, where there may be several, by state key."""

BANS_AT_ONCE = 100

log = structlog.get_logger("homeserver.rooms")


@service
class Upgrades:
    """Moves rooms."""

    door: Door
    database: Database
    access: RoomAccess
    maker: RoomMaker
    directory: Directory

    async def upgrade(
        self, user_id: str, room_id: str, new_version: str, additional_creators: Sequence[str] = ()
    ) -> str:
        """Answers the id of the new room when the old one leads there.

        Raises `M_UNSUPPORTED_ROOM_VERSION`, BadJson, and Forbidden for whom the old room does not let.
        """
        version = get_room_version(new_version)
        if version is None:
            raise MatrixError(400, "M_UNSUPPORTED_ROOM_VERSION", f"This server has no room version {new_version!r}")
        creators = _creators(additional_creators) if version.privileged_creators else []
        old = await self.access.member_of_whole(room_id, user_id)
        if not _may_send(await self.door.power_levels(old), user_id, TOMBSTONE):
            raise Forbidden("You may not upgrade this room")
        state = await self._state(old)
        levels = _levels(await self.door.power_levels(old), version, user_id, creators)
        new_id = await self._make(user_id, old, version, creators, state, levels)
        await self._bury(user_id, old, new_id)
        await self._silence(user_id, old)
        await self._move_main_alias(user_id, old, new_id)
        await self._move_bans(user_id, old, new_id)
        return new_id

    # -- the new room ------------------------------------------------------------------------------------------

    async def _state(self, old: LiveRoom) -> list[StoredEvent]:
        """What of the old room's state is taken over, in the order in which it is set."""
        keys = [(event_type, "") for event_type in TAKEN_OVER]
        keys += sorted(key for key in old.frame if key[0] in TAKEN_OVER_KEYED)
        nids = [ref.nid for key in keys if (ref := old.frame.get(key)) is not None]
        found = await self.door.events.get_many(nids)
        return [found[nid] for nid in nids if nid in found]

    async def _make(
        self,
        user_id: str,
        old: LiveRoom,
        version: RoomVersion,
        creators: Sequence[str],
        state: Sequence[StoredEvent],
        levels: dict[str, Any],
    ) -> str:
        predecessor: dict[str, Any] = {"room_id": old.room_id}
        if not version.room_id_is_hash:
            predecessor["event_id"] = old.visible.head.extremities[-1]
        creation: dict[str, Any] = {"predecessor": predecessor}
        for key in ("type", "m.federate"):
            if key in old.create.content:
                creation[key] = old.create.content[key]
        if creators:
            creation["additional_creators"] = list(creators)
        profile = await member_content(self.maker.profiles, user_id, "join")
        # Whoever upgrades may have too little power for some of what is to be set: until that is done, it has enough.
        first = _with_power_for_all(levels, user_id, version)
        templates = [Template(MEMBER, user_id, profile, user_id), Template(POWER_LEVELS, user_id, first, "")]
        for stored in state:
            content = _taken_over(stored, version)
            if content is not None:
                templates.append(Template(stored.event.type, user_id, content, stored.event.state_key))
        if first != levels:
            templates.append(Template(POWER_LEVELS, user_id, levels, ""))
        return await self.maker.make(user_id, version, creation, templates)

    # -- the old room ------------------------------------------------------------------------------------------

    async def _bury(self, user_id: str, old: LiveRoom, new_id: str) -> None:
        """The tombstone, and with it what leads to the room by name."""

        def check(draft: Draft) -> None:
            in_room(user_id)(draft)
            if not _may_send(draft.power_levels(), user_id, TOMBSTONE):
                raise Forbidden("You may not upgrade this room")

        content = {"body": "This room has been replaced", "replacement_room": new_id}
        new = await self.access.rooms.require(new_id)
        move = [
            partial(_move_aliases, old_id=old.room_id, new_id=new_id),
            partial(_move_listing, old_nid=old.nid, new_nid=new.nid),
        ]
        await self.door.send(old.room_id, [Template(TOMBSTONE, user_id, content, "")], also=move, check=check)
        self.directory.moved(old.nid, new.nid)

    async def _silence(self, user_id: str, old: LiveRoom) -> None:
        """Nobody without special power speaks in the old room any more, or invites there."""
        ref = old.visible.state.get((POWER_LEVELS, ""))
        stored = None if ref is None else await self.door.events.get(ref.nid)
        if stored is None:
            return
        levels = await self.door.power_levels(old)
        least = max(50, levels.users_default + 1)
        content = dict(stored.event.content)
        if levels.events_default < least:
            content["events_default"] = least
        if levels.invite < least:
            content["invite"] = least
        if content != stored.event.content:
            await self._try(old.room_id, [Template(POWER_LEVELS, user_id, content, "")], user_id)

    async def _move_main_alias(self, user_id: str, old: LiveRoom, new_id: str) -> None:
        """What the old room called itself by, as far as those names lead to the new one now."""
        ref = old.visible.state.get(CANONICAL_ALIAS)
        stored = None if ref is None else await self.door.events.get(ref.nid)
        if stored is None:
            return
        moved = set(await self.database.run(alias_rows.of_room, new_id))
        if moved.isdisjoint(advertised(stored.event.content)):
            return
        gone, kept = _split(stored.event.content, moved)
        await self._try(new_id, [Template("m.room.canonical_alias", user_id, gone, "")], user_id)
        await self._try(old.room_id, [Template("m.room.canonical_alias", user_id, kept, "")], user_id)

    async def _move_bans(self, user_id: str, old: LiveRoom, new_id: str) -> None:
        banned = sorted(
            (target, ref.nid) for target, ref in old.members() if ref.membership == "ban" and target != user_id
        )
        for start in range(0, len(banned), BANS_AT_ONCE):
            some = banned[start : start + BANS_AT_ONCE]
            events = await self.door.events.get_many([nid for _, nid in some])
            templates = []
            for target, nid in some:
                content: dict[str, Any] = {"membership": "ban"}
                reason = events[nid].event.content.get("reason") if nid in events else None
                if isinstance(reason, str):
                    content["reason"] = reason
                templates.append(Template(MEMBER, user_id, content, target))
            await self._try(new_id, templates, user_id)

    async def _try(self, room_id: str, templates: Sequence[Template], user_id: str) -> None:
        try:
            await self.door.send(room_id, templates, check=in_room(user_id))
        except MatrixError as error:
            log.info("a step of an upgrade was not allowed", room=room_id, type=templates[0].type, why=error.error)


def _creators(named: Sequence[str]) -> list[str]:
    try:
        return [parse_user_id(user_id) for user_id in dict.fromkeys(named)]
    except InvalidIdentifier as error:
        raise BadJson(f"`additional_creators`: {error}") from None


def _may_send(levels: PowerLevels, user_id: str, event_type: str) -> bool:
    return levels.user(user_id) >= levels.event(event_type, True)


def _levels(old: PowerLevels, version: RoomVersion, user_id: str, creators: Sequence[str]) -> dict[str, Any]:
    """The old room's levels in the form of the new version."""
    users = dict(old.users)
    events = dict(old.events)
    if version.privileged_creators:
        for creator in (user_id, *creators):
            users.pop(creator, None)
        # Upgrading again is for the creators, as it is in rooms that are made so.
        events[TOMBSTONE] = max(events.get(TOMBSTONE, TOMBSTONE_LEVEL), TOMBSTONE_LEVEL)
    elif user_id in old.creators:
        # It stood above all levels, and there is no such place in the new version.
        users[user_id] = 100
        events[TOMBSTONE] = min(events.get(TOMBSTONE, 100), 100)
    return {
        **{name: getattr(old, name) for name in SETTINGS},
        "users": users,
        "events": events,
        **({"notifications": dict(old.notification_levels)} if old.notification_levels else {}),
    }


def _with_power_for_all(levels: dict[str, Any], user_id: str, version: RoomVersion) -> dict[str, Any]:
    """The same, but for whoever has to set everything up."""
    if version.privileged_creators:
        return levels
    needed = max(100, *(levels[name] for name in SETTINGS), *levels["events"].values(), *levels["users"].values())
    return {**levels, "users": {**levels["users"], user_id: needed}}


def _taken_over(stored: StoredEvent, version: RoomVersion) -> dict[str, Any] | None:
    """The content in the new room; None for what means nothing there."""
    content = dict(stored.event.content)
    if stored.event.type in SPACE_LINKS and not content.get("via"):
        return None  # one that was taken away
    if stored.event.type == JOIN_RULES:
        known = {
            "knock": version.knock,
            "restricted": version.restricted,
            "knock_restricted": version.knock_restricted,
        }
        if not known.get(str(content.get("join_rule")), True):
            return {"join_rule": "invite"}
    return content


def _split(content: Mapping[str, Any], moved: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a canonical alias with those names that have moved, and with the others."""
    alias, others = content.get("alias"), content.get("alt_aliases")
    listed = [other for other in others if isinstance(other, str)] if isinstance(others, list) else []
    parts: list[dict[str, Any]] = []
    for is_moved in (True, False):
        part: dict[str, Any] = {}
        if isinstance(alias, str) and (alias in moved) == is_moved:
            part["alias"] = alias
        if names := [other for other in listed if (other in moved) == is_moved]:
            part["alt_aliases"] = names
        parts.append(part)
    return parts[0], parts[1]


# -- in the writer's thread --------------------------------------------------------------------------------------


def _move_aliases(cursor: Cursor, old_id: str, new_id: str) -> None:
    alias_rows.move(cursor, old_id, new_id)


def _move_listing(cursor: Cursor, old_nid: int, new_nid: int) -> None:
    if directory_rows.is_published(cursor, old_nid):
        directory_rows.unpublish(cursor, old_nid)
        directory_rows.publish(cursor, new_nid)
