"""Making guilds and channels: rooms of the steward's, whole in one commit.

A guild room and each channel begin with the same few events: the create event, the steward's membership, the levels
that the guild's roles give, who may join, and who may read what was said before. Then come their own things.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import DeferredList
from twisted.python.failure import Failure

from federation.room.versions import ROOM_VERSIONS
from federation.service import service
from homeserver.errors import InvalidParam, Unavailable
from homeserver.guilds.editor import row_of
from homeserver.guilds.model import (
    ADMIN,
    CATEGORY_TYPE,
    CHANNEL_TYPE,
    CHILD_TYPE,
    GUILD_TYPE,
    IN_CATEGORY,
    ROLE_TYPE,
    VOICE,
    Channel,
    Guild,
)
from homeserver.guilds.orders import spread
from homeserver.guilds.permissions import EVERYONE, permission_names
from homeserver.guilds.steward import GUILD_ROOM_TYPE, PARENT_TYPE, VOICE_ROOM_TYPE, state
from homeserver.guilds.templates import EVERYDAY, PLAIN, TEMPLATES, FirstChannel, FirstRole
from homeserver.guilds.wanted import Policy, is_as_wanted, wanted_in_channel, wanted_in_guild
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.founding import Founder
from homeserver.rooms.membership import AUTHORISER, MEMBER, MemberProfiles, member_content
from storage.database import Database, DuplicateRow

VERSION: Final = ROOM_VERSIONS["12"]
MAX_ATTEMPTS = 5


class NewGuild(msgspec.Struct, frozen=True):
    """What a guild is made of."""

    name: str
    topic: str | None = None
    icon: str | None = None
    banner: str | None = None
    template: str | None = None


def new_id() -> str:
    """An id for a role or category: short, random, URL-safe."""
    return secrets.token_urlsafe(9)


@service
class GuildMaker:
    """Makes them, in the steward's name."""

    steward: str
    door: Door
    database: Database
    founder: Founder
    profiles: MemberProfiles
    policy: Policy

    async def create(self, owner: str, ask: NewGuild) -> str:
        """Make a guild with its first channels for somebody of this server, and answer its id when all is durable."""
        template = PLAIN
        if ask.template is not None:
            found = TEMPLATES.get(ask.template)
            if found is None:
                raise InvalidParam(f"`template` is one of {', '.join(sorted(TEMPLATES))}")
            template = found
        content = await member_content(self.profiles, owner, "join")
        for _ in range(MAX_ATTEMPTS):
            draft, guild = self._begin(owner, ask, template.roles)
            drafts = [draft]
            orders = spread(len(template.categories))
            for (name, channels), order in zip(template.categories.items(), orders, strict=True):
                category_id = new_id()
                guild = self._set(draft, guild, CATEGORY_TYPE, category_id, {"name": name, "order": order}, owner)
                for first, place in zip(channels, spread(len(channels)), strict=True):
                    channel_draft = self.begin_channel(first)
                    room_id = channel_draft.room.room_id
                    guild = self._set(draft, guild, CHANNEL_TYPE, room_id, {"kind": first.kind, "slowmode_s": 0}, owner)
                    child = {"via": [self._server_name], "order": place, "suggested": False, IN_CATEGORY: category_id}
                    guild = self._set(draft, guild, CHILD_TYPE, room_id, child, owner)
                    drafts.append(channel_draft)
            self._add_wanted(draft, wanted_in_guild(guild, self.policy))
            self._let_in(draft, owner, content, is_guild=True)
            for channel_draft in drafts[1:]:
                channel = guild.channels[channel_draft.room.room_id]
                self.furnish(channel_draft, guild, channel)
                self._let_in(channel_draft, owner, content, is_guild=False)
            try:
                await self.append(drafts)
            except DuplicateRow:
                continue  # the clock was set back to a moment in which the same was made: it moves on
            return draft.room.room_id
        raise Unavailable("The guild could not be made")

    def begin_channel(self, first: FirstChannel) -> Draft:
        """Found a channel's room: its id is known then, and nothing else."""
        draft = self.founder.found(self.steward, VERSION, {"type": VOICE_ROOM_TYPE} if first.kind == VOICE else {})
        draft.add(Template(MEMBER, self.steward, {"membership": "join"}, self.steward))
        draft.add(state(self.steward, "m.room.name", {"name": first.name}))
        if first.topic is not None:
            draft.add(state(self.steward, "m.room.topic", topic_content(first.topic)))
        return draft

    def furnish(self, draft: Draft, guild: Guild, channel: Channel) -> None:
        """Add what follows from the guild of which the room is a channel."""
        parent = {"via": [self._server_name], "canonical": True}
        draft.add(state(self.steward, PARENT_TYPE, parent, guild.room_id))
        self._add_wanted(draft, wanted_in_channel(guild, channel, self.policy))
        self._add_common(draft)

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Make the rooms durable in one commit. Raises DuplicateRow where one of them exists; the others do then too,
        and are known to nobody.
        """
        with self.database.together():
            durable = [self.door.append(draft, new_room=row_of(draft)) for draft in drafts]
        outcomes: list[object] = [outcome for _, outcome in await DeferredList(durable, consumeErrors=True)]
        for outcome in outcomes:
            if isinstance(outcome, Failure) and outcome.value is not None:
                raise outcome.value

    @property
    def _server_name(self) -> str:
        return self.door.identity.server_name

    def _begin(self, owner: str, ask: NewGuild, roles: Sequence[FirstRole]) -> tuple[Draft, Guild]:
        draft = self.founder.found(self.steward, VERSION, {"type": GUILD_ROOM_TYPE})
        guild = Guild(draft.room.room_id)
        draft.add(Template(MEMBER, self.steward, {"membership": "join"}, self.steward))
        settings: dict[str, Any] = {"version": 1, "owner": owner}
        if ask.banner is not None:
            settings["banner"] = ask.banner
        guild = self._set(draft, guild, GUILD_TYPE, "", settings, owner)
        draft.add(state(self.steward, "m.room.name", {"name": ask.name}, actor=owner))
        if ask.topic is not None:
            draft.add(state(self.steward, "m.room.topic", topic_content(ask.topic), actor=owner))
        if ask.icon is not None:
            draft.add(state(self.steward, "m.room.avatar", {"url": ask.icon}, actor=owner))
        first = [(EVERYONE, FirstRole("everyone", EVERYDAY, ""), 0)]
        first += [(new_id(), role, len(roles) - row) for row, role in enumerate(roles)]
        for role_id, role, position in first:
            guild = self._set(draft, guild, ROLE_TYPE, role_id, _role_content(role, position), owner)
        admin = {"name": "admin", "permissions": ["administrator"], "position": len(roles) + 1}
        guild = self._set(draft, guild, ROLE_TYPE, ADMIN, {**admin, "hoist": True, "mentionable": False}, owner)
        self._add_common(draft)
        return draft, guild

    def _set(
        self, draft: Draft, guild: Guild, event_type: str, state_key: str, content: dict[str, Any], actor: str
    ) -> Guild:
        draft.add(state(self.steward, event_type, content, state_key, actor))
        return guild.changed(event_type, state_key, content)

    def _add_wanted(self, draft: Draft, wanted: Mapping[tuple[str, str], dict[str, Any]]) -> None:
        for (event_type, state_key), content in wanted.items():
            if not is_as_wanted(draft.lookup(event_type, state_key), content):
                draft.add(state(self.steward, event_type, content, state_key))

    def _add_common(self, draft: Draft) -> None:
        draft.add(state(self.steward, "m.room.history_visibility", {"history_visibility": "shared"}))
        draft.add(state(self.steward, "m.room.guest_access", {"guest_access": "forbidden"}))

    def let_in(self, draft: Draft, user_id: str, content: Mapping[str, Any]) -> None:
        """Add somebody of this server to a channel that it may view. `content`: of a join, with its profile."""
        self._let_in(draft, user_id, content, is_guild=False)

    def _let_in(self, draft: Draft, user_id: str, content: Mapping[str, Any], *, is_guild: bool) -> None:
        if is_guild:
            draft.add(Template(MEMBER, self.steward, {**content, "membership": "invite"}, user_id))
        admission = {} if is_guild else {AUTHORISER: self.steward}
        draft.add(Template(MEMBER, user_id, {**content, **admission}, user_id))


def topic_content(topic: str) -> dict[str, Any]:
    """The content of an `m.room.topic`."""
    return {"topic": topic, "m.topic": {"m.text": [{"body": topic, "mimetype": "text/plain"}]}}


def _role_content(role: FirstRole, position: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": role.name,
        "permissions": permission_names(role.permissions),
        "position": position,
        "hoist": bool(role.color),
        "mentionable": False,
    }
    if role.color:
        content["color"] = role.color
    return content
