"""The levels that come of roles, held against the authorisation rules themselves."""

from __future__ import annotations

from itertools import combinations
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.room.auth import PowerLevels
from federation.room.build import build_event
from federation.room.signing import SigningKey
from federation.room.versions import ROOM_VERSIONS
from homeserver.guilds.model import Channel, Guild, guild_of
from homeserver.guilds.permissions import (
    ADD_REACTIONS,
    CONNECT,
    EDIT_CHANNEL,
    EVERYTHING,
    MANAGE_GUILD,
    MANAGE_MESSAGES,
    MENTION_EVERYONE,
    SEND_MESSAGES,
    VIEW_CHANNEL,
    Permissions,
    outcome,
)
from homeserver.guilds.projection import IN_CHANNEL, OWNER_LEVEL, Row, arrange, project
from tests.guilds.strategies import OWNER, ROLES, USERS, State, all_channels, guilds, states

VERSION = ROOM_VERSIONS["12"]
KEY = SigningKey.from_seed("1", b"1" * 32)
STEWARD = "@guildhall:a.example"
CREATE = build_event(
    VERSION,
    room_id=None,
    type="m.room.create",
    sender=STEWARD,
    content={"room_version": "12", "type": "m.space"},
    state_key="",
    prev_events=[],
    auth_events=[],
    depth=1,
    origin_server_ts=1,
    server_name="a.example",
    key=KEY,
)


def levels_of(content: dict[str, Any]) -> PowerLevels:
    """What the authorisation rules read out of it."""
    return PowerLevels.parse(VERSION, CREATE, SimpleNamespace(content=content))  # type: ignore[arg-type]


def doings(levels: PowerLevels, in_guild: bool) -> dict[str, tuple[float, Permissions]]:
    """What one can do by having a level: the level, and the permission that it must imply."""
    edit = MANAGE_GUILD if in_guild else EDIT_CHANNEL
    found: dict[str, tuple[float, Permissions]] = {
        "message": (levels.event("m.room.message", False), SEND_MESSAGES),
        "encrypted": (levels.event("m.room.encrypted", False), SEND_MESSAGES),
        "anything": (levels.event("org.example.game", False), SEND_MESSAGES),
        "beacon": (levels.event("org.matrix.msc3672.beacon_info", True), SEND_MESSAGES),
        "reaction": (levels.event("m.reaction", False), ADD_REACTIONS),
        "name": (levels.event("m.room.name", True), edit),
        "topic": (levels.event("m.room.topic", True), edit),
        "avatar": (levels.event("m.room.avatar", True), edit),
        "pin": (levels.event("m.room.pinned_events", True), MANAGE_MESSAGES),
        "room mention": (levels.notifications("room"), MENTION_EVERYONE),
        "call": (levels.event("org.matrix.msc3401.call.member", True), CONNECT),
    }
    if not in_guild:
        found["redact"] = (levels.redact, MANAGE_MESSAGES)
    return found


def steward_only(levels: PowerLevels) -> list[float]:
    types = ("m.room.power_levels", "m.room.join_rules", "m.room.server_acl", "m.space.child", "m.space.parent",
             "chat.guildhall.role", "chat.guildhall.member", "m.room.third_party_invite", "m.room.encryption",
             "org.example.state")  # fmt: skip
    return [levels.ban, levels.kick, levels.invite, *(levels.event(kind, True) for kind in types)]


def people(guild: Guild, channel: Channel | None) -> list[str]:
    """Who may be in the room: everybody who may view it, and in an open one also those who are away or shut out."""
    if channel is None or guild.is_open(channel):
        return [*USERS, OWNER, "@stranger:c.example"]
    return [user for user in [*USERS, OWNER, "@stranger:c.example"] if guild.permissions(user, channel) & VIEW_CHANNEL]


@settings(max_examples=60)
@given(guilds)
def test_whoever_reaches_a_threshold_holds_the_permission(guild: Guild) -> None:
    for channel in all_channels(guild):
        levels = levels_of(project(guild, channel))
        for user in people(guild, channel):
            held, level = guild.permissions(user, channel), levels.user(user)
            for what, (threshold, needed) in doings(levels, channel is None).items():
                assert level < threshold or held & needed, (what, user)
            assert all(level < threshold for threshold in steward_only(levels)), user
            assert (level >= levels.event("m.room.tombstone", True)) == (user == OWNER)
            assert held & MENTION_EVERYONE or level < 50  # what a redacted event falls back to


@settings(max_examples=60)
@given(guilds, st.lists(st.sampled_from(ROLES), max_size=4))
def test_whoever_comes_later_with_whatever_roles_reaches_no_more_in_a_closed_channel(
    guild: Guild, roles: list[str]
) -> None:
    for channel in guild.channels.values():
        held = outcome(guild.steps(roles, "", channel))
        if guild.is_open(channel) or not held & VIEW_CHANNEL:
            continue
        levels = levels_of(project(guild, channel))
        for what, (threshold, needed) in doings(levels, False).items():
            assert levels.users_default < threshold or held & needed, what


def test_a_channel_for_one_role_lists_nobody_of_it_unless_another_role_takes_something_away() -> None:
    def levels(*more: tuple[str, str, dict[str, Any]]) -> PowerLevels:
        state: list[tuple[str, str, dict[str, Any]]] = [
            ("chat.guildhall.role", "everyone", {"name": "everyone", "permissions": ["view_channel", "send_messages"]}),
            ("chat.guildhall.role", "verified", {"name": "verified", "position": 1}),
            *(("chat.guildhall.member", f"_{user}", {"roles": ["verified"]}) for user in USERS),
            (
                "chat.guildhall.channel",
                "!staff",
                {
                    "kind": "text",
                    "overrides": {
                        "everyone": {"deny": ["view_channel"]},
                        "verified": {"allow": ["view_channel"]},
                        "muted": {"deny": ["send_messages"]},
                    },
                },
            ),
            *more,
        ]
        guild = guild_of("!guild", state)
        return levels_of(project(guild, guild.channels["!staff"]))

    plain = levels()
    assert not plain.users and plain.users_default >= plain.event("m.room.message", False)
    # Somebody may get both roles before the levels follow, so being let in must not say that one may write.
    careful = levels(("chat.guildhall.role", "muted", {"name": "muted", "position": 2}))
    assert careful.users_default < careful.event("m.room.message", False) <= careful.users[USERS[0]]


@settings(max_examples=60)
@given(guilds)
def test_everybody_reaches_what_they_hold_where_the_sets_form_a_chain(guild: Guild) -> None:
    for channel in all_channels(guild):
        levels = levels_of(project(guild, channel))
        inside = people(guild, channel)
        carried = [needed for _, needed in doings(levels, channel is None).values()]
        sets = {user: frozenset(bit for bit in carried if guild.permissions(user, channel) & bit) for user in inside}
        everybody = {
            frozenset(bit for bit in carried if outcome(guild.steps(roles, "", channel)) & bit)
            for roles in [(), *guild.holders]
        }
        if channel is not None and not guild.is_open(channel):
            # What all have who may come in is one more set, even where nobody has just that.
            reached = {
                needed for threshold, needed in doings(levels, False).values() if levels.users_default >= threshold
            }
            everybody.add(frozenset(reached))
        if not all(one <= two or two <= one for one, two in combinations({*sets.values(), *everybody}, 2)):
            continue
        for user in inside:
            if channel is not None and not guild.is_open(channel) and levels.user(user) == levels.users_default:
                continue  # in a closed channel the default is what all who may come in have
            for what, (threshold, needed) in doings(levels, channel is None).items():
                assert levels.user(user) >= threshold or not guild.permissions(user, channel) & needed, (what, user)


@settings(max_examples=60)
@given(guilds)
def test_nobody_is_listed_at_the_default(guild: Guild) -> None:
    for channel in all_channels(guild):
        content = project(guild, channel)
        assert content["users_default"] not in content["users"].values() or content["users_default"] == OWNER_LEVEL
        assert STEWARD not in content["users"]


@settings(max_examples=60)
@given(st.lists(st.integers(0, EVERYTHING), max_size=5), st.permutations(IN_CHANNEL))
def test_a_chain_finds_its_row(sets: list[Permissions], order: list[Permissions]) -> None:
    chain = []
    for size in range(len(order) + 1):
        chain.append(sum(order[:size]))
    some = [chain[number % len(chain)] for number in sets]
    arranged = arrange(some, IN_CHANNEL)
    row = Row(arranged)
    for permissions in some:
        held = {permission for permission in arranged if permissions & permission}
        assert {permission for permission in arranged if row.levels[permission] <= row.level(permissions)} == held


@pytest.mark.parametrize("place", range(len(IN_CHANNEL)))
def test_levels_rise_and_pass_fifty_where_everyone_may_be_mentioned(place: int) -> None:
    row = [permission for permission in IN_CHANNEL if permission != MENTION_EVERYONE]
    row.insert(place, MENTION_EVERYONE)
    levels = Row(row).levels
    assert list(levels.values()) == sorted(set(levels.values()))
    assert all((level >= 50) == (row.index(permission) >= place) for permission, level in levels.items())
    assert max(levels.values()) < OWNER_LEVEL


@settings(max_examples=60)
@given(states, st.randoms(use_true_random=False))
def test_the_order_in_which_state_came_does_not_matter(state: State, random: Random) -> None:
    pieces = [(kind, key, content) for (kind, key), content in state.items()]
    first = guild_of("!guild", pieces)
    # Everything once more as it never was, so that each piece replaces or ends another.
    detour: list[tuple[str, str, dict[str, Any]]] = [(kind, key, {}) for kind, key, _ in pieces]
    random.shuffle(pieces)
    again = guild_of("!guild", [*reversed(pieces), *detour, *pieces])
    assert again == first
    for channel in all_channels(first):
        assert project(again, channel) == project(first, channel)
