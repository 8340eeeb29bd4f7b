"""What a guild asks of messages beyond levels, who is told by roles, and what those see who were inside."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.history import History
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.send import Sender
from tests.guilds.api import ApiHouse, at, hall
from tests.guilds.fleet import GuildFleet, GuildMember, guild_fleet

__all__ = ["guild_fleet", "hall"]

ROLES = "chat.guildhall.roles"


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


PICTURE = {"msgtype": "m.image", "body": "a.png", "url": "mxc://b.example/a"}


def comes(a: GuildMember, b: GuildMember, room_id: str, content: dict[str, Any], name: str = "bob") -> str:
    """What becomes of a message that b's rules have not seen."""
    return a.receive("b.example", room_id, b.make(room_id, name, "m.room.message", content).raw)[0]


def begin(fleet: GuildFleet) -> tuple[GuildMember, GuildMember, str, str]:
    a, b = fleet.pair()
    guild_id = a.new_guild("ann")
    a.opened(guild_id)
    for name in ("bob", "mod"):
        b.enter(name, guild_id, via=a)
    fleet.come_to_rest()
    return a, b, guild_id, a.names("ann", guild_id)["general"]


def test_what_levels_do_not_carry_is_judged_on_arrival(guild_fleet: GuildFleet) -> None:
    a, b, guild_id, general = begin(guild_fleet)

    def role(name: str, *permissions: str, **more: Any) -> str:
        body = {"name": name, "permissions": list(permissions), **more}
        return str(a.done("ann", "POST", at("guilds", guild_id, "roles"), body)["role_id"])

    quiet, loud = role("quiet"), role("loud", mentionable=True)
    assert comes(a, b, general, PICTURE) == "accepted"
    assert comes(a, b, general, text("all", **{"m.mentions": {ROLES: [loud]}})) == "accepted"
    assert comes(a, b, general, text("hush", **{"m.mentions": {ROLES: [quiet]}})) == "soft-failed"
    forged = {"chat.guildhall.on_behalf_of": a.user("ann")}
    assert comes(a, b, general, text("by ann", **forged)) == "soft-failed"
    path = at("guilds", guild_id, "channels", general, "overrides", "everyone")
    a.done("ann", "PUT", path, {"allow": [], "deny": ["attach_files"]})
    guild_fleet.come_to_rest()
    assert comes(a, b, general, PICTURE) == "soft-failed"
    assert comes(a, b, general, text("words")) == "accepted"
    assert a.texts("ann", general)[-1] == "words"
    # Slow mode goes by when things were said, and not for those who keep order.
    a.done("ann", "PATCH", at("guilds", guild_id, "channels", general), {"slowmode_s": 60})
    a.done("ann", "PUT", at("guilds", guild_id, "members", b.user("mod"), "roles", "admin"))
    guild_fleet.come_to_rest()
    assert [comes(a, b, general, text(f"{number}")) for number in range(2)] == ["accepted", "soft-failed"]
    assert [comes(a, b, general, text(f"{number}"), "mod") for number in range(2)] == ["accepted"] * 2
    guild_fleet.skip_ms(61_000)
    assert comes(a, b, general, text("later")) == "accepted"


def test_as_policy_server_the_guilds_server_holds_everybody_to_its_rules(guild_fleet: GuildFleet) -> None:
    guild_fleet.federation["a.example"] = {"policy_key_path": str(guild_fleet.directory / "policy.key")}
    a, b, guild_id, general = begin(guild_fleet)
    (c,) = guild_fleet.open("c")
    assert isinstance(c, GuildMember)
    c.enter("cat", guild_id, via=a)
    guild_fleet.come_to_rest()
    a.done("ann", "PATCH", at("guilds", guild_id), {"policy": True})
    path = at("guilds", guild_id, "channels", general, "overrides", "everyone")
    a.done("ann", "PUT", path, {"allow": [], "deny": ["attach_files"]})
    guild_fleet.come_to_rest()
    for member in (a, b, c):
        assert {("m.room.policy", "")} <= member.state_of(general).keys() & member.state_of(guild_id).keys()
    b.say("bob", general, "signed")
    guild_fleet.come_to_rest()
    assert a.texts("ann", general)[-1] == c.texts("cat", general)[-1] == "signed"
    # A server that knows no roles would take it, and asks for the signature that it does not get.
    c.house.part(Receiver).opinions.clear()
    assert comes(c, b, general, PICTURE) == "soft-failed"
    assert comes(c, b, general, text("fine")) == "accepted"
    assert comes(a, b, general, PICTURE) == "soft-failed"
    new = str(a.done("ann", "POST", at("guilds", guild_id, "channels"), {"name": "new"})["room_id"])
    guild_fleet.come_to_rest()
    assert ("m.room.policy", "") in b.state_of(new)
    a.done("ann", "PATCH", at("guilds", guild_id), {"policy": False})
    guild_fleet.come_to_rest()
    assert comes(c, b, general, PICTURE) == "accepted"


def test_who_is_no_policy_server_says_so(hall: ApiHouse) -> None:
    guild_id = hall.new()
    assert "policy_key_path" in hall.refused("ann", "PATCH", at("guilds", guild_id), {"policy": True})


def test_roles_that_are_mentioned_notify_those_who_may_view(hall: ApiHouse) -> None:
    hall.wait(hall.house.push.watch.start())
    guild_id = hall.new()
    for name in ("bob", "cat", "dan"):
        hall.enter(guild_id, name)
    crew = hall.new_role(guild_id, "crew", mentionable=True)
    for name in ("bob", "cat"):
        hall.give_role(guild_id, name, crew)
    general = hall.channel(guild_id, "general")

    def highlights(name: str) -> int:
        section = hall.sync(name)["rooms"]["join"][general]
        return int(section["unread_notifications"]["highlight_count"])

    def mention(role_id: str, by: str = "ann") -> None:
        content = text("all hands", **{"m.mentions": {ROLES: [role_id]}})
        hall.wait(hall.house.part(Sender).message(hall.who(by), general, "m.room.message", content, f"{role_id}{by}"))

    mention(crew, "dan")
    assert [highlights(name) for name in ("bob", "cat", "dan")] == [1, 1, 0]
    deny = {"allow": [], "deny": ["view_channel"]}
    hall.call("ann", "PUT", at("guilds", guild_id, "channels", general, "overrides", hall.user("cat")), deny)
    mention(crew)
    assert highlights("bob") == 2
    mention("everyone")
    assert highlights("bob") == 3 and highlights("dan") == 1


def test_the_past_of_a_channel_is_closed_with_it(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    general = hall.channel(guild_id, "general")
    secret = hall.say("ann", general, "confidential")
    since = hall.sync("bob")["next_batch"]
    hall.say("ann", general, "confidential too")
    path = at("guilds", guild_id, "channels", general, "overrides", hall.user("bob"))
    hall.call("ann", "PUT", path, {"allow": [], "deny": ["view_channel"]})
    assert hall.membership("bob", general) == "leave"
    with pytest.raises(Forbidden):
        hall.page("bob", general, None, None)
    history = hall.house.part(History)
    with pytest.raises(MatrixError):
        hall.wait(history.event(general, hall.user("bob"), secret))
    gone = hall.sync("bob", since)["rooms"]["leave"][general]["timeline"]["events"]
    assert [event["type"] for event in gone] == ["m.room.member"]
    assert "confidential" not in str(hall.sync("bob", filter={"room": {"include_leave": True}}))
    hall.call("ann", "DELETE", path)
    assert hall.membership("bob", general) == "join" and secret in hall.page("bob", general, None, None)
    # What somebody left who may view it is theirs to read, as anywhere.
    hall.leave("bob", general)
    assert secret in hall.page("bob", general, None, None)
    hall.leave("bob", guild_id)
    with pytest.raises(Forbidden):
        hall.page("bob", general, None, None)
