"""What plain clients do about memberships in guilds' rooms, accounts that end, and the steward's own account."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.accounts.changes import AccountChanges
from homeserver.accounts.registration import Registration
from homeserver.errors import Forbidden, MatrixError, NotFound
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.ignoring import Ignoring
from storage.account_data import GLOBAL
from tests.guilds.api import ApiHouse, at, hall

__all__ = ["hall"]


def member(hall: ApiHouse, by: str, room_id: str, name: str, membership: str) -> str:
    """A member event as a client words it itself."""
    return hall.set_state(by, room_id, "m.room.member", {"membership": membership}, hall.user(name))


def memberships(hall: ApiHouse, name: str, guild_id: str) -> set[str | None]:
    return {hall.membership(name, room_id) for room_id in [guild_id, *hall.guild(guild_id).channels]}


def test_member_events_as_state_are_the_guilds_operations(hall: ApiHouse) -> None:
    guild_id = hall.new()
    general = hall.channel(guild_id, "general")
    for name in ("bob", "cat"):
        member(hall, "ann", guild_id, name, "invite")
        event_id = member(hall, name, guild_id, name, "join")
        assert hall.live(guild_id).visible.state["m.room.member", hall.user(name)].event_id == event_id
        assert memberships(hall, name, guild_id) == {"join"}
    for room_id, target, membership in (
        (general, "cat", "leave"), (general, "cat", "ban"), (guild_id, "ann", "ban"), (guild_id, "cat", "leave"),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            member(hall, "bob", room_id, target, membership)
    member(hall, "ann", general, "cat", "leave")
    assert memberships(hall, "cat", guild_id) == {"leave"}
    member(hall, "ann", general, "bob", "ban")
    assert memberships(hall, "bob", guild_id) == {"ban"}
    member(hall, "ann", general, "bob", "leave")
    assert memberships(hall, "bob", guild_id) == {"leave"}
    hall.enter(guild_id, "bob")
    member(hall, "bob", guild_id, "bob", "leave")
    assert memberships(hall, "bob", guild_id) == {"leave"}
    with pytest.raises(Forbidden, match="owner"):
        member(hall, "ann", guild_id, "ann", "leave")
    actions = [entry["action"] for entry in hall.call("ann", "GET", at("guilds", guild_id, "audit"))["entries"]]
    assert actions == ["member.unban", "member.ban", "member.kick"]


def test_those_outside_put_nobody_out(hall: ApiHouse) -> None:
    """What `everyone` may do is for members."""
    guild_id = hall.new()
    dangerous = {"permissions": ["view_channel", "kick_members", "ban_members"]}
    hall.call("ann", "PATCH", at("guilds", guild_id, "roles", "everyone"), dangerous)
    staff = hall.new_role(guild_id, "staff")
    hall.enter(guild_id, "bob")
    hall.enter(guild_id, "cat")
    hall.give_role(guild_id, "cat", staff)
    hall.call("cat", "POST", at("guilds", guild_id, "leave"))
    hall.rest()
    for who in ("cat", "eve"):
        for act in (hall.memberships.kick, hall.memberships.ban, hall.memberships.unban):
            with pytest.raises((Forbidden, NotFound)):
                hall.wait(act(guild_id, hall.user(who), hall.user("bob")))
    assert memberships(hall, "bob", guild_id) == {"join"}


def test_an_account_that_ends_hands_its_guilds_over(hall: ApiHouse) -> None:
    hall.wait(hall.house.part(Registration).make("ann", None))
    guild_id, alone = hall.new(), hall.new()
    hall.enter(guild_id, "bob")
    hall.enter(guild_id, "cat")
    hall.give_role(guild_id, "cat", hall.new_role(guild_id, "staff"))
    hall.wait(hall.house.part(AccountChanges).deactivate(hall.user("ann"), erase=False))
    hall.rest()
    assert hall.whole("cat", guild_id)["owner"] == hall.user("cat")
    assert memberships(hall, "ann", guild_id) == {"leave"}
    assert memberships(hall, "ann", alone) == {"leave"}


def test_nobody_is_the_steward(hall: ApiHouse) -> None:
    registration = hall.house.part(Registration)
    for name in ("guildhall", "GuildHall"):
        with pytest.raises(MatrixError, match="M_USER_IN_USE"):
            hall.wait(registration.require_free_name(name))
        with pytest.raises(MatrixError, match="M_USER_IN_USE"):
            hall.wait(registration.make(name, "a good long password", is_admin=True))
    room_id = hall.create("bob")
    with pytest.raises(Forbidden):
        hall.wait(hall.memberships.invite(room_id, hall.user("bob"), hall.steward))
    with pytest.raises(Forbidden):
        member(hall, "bob", room_id, "guildhall", "invite")
    direct = hall.create("bob", invite=[hall.steward], is_direct=True)
    assert hall.live(direct).membership_of(hall.steward) is None
    ignored: dict[str, Any] = {"ignored_users": {hall.steward: {}, hall.user("cat"): {}}}
    hall.wait(hall.house.part(AccountData).put(hall.user("bob"), GLOBAL, "m.ignored_user_list", ignored))
    ignoring = Ignoring(hall.house.database, [hall.steward])
    assert hall.wait(ignoring.of(hall.user("bob"))) == {hall.user("cat")}
