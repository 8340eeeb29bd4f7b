"""`…/permissions/{user_id}`: what somebody may do, and how that comes about."""

from __future__ import annotations

import msgspec

from federation.room.canonical import canonical_json
from homeserver.errors import NotFound
from homeserver.guilds.api.desk import Desk, require_channel
from homeserver.guilds.api.fields import API, PermissionName
from homeserver.guilds.editor import MOST_BYTES_OF_LEVELS
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import outcome, permission_names
from homeserver.guilds.projection import project
from homeserver.http.route import VISITOR, Requester, route


class StepAnswer(msgspec.Struct, frozen=True):
    """One rule on the way, and what there was after it."""

    rule: str
    """`role`, `owner`, `administrator`, `announcement`, `override` or `hidden`."""
    source: str
    """Whose: a role id or a user id, or `guild`."""
    allow: list[PermissionName]
    deny: list[PermissionName]
    result: list[PermissionName]


class LevelsAnswer(msgspec.Struct, frozen=True):
    """What plain Matrix servers hold somebody to, and what it costs: each change of levels is one such event."""

    level: int
    listed: int
    """How many people have another level than most, and stand in the event by name."""
    size_bytes: int
    most_bytes: int
    """What would not fit is refused. It is reached at some 1,400 to 3,000 people who are listed."""


class Explained(msgspec.Struct, frozen=True):
    permissions: list[PermissionName]
    steps: list[StepAnswer]
    levels: LevelsAnswer


class InGuildOf(msgspec.Struct, frozen=True):
    guild_id: str
    user_id: str


class InChannelOf(msgspec.Struct, frozen=True):
    guild_id: str
    room_id: str
    user_id: str


@route("GET", f"{API}/guilds/{{guild_id}}/permissions/{{user_id}}", auth=VISITOR, rate="read")
async def explain_in_guild(desk: Desk, who: Requester, ask: InGuildOf) -> Explained:
    """What a member may do in the guild, step by step."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    if room.membership_of(ask.user_id) != "join":
        raise NotFound(f"{ask.user_id} is not in this guild")
    return _explained(guild, ask.user_id, None)


@route("GET", f"{API}/guilds/{{guild_id}}/channels/{{room_id}}/permissions/{{user_id}}", auth=VISITOR, rate="read")
async def explain_in_channel(desk: Desk, who: Requester, ask: InChannelOf) -> Explained:
    """What a member may do in a channel that the caller may view, step by step."""
    room, guild = await desk.look(ask.guild_id, who.user_id)
    channel = require_channel(guild, who.user_id, ask.room_id)
    if room.membership_of(ask.user_id) != "join":
        raise NotFound(f"{ask.user_id} is not in this guild")
    return _explained(guild, ask.user_id, channel)


def _explained(guild: Guild, user_id: str, channel: Channel | None) -> Explained:
    steps = list(guild.explain(user_id, channel))
    levels = project(guild, channel)
    return Explained(
        permission_names(outcome(steps)),
        [
            StepAnswer(
                step.rule,
                step.source,
                permission_names(step.allow),
                permission_names(step.deny),
                permission_names(step.result),
            )
            for step in steps
        ],
        LevelsAnswer(
            levels["users"].get(user_id, levels["users_default"]),
            len(levels["users"]),
            len(canonical_json(levels)),
            MOST_BYTES_OF_LEVELS,
        ),
    )
