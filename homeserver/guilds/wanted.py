"""What a guild's rooms have to say for what the guild says: the state that the steward keeps as it should be.

Pure, and the same however often it is asked: whoever compares it with what is there and sends the difference has
brought the rooms to where they should be, also after a crash in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.room.event import Event, StateKey
from federation.room.policy import POLICY
from homeserver.guilds.model import ACL_TYPE, Channel, Guild
from homeserver.guilds.projection import project
from homeserver.guilds.steward import VIEW_RULE
from homeserver.rooms.live import JOIN_RULES, POWER_LEVELS

Policy = Mapping[str, Any]
"""The content of the `m.room.policy` that makes this server a room's policy server; empty where it is none."""


def policy_content(server_name: str, public_key: str | None) -> Policy:
    """`public_key`: the one with which this server signs as a policy server."""
    return {} if public_key is None else {"via": server_name, "public_keys": {"ed25519": public_key}}


def is_as_wanted(current: Event | None, content: Mapping[str, Any]) -> bool:
    """Whether a piece of state says what it should; where nothing should be said, it need not be there."""
    return not content if current is None else current.content == content


def wanted_in_guild(guild: Guild, policy: Policy) -> Mapping[StateKey, dict[str, Any]]:
    """State of the guild's own room that follows from its roles and settings."""
    return {
        POLICY: dict(policy) if guild.settings.policy else {},
        POWER_LEVELS: project(guild),
        JOIN_RULES: {"join_rule": "public" if guild.settings.discoverable else "invite"},
    }


def wanted_in_channel(guild: Guild, channel: Channel, policy: Policy) -> Mapping[StateKey, dict[str, Any]]:
    """State of a channel's room that follows from the guild."""
    kind = "m.room_membership" if guild.is_open(channel) else VIEW_RULE
    wanted: dict[StateKey, dict[str, Any]] = {
        POLICY: dict(policy) if guild.settings.policy else {},
        POWER_LEVELS: project(guild, channel),
        JOIN_RULES: {"join_rule": "restricted", "allow": [{"type": kind, "room_id": guild.room_id}]},
    }
    if guild.acl is not None:
        wanted[ACL_TYPE, ""] = guild.acl.content
    return wanted
