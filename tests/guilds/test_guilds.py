"""Guilds as rooms: made in one commit, joined in one, and kept as their roles say."""

from __future__ import annotations

from typing import Any

import pytest

from federation.room.purging import FLAG
from homeserver.errors import Forbidden, LimitExceeded, MatrixError
from homeserver.guilds.projection import project
from homeserver.rooms.compose import Template
from homeserver.rooms.send import Sender
from tests.guilds.fixtures import GuildHouse, town
from tests.retention.test_expiry import bodies, settle

__all__ = ["town"]

CALL_MEMBER = "org.matrix.msc3401.call.member"
MUTED = {"name": "muted", "permissions": [], "position": 1}
MODS = {"name": "mods", "permissions": ["manage_messages", "kick_members", "ban_members"], "position": 5}


def send(town: GuildHouse, name: str, room_id: str, content: dict[str, Any], kind: str = "m.room.message") -> str:
    txn_id = f"{name}{town.house.hub.position}{content}"
    return town.wait(town.house.part(Sender).message(town.who(name), room_id, kind, content, txn_id))


def text(body: str, **more: Any) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


def refused(town: GuildHouse, name: str, room_id: str, content: dict[str, Any], kind: str = "m.room.message") -> str:
    with pytest.raises(MatrixError) as caught:
        send(town, name, room_id, content, kind)
    return f"{caught.value.errcode} {caught.value.error}"


@pytest.mark.parametrize("template", [None, "community", "team", "gaming"])
def test_a_new_guild(town: GuildHouse, template: str | None) -> None:
    before = town.house.hub.position
    guild_id = town.make_guild(template=template, topic="What for", icon="mxc://a/b", banner="mxc://a/c")
    guild = town.guild(guild_id)
    assert guild.settings.owner == town.user("ann") and guild.settings.banner == "mxc://a/c"
    assert town.content(guild_id, "m.room.name")["name"] == "A place"
    assert town.membership("ann", guild_id) == "join"
    assert guild.channels and all(town.membership("ann", room_id) == "join" for room_id in guild.channels)
    kinds = {town.live(room_id).create.content.get("type") for room_id in guild.channels}
    assert kinds == {None, "org.matrix.msc3417.call"}
    for channel in guild.channels_in_order():
        assert guild.category_of(channel) is not None
        assert town.content(channel.room_id, "m.space.parent", guild_id)["canonical"] is True
        assert town.content(channel.room_id, "m.room.join_rules")["allow"] == [
            {"type": "m.room_membership", "room_id": guild_id}
        ]
    assert town.house.hub.position > before
    settled = town.house.hub.position
    town.settle(guild_id)
    assert town.house.hub.position == settled  # everything is as it should be already


def test_joining_and_leaving_are_one_commit_over_all_rooms(town: GuildHouse) -> None:
    guild_id = town.make_guild(template="community")
    rooms = [guild_id, *town.guild(guild_id).channels]
    batches: list[int] = []
    town.house.database.on_commit(lambda notices: batches.append(len(notices)))
    town.enter(guild_id, "bob")
    assert batches == [len(rooms)]
    assert {town.membership("bob", room_id) for room_id in rooms} == {"join"}
    town.enter(guild_id, "bob")  # twice is no error
    town.leave("bob", guild_id)  # as a plain client does
    assert {town.membership("bob", room_id) for room_id in rooms} == {"leave"}
    with pytest.raises(Forbidden, match="owner"):
        town.leave("ann", guild_id)


def test_nobody_joins_uninvited_and_a_plain_join_of_an_open_guild_takes_all_channels(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    with pytest.raises(Forbidden):
        town.join("bob", guild_id)
    settings = {"version": 1, "owner": town.user("ann"), "discoverable": True}
    town.set(guild_id, "chat.guildhall.guild", "", settings)
    town.join("bob", guild_id)
    assert {town.membership("bob", room_id) for room_id in town.guild(guild_id).channels} == {"join"}


def test_roles_become_levels_before_the_edit_is_answered(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.enter(guild_id, "bob")
    send(town, "bob", general, text("hello"))
    town.set(guild_id, "chat.guildhall.role", "muted", MUTED)
    town.give(guild_id, "bob", "muted")
    channel = {"kind": "text", "slowmode_s": 0, "overrides": {"muted": {"allow": [], "deny": ["send_messages"]}}}
    town.set(guild_id, "chat.guildhall.channel", general, channel)
    levels = town.levels(general)
    assert levels.user(town.user("bob")) < levels.events_default
    assert "send_messages" in refused(town, "bob", general, text("still?"))
    town.give(guild_id, "bob")
    send(town, "bob", general, text("again"))
    guild = town.guild(guild_id)
    for room_id, found in guild.channels.items():
        assert town.content(room_id, "m.room.power_levels") == project(guild, found)


def test_a_channel_that_closes_puts_out_who_may_not_view_it(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.enter(guild_id, "bob")
    town.enter(guild_id, "cat")
    town.set(guild_id, "chat.guildhall.role", "staff", {"name": "staff", "position": 1})
    town.give(guild_id, "cat", "staff")
    overrides = {"everyone": {"deny": ["view_channel"]}, "staff": {"allow": ["view_channel"]}}
    town.set(guild_id, "chat.guildhall.channel", general, {"kind": "text", "overrides": overrides})
    assert town.membership("bob", general) == "leave" and town.membership("cat", general) == "join"
    assert town.content(general, "m.room.join_rules")["allow"][0]["type"] == "chat.guildhall.view_channel"
    with pytest.raises(Forbidden):
        town.join("bob", general)
    town.give(guild_id, "cat")
    assert town.membership("cat", general) == "leave"
    town.give(guild_id, "bob", "staff")
    town.join("bob", general)
    assert town.membership("bob", general) == "join"


def test_kicks_and_bans_stand_in_all_rooms(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.set(guild_id, "chat.guildhall.role", "mods", MODS)
    for name in ("bob", "cat", "mod"):
        town.enter(guild_id, name)
    town.give(guild_id, "mod", "mods")
    town.give(guild_id, "cat", "mods")
    with pytest.raises(Forbidden):
        town.wait(town.memberships.kick(general, town.user("bob"), town.user("cat")))
    with pytest.raises(Forbidden, match="below"):
        town.wait(town.memberships.kick(general, town.user("mod"), town.user("cat")))
    with pytest.raises(Forbidden, match="owner"):
        town.wait(town.memberships.ban(general, town.user("mod"), town.user("ann")))
    town.wait(town.memberships.kick(general, town.user("mod"), town.user("bob")))  # in a channel, as plain clients do
    assert town.membership("bob", guild_id) == town.membership("bob", general) == "leave"
    town.wait(town.memberships.ban(guild_id, town.user("ann"), town.user("cat"), "spam"))
    assert town.membership("cat", guild_id) == town.membership("cat", general) == "ban"
    assert town.guild(guild_id).member(town.user("cat")).roles == ()
    town.wait(town.memberships.unban(guild_id, town.user("ann"), town.user("cat")))
    assert town.membership("cat", guild_id) == town.membership("cat", general) == "leave"


def test_who_is_put_out_takes_along_what_they_said(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    rooms = sorted(town.guild(guild_id).channels)
    assert len(rooms) > 1
    town.set(guild_id, "chat.guildhall.role", "mods", MODS)
    town.set(guild_id, "chat.guildhall.role", "bouncers", {**MODS, "permissions": ["ban_members"], "position": 4})
    for name in ("bob", "cat", "mod", "bouncer"):
        town.enter(guild_id, name)
    town.give(guild_id, "mod", "mods")
    town.give(guild_id, "bouncer", "bouncers")
    for name in ("bob", "cat"):
        for room_id in rooms:
            town.say(name, room_id, f"spam of {name}")
    purge = {FLAG: True}
    town.wait(town.memberships.ban(guild_id, town.user("bouncer"), town.user("cat"), besides=purge))
    town.wait(town.memberships.kick(rooms[0], town.user("mod"), town.user("bob"), besides=purge))
    settle(town)
    for room_id in rooms:
        assert town.membership("cat", room_id) == "ban" and town.membership("bob", room_id) == "leave"
        # Who may put out but not delete takes nothing away.
        assert bodies(town, "ann", room_id) == [None, "spam of cat"]


def test_what_only_the_steward_may_set(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.enter(guild_id, "bob")
    for room_id in (guild_id, general):
        for kind, content in (
            ("m.room.power_levels", {"users": {town.user("bob"): 100}}),
            ("m.room.join_rules", {"join_rule": "public"}),
            ("chat.guildhall.role", {"name": "mine", "permissions": ["administrator"]}),
            ("m.room.server_acl", {"allow": []}),
            ("m.room.name", {"name": "mine"}),
            ("org.example.anything", {}),
        ):
            with pytest.raises(Forbidden):
                town.set_state("bob", room_id, kind, content)
    with pytest.raises(Forbidden):
        town.set_state("bob", guild_id, "chat.guildhall.member", {"roles": ["admin"]}, f"_{town.user('bob')}")
    town.set_state("ann", general, "m.room.topic", {"topic": "the owner may"})


def test_what_levels_cannot_say(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.enter(guild_id, "bob")
    everyone = {"name": "everyone", "permissions": ["view_channel", "send_messages"]}
    town.set(guild_id, "chat.guildhall.role", "everyone", everyone)
    town.set(guild_id, "chat.guildhall.role", "loud", {"name": "loud", "position": 1, "mentionable": True})
    town.set(guild_id, "chat.guildhall.role", "quiet", {"name": "quiet", "position": 2})
    assert "attach_files" in refused(town, "bob", general, {"msgtype": "m.image", "body": "x", "url": "mxc://a/b"})
    assert "add_reactions" in refused(town, "bob", general, {}, "m.reaction")
    assert "mention_everyone" in refused(town, "bob", general, text("x", **{"m.mentions": {"room": True}}))
    quiet = text("x", **{"m.mentions": {"chat.guildhall.roles": ["quiet"]}})
    assert "mention_everyone" in refused(town, "bob", general, quiet)
    send(town, "bob", general, text("x", **{"m.mentions": {"chat.guildhall.roles": ["loud"]}}))
    assert "M_FORBIDDEN" in refused(town, "bob", general, text("x", **{"chat.guildhall.on_behalf_of": "@ann:x"}))


def test_who_loses_connect_is_out_of_the_call(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    voice = town.channel(guild_id, "Voice")
    keys = {name: f"_{town.user(name)}_DEVICE_m.call" for name in ("bob", "cat")}
    for name, key in keys.items():
        town.enter(guild_id, name)
        town.set_state(name, voice, CALL_MEMBER, {"application": "m.call", "device_id": "DEVICE"}, key)
    overrides = {town.user("bob"): {"deny": ["connect"]}}
    town.set(guild_id, "chat.guildhall.channel", voice, {"kind": "voice", "overrides": overrides})
    assert town.content(voice, CALL_MEMBER, keys["bob"]) == {}
    assert town.content(voice, CALL_MEMBER, keys["cat"])["device_id"] == "DEVICE"
    with pytest.raises(Forbidden):
        town.set_state("bob", voice, CALL_MEMBER, {"device_id": "DEVICE"}, keys["bob"])
    position = town.house.hub.position
    town.settle(guild_id)
    assert town.house.hub.position == position


def test_slow_mode(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.enter(guild_id, "bob")
    town.set(guild_id, "chat.guildhall.channel", general, {"kind": "text", "slowmode_s": 3600})
    send(town, "bob", general, text("one"))
    with pytest.raises(LimitExceeded):
        send(town, "bob", general, text("two"))
    send(town, "ann", general, text("one"))
    send(town, "ann", general, text("two"))


def test_who_leaves_by_another_way_loses_roles_and_an_ownerless_guild_gets_an_owner(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    general = town.channel(guild_id, "general")
    town.set(guild_id, "chat.guildhall.role", "mods", MODS)
    for name in ("bob", "cat"):
        town.enter(guild_id, name)
    town.give(guild_id, "bob", "mods")
    # As a plain server would: the guild's room alone.
    leaving = Template("m.room.member", town.user("ann"), {"membership": "leave"}, town.user("ann"))
    town.wait(town.house.guilds.door.send(guild_id, [leaving]))
    town.rest()
    guild = town.guild(guild_id)
    assert guild.settings.owner == town.user("bob")
    assert town.membership("ann", general) == "leave"
    assert town.levels(general).user(town.user("bob")) == 150


def test_a_guild_that_does_not_fit_is_refused_before_anything_is_written(town: GuildHouse) -> None:
    guild_id = town.make_guild()
    position = town.house.hub.position
    with pytest.raises(MatrixError, match="M_TOO_LARGE"):
        town.set(guild_id, "chat.guildhall.role", "big", {"name": "x" * 70_000})
    assert town.house.hub.position == position
