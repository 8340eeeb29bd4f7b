"""How roles and overrides add up, case by case and by law."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.guilds.model import Guild, guild_of
from homeserver.guilds.permissions import (
    EVERYTHING,
    GUILD_WIDE,
    NAMES,
    NOTHING,
    Permissions,
    UnknownPermission,
    parse_permissions,
    permission_names,
    read_permissions,
)
from tests.guilds.strategies import OWNER, USERS, State, all_channels, guilds, states

ANN = "@ann:a.example"
WRITE = "send_messages"


def guild(
    *,
    everyone: str = "view_channel send_messages",
    role: str = "",
    overrides: dict[str, tuple[str, str]] | None = None,
    category: dict[str, tuple[str, str]] | None = None,
    kind: str = "text",
) -> Guild:
    """A guild with one role, which Ann has, and one channel in one category."""
    state: list[tuple[str, str, dict[str, Any]]] = [
        ("chat.guildhall.guild", "", {"owner": OWNER}),
        ("chat.guildhall.role", "everyone", {"name": "everyone", "permissions": everyone.split()}),
        ("chat.guildhall.role", "red", {"name": "red", "permissions": role.split(), "position": 1}),
        ("chat.guildhall.role", "blue", {"name": "blue", "permissions": [], "position": 2}),
        ("chat.guildhall.member", f"_{ANN}", {"roles": ["red", "blue"]}),
        ("chat.guildhall.category", "cat", {"name": "cat", "overrides": content_of(category or {})}),
        (
            "chat.guildhall.channel",
            "!c",
            {"kind": kind, **({} if overrides is None else {"overrides": content_of(overrides)})},
        ),
        ("m.space.child", "!c", {"via": ["a.example"], "chat.guildhall.category": "cat"}),
    ]
    return guild_of("!guild", state)


def content_of(overrides: dict[str, tuple[str, str]]) -> dict[str, Any]:
    return {target: {"allow": allow.split(), "deny": deny.split()} for target, (allow, deny) in overrides.items()}


def may(guild: Guild, user_id: str = ANN) -> str:
    return " ".join(permission_names(guild.permissions(user_id, guild.channels["!c"])))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({}, "view_channel send_messages"),
        ({"role": "add_reactions"}, "view_channel send_messages add_reactions"),
        ({"everyone": "send_messages"}, ""),  # without the view, nothing
        ({"everyone": "", "role": "view_channel"}, "view_channel"),
        ({"overrides": {"everyone": ("", "send_messages")}}, "view_channel"),
        ({"overrides": {"everyone": ("connect", "connect")}}, "view_channel send_messages connect"),
        # A role's allow is stronger than everyone's deny, and a member's deny than both.
        ({"overrides": {"everyone": ("", WRITE), "red": (WRITE, "")}}, "view_channel send_messages"),
        ({"overrides": {"everyone": ("", WRITE), "red": (WRITE, ""), ANN: ("", WRITE)}}, "view_channel"),
        # Of two roles, what one allows the other's deny does not take.
        ({"overrides": {"red": ("connect", ""), "blue": ("", "connect")}}, "view_channel send_messages connect"),
        ({"overrides": {"red": ("", "send_messages"), "blue": ("", "view_channel")}}, ""),
        ({"overrides": {"red": ("", "view_channel"), ANN: ("view_channel", "")}}, "view_channel send_messages"),
        # The category's hold where the channel has none of its own, not even an empty set.
        ({"category": {"everyone": ("", "view_channel")}}, ""),
        ({"category": {"everyone": ("", "view_channel")}, "overrides": {}}, "view_channel send_messages"),
        ({"kind": "announcement"}, "view_channel"),
        ({"kind": "announcement", "overrides": {"red": ("send_messages", "")}}, "view_channel send_messages"),
        ({"kind": "announcement", "category": {"red": ("send_messages", "")}}, "view_channel send_messages"),
        # What is the guild's cannot be overridden.
        ({"overrides": {"everyone": ("administrator kick_members", "")}}, "view_channel send_messages"),
    ],
)  # fmt: skip
def test_in_a_channel(shape: dict[str, Any], expected: str) -> None:
    assert may(guild(**shape)) == expected


def test_administrators_and_the_owner_are_above_overrides() -> None:
    shut = {"everyone": ("", "view_channel send_messages"), ANN: ("", "view_channel"), OWNER: ("", "view_channel")}
    everything = " ".join(NAMES)
    assert may(guild(role="administrator", overrides=shut, kind="announcement")) == everything
    assert may(guild(overrides=shut), OWNER) == everything
    assert may(guild(overrides=shut)) == ""


def test_names() -> None:
    assert parse_permissions(NAMES) == EVERYTHING and permission_names(EVERYTHING) == list(NAMES)
    with pytest.raises(UnknownPermission, match="'fly'"):
        parse_permissions(["connect", "fly"])
    assert permission_names(read_permissions(["connect", "fly", 7])) == ["connect"]
    assert read_permissions("connect") == NOTHING


@settings(max_examples=60)
@given(guilds)
def test_the_explanation_ends_at_the_answer_and_each_step_says_what_it_did(guild: Guild) -> None:
    for channel in all_channels(guild):
        for user in [*USERS, OWNER]:
            before = NOTHING
            for step in guild.explain(user, channel):
                assert step.result == before & ~step.deny | step.allow
                before = step.result
            assert before == guild.permissions(user, channel)


def denied(state: State, target: str, permissions: Permissions) -> Guild:
    """The guild with one more deny in each of its channels."""
    pieces = []
    for (kind, key), content in state.items():
        if kind == "chat.guildhall.channel":
            inside = content.get("overrides")
            if inside is not None:
                old = inside.get(target, {"allow": [], "deny": []})
                deny = sorted({*old["deny"], *permission_names(permissions)})
                content = {**content, "overrides": {**inside, target: {"allow": old["allow"], "deny": deny}}}
        pieces.append((kind, key, content))
    return guild_of("!guild", pieces)


@settings(max_examples=60)
@given(states, st.sampled_from(["everyone", "mods", "verified", *USERS]), st.integers(0, EVERYTHING & ~GUILD_WIDE))
def test_a_deny_never_grants(state: State, target: str, permissions: Permissions) -> None:
    before, after = denied(state, target, NOTHING), denied(state, target, permissions)
    for room_id, channel in before.channels.items():
        for user in USERS:
            held = before.permissions(user, channel)
            assert not after.permissions(user, after.channels[room_id]) & ~held


@settings(max_examples=60)
@given(guilds)
def test_ranks(guild: Guild) -> None:
    order = guild.roles_in_order()
    assert order[0].role_id == "admin" and order[-1].role_id == "everyone"
    heights = [guild.height(role.role_id) for role in order]
    assert heights == sorted(heights, reverse=True)
    assert all(guild.rank(OWNER) > guild.rank(user) for user in USERS)
