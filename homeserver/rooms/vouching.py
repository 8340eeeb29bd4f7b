"""Who lets somebody into a restricted room: a member here who may invite, for those who are in the right other room.

Spec: https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import field

from federation.room.auth import PowerLevels
from federation.room.identifiers import server_of
from federation.service import service
from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.accept import Door
from homeserver.rooms.live import JOIN_RULES, LiveRoom
from homeserver.rooms.registry import Rooms


class UnableToGrant(MatrixError):
    """The user may come in, but nobody on this server may say so: another server can."""

    def __init__(self) -> None:
        super().__init__(
            400, "M_UNABLE_TO_GRANT_JOIN", "Nobody on this server may let people into this room: ask another"
        )


class UnableToAuthorise(MatrixError):
    """This server is in none of the rooms that the rules name, so it can't tell."""

    def __init__(self) -> None:
        super().__init__(400, "M_UNABLE_TO_AUTHORISE_JOIN", "This server can't tell whether you may join: ask another")


class Grant(Protocol):
    """Says for one `type` of a join rule's `allow` whether it lets somebody in; None where this server can't tell."""

    async def __call__(self, rule: Mapping[str, Any], room: LiveRoom, user_id: str) -> bool | None: ...


@service
class Vouching:
    """Finds out whether somebody may join a restricted room, and who vouches."""

    door: Door
    rooms: Rooms
    grants: dict[str, Grant] = field(factory=dict)
    """By type, beside the specification's `m.room_membership`."""

    async def authoriser(self, room: LiveRoom, user_id: str) -> str | None:
        """Who on this server lets the user in; None where nobody is needed.

        Raises Forbidden for whom the rules don't let in, `UnableToGrant` or `UnableToAuthorise` where another server
        could know better.
        """
        rules = await self._rules(room)
        if rules.get("join_rule") not in ("restricted", "knock_restricted") or not room.version.restricted:
            return None
        if room.membership_of(user_id) in ("invite", "join"):
            return None
        allowed = await self._is_allowed_by(rules.get("allow"), room, user_id)
        if allowed is None:
            raise UnableToAuthorise()
        if not allowed:
            raise Forbidden("You are in none of the rooms that let people into this one")
        member = _who_may_invite(room, await self.door.power_levels(room))
        if member is None:
            raise UnableToGrant()
        return member

    async def _rules(self, room: LiveRoom) -> Mapping[str, Any]:
        ref = room.visible.state.get(JOIN_RULES)
        stored = None if ref is None else await self.door.events.get(ref.nid)
        return {} if stored is None else stored.event.content

    async def _is_allowed_by(self, allow: object, room: LiveRoom, user_id: str) -> bool | None:
        """None where rooms are named and this server knows none of them."""
        named = 0
        known = 0
        for rule in allow if isinstance(allow, list) else ():
            if not isinstance(rule, dict):
                continue
            kind = rule.get("type")
            grant = self.grants.get(kind) if isinstance(kind, str) else None
            if grant is not None:
                named += 1
                verdict = await grant(rule, room, user_id)
                if verdict:
                    return True
                known += verdict is not None
            if kind != "m.room_membership":
                continue
            other_id = rule.get("room_id")
            if not isinstance(other_id, str):
                continue
            named += 1
            other = await self.rooms.get(other_id)
            if other is None or not other.local_joined:
                continue
            if other.membership_of(user_id) == "join":
                return True
            # Of other servers' people a partial room can't tell that they are not in it.
            known += other.partial is None or server_of(user_id) == self.door.identity.server_name
        return None if named and not known else False


def _who_may_invite(room: LiveRoom, levels: PowerLevels) -> str | None:
    """A member here. Whoever has a level of its own is asked first, so that a room's size is no matter."""
    for user_id in (*sorted(levels.creators), *levels.users):
        if user_id in room.local_joined and levels.user(user_id) >= levels.invite:
            return user_id
    if levels.users_default < levels.invite:
        return None
    return next((user_id for user_id in room.local_joined if user_id not in levels.users), None)
