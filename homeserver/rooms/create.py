"""Making rooms: one call, one unit of the group commit, from the create event to the last invitation.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
import structlog
from attrs import field

from config import Settings
from federation.room.identifiers import InvalidIdentifier, parse_room_alias, parse_user_id, server_of
from federation.room.versions import RoomVersion, get_room_version
from federation.service import service
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError, Unavailable
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Malformed, Template
from homeserver.rooms.founding import Founder
from homeserver.rooms.membership import (
    MEMBER,
    Elsewhere,
    MemberProfiles,
    check_invitable,
    check_member,
    in_room,
    member_content,
)
from homeserver.userdata.invite_filter import Anybody, Invitees
from storage import aliases as alias_rows
from storage import directory as directory_rows
from storage.database import Database, DuplicateRow
from storage.ports import Cursor, NewRoom

Preset = Literal["private_chat", "public_chat", "trusted_private_chat"]

log = structlog.get_logger("homeserver.rooms")

MAX_ATTEMPTS = 5
TOMBSTONE_LEVEL = 150
"""Above `state_default` and the 100 of an admin: upgrading a room hands it over, which is for its creators."""

RESTRICTED_INVITE_LEVEL = 50
"""COMPAT Synapse, Complement. In a room that lets in the members of some other, everybody who is there already could
undo that by inviting others, if the usual level 0 held."""

PRESET_STATE: Mapping[Preset, Sequence[tuple[str, dict[str, str]]]] = {
    "private_chat": (
        ("m.room.join_rules", {"join_rule": "invite"}),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.guest_access", {"guest_access": "can_join"}),
    ),
    "trusted_private_chat": (
        ("m.room.join_rules", {"join_rule": "invite"}),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.guest_access", {"guest_access": "can_join"}),
    ),
    "public_chat": (
        ("m.room.join_rules", {"join_rule": "public"}),
        # Without a word on guests none may come in, which is what this preset says of them: an event less.
        ("m.room.history_visibility", {"history_visibility": "shared"}),
    ),
}


class InitialState(msgspec.Struct, frozen=True):
    type: str
    content: dict[str, Any]
    state_key: str = ""


class CreateRoom(msgspec.Struct, frozen=True):
    """The body of `createRoom`."""

    visibility: Literal["public", "private"] | None = None
    room_alias_name: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: list[str] = []
    invite_3pid: list[dict[str, Any]] = []
    room_version: str | None = None
    creation_content: dict[str, Any] = {}
    initial_state: list[InitialState] = []
    preset: Preset | None = None
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = {}


@service
class RoomMaker:
    """Makes rooms for local users."""

    door: Door
    database: Database
    settings: Settings
    profiles: MemberProfiles
    elsewhere: Elsewhere
    founder: Founder
    invitees: Invitees = field(factory=Anybody)

    async def create(self, creator: str, ask: CreateRoom, is_admin: bool = False) -> str:
        """Make the room and answer its id when everything is durable.

        Raises MatrixError: `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE` (the alias), `M_INVALID_ROOM_STATE` (the
        asked-for events don't pass the room's own rules), `M_BAD_JSON`.
        """
        version = self._version(ask)
        invitees = await self._invitees(creator, ask)
        alias = await self._alias(ask)
        publish = ask.visibility == "public"
        if publish and not (is_admin or self.settings.rooms.anybody_may_publish):
            raise Forbidden("You may not publish rooms in this server's directory")
        preset: Preset = ask.preset or ("public_chat" if publish else "private_chat")

        templates = [Template("m.room.member", creator, await member_content(self.profiles, creator, "join"), creator)]
        templates += self._state(creator, ask, version, preset, alias, invitees)
        afar: list[Template] = []
        for user_id in invitees:
            more = {"is_direct": True} if ask.is_direct else {}
            content = await member_content(self.profiles, user_id, "invite", more)
            is_local = server_of(user_id) == self.door.identity.server_name
            (templates if is_local else afar).append(Template("m.room.member", creator, content, user_id))

        trusted = invitees if preset == "trusted_private_chat" else []
        creation = dict(ask.creation_content)
        if version.privileged_creators and (trusted or "additional_creators" in creation):
            named = _additional_creators(creation.get("additional_creators", []))
            creation["additional_creators"] = list(dict.fromkeys([*named, *trusted]))
        room_id = await self.make(creator, version, creation, templates, alias=alias, publish=publish)
        await self._invite_afar(room_id, creator, afar)
        return room_id

    async def make(
        self,
        creator: str,
        version: RoomVersion,
        creation: Mapping[str, Any],
        templates: Sequence[Template],
        *,
        alias: str | None = None,
        publish: bool = False,
    ) -> str:
        """Make a room that begins with these events, after its create event. Raises MatrixError."""
        for _ in range(MAX_ATTEMPTS):
            draft = self._found(creator, version, creation)
            try:
                for template in templates:
                    draft.add(template)
            except (Forbidden, Malformed) as error:
                why = f"This room would break its own rules: {error.error}"
                raise MatrixError(400, "M_INVALID_ROOM_STATE", why) from None
            try:
                await self._append(draft, creator, alias, publish)
            except DuplicateRow:
                continue  # the clock was set back to a moment in which the same was made: it moves on
            return draft.room.room_id
        raise Unavailable("The room could not be made")

    async def _invite_afar(self, room_id: str, creator: str, invitations: Sequence[Template]) -> None:
        """Invite people of other servers. The room is there, whatever becomes of that."""
        for template in invitations:
            try:
                await self.elsewhere.invite(room_id, template, in_room(creator))
            except MatrixError as error:
                log.info("could not be invited to a new room", user=template.state_key, why=error.error)

    def _version(self, ask: CreateRoom) -> RoomVersion:
        identifier = self.settings.rooms.default_version if ask.room_version is None else ask.room_version
        version = get_room_version(identifier)
        if version is None:
            raise MatrixError(400, "M_UNSUPPORTED_ROOM_VERSION", f"This server has no room version {identifier!r}")
        return version

    async def _invitees(self, creator: str, ask: CreateRoom) -> list[str]:
        """Whom to invite: people here who do not want it are left out, and the room is made without them."""
        if ask.invite_3pid:
            raise MatrixError(403, "M_THREEPID_DENIED", "This server has no identity server to invite by address")
        for user_id in ask.invite:
            check_invitable(user_id)
            if server_of(user_id) != self.door.identity.server_name:
                self.elsewhere.check_reachable(user_id)
        for given in ask.initial_state:
            if given.type == MEMBER and given.content.get("membership") == "invite":
                await self.invitees.check(creator, given.state_key)
        named = [user_id for user_id in dict.fromkeys(ask.invite) if user_id != creator]
        return [user_id for user_id in named if not await self.invitees.refuses(creator, user_id)]

    async def _alias(self, ask: CreateRoom) -> str | None:
        if ask.room_alias_name is None:
            return None
        name = ask.room_alias_name
        if not name or ":" in name or any(character.isspace() for character in name):
            raise InvalidParam("`room_alias_name` is the local part of an alias: no colon and no white space")
        try:
            alias: str = parse_room_alias(f"#{name}:{self.door.identity.server_name}")
        except InvalidIdentifier as error:
            raise InvalidParam(f"`room_alias_name`: {error}") from None
        if await self.database.run(alias_rows.find, alias) is not None:
            raise _in_use(alias)
        return alias

    def _found(self, creator: str, version: RoomVersion, creation: Mapping[str, Any]) -> Draft:
        content = {key: value for key, value in creation.items() if key != "creator"}
        try:
            return self.founder.found(creator, version, content)
        except Forbidden as error:
            raise MatrixError(400, "M_INVALID_ROOM_STATE", error.error) from None

    def _state(
        self,
        creator: str,
        ask: CreateRoom,
        version: RoomVersion,
        preset: Preset,
        alias: str | None,
        invitees: Sequence[str],
    ) -> list[Template]:
        trusted = invitees if preset == "trusted_private_chat" else ()
        levels = _power_levels(creator, version, trusted)
        if _lets_in_some(ask.initial_state):
            levels["invite"] = RESTRICTED_INVITE_LEVEL
        levels.update(ask.power_level_content_override)
        state: dict[tuple[str, str], dict[str, Any]] = {("m.room.power_levels", ""): levels}
        if alias is not None:
            state["m.room.canonical_alias", ""] = {"alias": alias}
        for event_type, content in PRESET_STATE[preset]:
            state[event_type, ""] = content
        for given in ask.initial_state:
            if given.type == "m.room.create":
                raise BadJson("`initial_state` can't hold another m.room.create")
            if given.type == MEMBER:
                check_member(given.state_key, given.content)
                if (
                    given.content.get("membership") == "invite"
                    and server_of(given.state_key) != self.door.identity.server_name
                ):
                    raise Forbidden("People of other servers are invited by `invite`: their server has a say in it")
            # In the order of the list, and each key once: what is given replaces what the preset says.
            state.pop((given.type, given.state_key), None)
            state[given.type, given.state_key] = given.content
        if ask.name is not None:
            state.pop(("m.room.name", ""), None)
            state["m.room.name", ""] = {"name": ask.name}
        if ask.topic is not None:
            state.pop(("m.room.topic", ""), None)
            text = {"body": ask.topic, "mimetype": "text/plain"}
            state["m.room.topic", ""] = {"topic": ask.topic, "m.topic": {"m.text": [text]}}
        encrypt = self.settings.rooms.encryption_by_default
        if encrypt == "all" or (encrypt == "private" and preset != "public_chat"):
            state.setdefault(("m.room.encryption", ""), {"algorithm": "m.megolm.v1.aes-sha2"})
        return [Template(event_type, creator, content, key) for (event_type, key), content in state.items()]

    async def _append(self, draft: Draft, creator: str, alias: str | None, publish: bool) -> None:
        also: list[Callable[[Cursor], None]] = []
        room = draft.room
        if alias is not None:
            made = room.create.origin_server_ts
            also.append(partial(_add_alias, alias=alias, room_id=room.room_id, creator=creator, created_ts=made))
        if publish:
            also.append(partial(_publish, room_nid=room.nid))
        room_type = room.create.content.get("type")
        new_room = NewRoom(
            room.nid, room.room_id, room.version.identifier, creator, room_type if isinstance(room_type, str) else None
        )
        try:
            await self.door.append(draft, also=also, new_room=new_room)
        except AliasTaken as error:
            raise _in_use(error.args[0]) from None


class AliasTaken(Exception):
    """Somebody else was quicker: the room's append fails alone."""


def _add_alias(cursor: Cursor, alias: str, room_id: str, creator: str, created_ts: int) -> None:
    if not alias_rows.add(cursor, alias, room_id, creator, created_ts):
        raise AliasTaken(alias)


def _publish(cursor: Cursor, room_nid: int) -> None:
    directory_rows.publish(cursor, room_nid)


def _lets_in_some(state: Sequence[InitialState]) -> bool:
    rules = [one.content.get("join_rule") for one in state if one.type == "m.room.join_rules" and not one.state_key]
    return bool(rules) and rules[-1] in ("restricted", "knock_restricted")


def _additional_creators(named: object) -> list[str]:
    try:
        if isinstance(named, list):
            return [parse_user_id(user_id) for user_id in named]
    except InvalidIdentifier as error:
        raise BadJson(f"`creation_content.additional_creators`: {error}") from None
    raise BadJson("`creation_content.additional_creators` must be an array of user ids")


def _in_use(alias: str) -> MatrixError:
    return MatrixError(400, "M_ROOM_IN_USE", f"The alias {alias} is taken")


def _power_levels(creator: str, version: RoomVersion, trusted: Sequence[str]) -> dict[str, Any]:
    users = {} if version.privileged_creators else dict.fromkeys((creator, *trusted), 100)
    return {
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.encryption": 100,
            "m.room.history_visibility": 100,
            "m.room.power_levels": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": TOMBSTONE_LEVEL if version.privileged_creators else 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
    }
