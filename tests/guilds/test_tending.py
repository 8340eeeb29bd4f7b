"""Who may view a channel comes into it by itself: on the guild's own server, and on others by their own doing."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import MatrixError
from homeserver.guilds.doors import GuildDoors
from homeserver.guilds.editor import Edit, Editor
from homeserver.guilds.model import CHANNEL_TYPE
from homeserver.guilds.viewers import channels_for
from storage.guilds import untended
from tests.guilds.api import ApiHouse, at, hall
from tests.guilds.fleet import GuildFleet, GuildMember, guild_fleet

__all__ = ["guild_fleet", "hall"]

HIDDEN: dict[str, Any] = {"overrides": {"everyone": {"allow": [], "deny": ["view_channel"]}}}


def inside(hall: ApiHouse, room_id: str, *names: str) -> set[str]:
    return {name for name in names if hall.membership(name, room_id) == "join"}


def test_members_come_into_new_and_opened_channels_in_one_commit(hall: ApiHouse) -> None:
    guild_id = hall.new()
    people = ("bob", "cat", "dan")
    for name in people:
        hall.enter(guild_id, name)
    batches: list[int] = []
    hall.house.database.on_commit(lambda notices: batches.append(len(notices)))
    open_id = hall.new_channel(guild_id, "open")
    assert inside(hall, open_id, "ann", *people) == {"ann", *people}
    assert batches == [2, 1]  # the guild with its new channel, then everybody who comes in
    closed = hall.new_channel(guild_id, "closed", **HIDDEN)
    assert inside(hall, closed, "ann", *people) == {"ann"}
    staff = hall.new_role(guild_id, "staff")
    hall.give_role(guild_id, "bob", staff)
    view = {"allow": ["view_channel"], "deny": []}
    hall.call("ann", "PUT", at("guilds", guild_id, "channels", closed, "overrides", staff), view)
    assert inside(hall, closed, *people) == {"bob"}
    hall.give_role(guild_id, "cat", staff)
    assert inside(hall, closed, *people) == {"bob", "cat"}
    hall.call("ann", "DELETE", at("guilds", guild_id, "members", hall.user("cat"), "roles", staff))
    assert inside(hall, closed, *people) == {"bob"}
    hall.call("ann", "PUT", at("guilds", guild_id, "channels", closed, "overrides", "everyone"), view)
    assert inside(hall, closed, *people) == set(people)  # cat was put out and comes again


def test_who_left_by_their_own_hand_stays_out(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.enter(guild_id, "bob")
    general = hall.channel(guild_id, "general")
    hall.leave("bob", general)
    staff = hall.new_role(guild_id, "staff")
    hall.give_role(guild_id, "bob", staff)
    hall.settle(guild_id)
    assert hall.membership("bob", general) == "leave"
    hall.leave("bob", guild_id)
    hall.rest()
    hall.enter(guild_id, "bob")
    assert hall.membership("bob", general) == "join"


def test_in_a_lazy_guild_channels_are_joined_when_they_are_opened(hall: ApiHouse) -> None:
    guild_id = hall.new()
    hall.call("ann", "PATCH", at("guilds", guild_id), {"lazy": True})
    hall.enter(guild_id, "bob")
    channel = hall.new_channel(guild_id, "open")
    assert hall.membership("bob", channel) is None
    hall.join("bob", channel)
    assert hall.membership("bob", channel) == "join"


def started(fleet: GuildFleet, **body: Any) -> tuple[GuildMember, GuildMember, str]:
    a, b = fleet.pair()
    guild_id = a.new_guild("ann", **body)
    a.opened(guild_id)
    return a, b, guild_id


def test_members_elsewhere_are_brought_in_by_their_server(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = started(guild_fleet, template="community")
    closed = str(a.done("ann", "POST", at("guilds", guild_id, "channels"), {"name": "closed", **HIDDEN})["room_id"])
    b.enter("bob", guild_id, via=a)
    guild_fleet.come_to_rest()
    channels = set(a.guild(guild_id).channels)
    guild = a.guild(guild_id)
    may = {one.room_id for one in channels_for(guild, b.user("bob"))}
    assert closed not in may and len(may) > 3
    assert {room_id for room_id in may if b.membership("bob", room_id) == "join"} == may
    with pytest.raises(MatrixError, match="M_FORBIDDEN"):
        b.enter("bob", closed, via=a)
    # A new channel, and one that opens, bring everybody in.
    new = str(a.done("ann", "POST", at("guilds", guild_id, "channels"), {"name": "new"})["room_id"])
    guild_fleet.come_to_rest()
    assert b.membership("bob", new) == "join"
    allow = {"allow": ["view_channel"], "deny": []}
    path = at("guilds", guild_id, "channels", closed, "overrides", b.user("bob"))
    a.done("ann", "PUT", path, allow)
    guild_fleet.come_to_rest()
    assert b.membership("bob", closed) == "join"
    # Losing the view puts out, regaining it brings back; what one left oneself stays left.
    a.done("ann", "DELETE", path)
    guild_fleet.come_to_rest()
    assert b.membership("bob", closed) == "leave" == a.membership(b.user("bob"), closed)
    b.leave("bob", new)
    a.done("ann", "PUT", path, allow)
    guild_fleet.come_to_rest()
    assert b.membership("bob", closed) == "join" and b.membership("bob", new) == "leave"
    # Leaving the guild leaves all of it, and ends roles; coming back takes everything.
    b.leave("bob", guild_id)
    guild_fleet.come_to_rest()
    assert not [room_id for room_id in (guild_id, *channels) if a.membership(b.user("bob"), room_id) == "join"]

    b.enter("bob", guild_id, via=a)
    guild_fleet.come_to_rest()
    assert b.membership("bob", new) == "join" == b.membership("bob", closed)


def test_it_goes_on_after_an_outage_and_a_restart(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = started(guild_fleet)
    b.enter("bob", guild_id, via=a)  # nothing else has happened yet
    guild_fleet.down.add("a.example")
    guild_fleet.run(5)
    channels = list(a.guild(guild_id).channels)
    assert not [room_id for room_id in channels if a.membership(b.user("bob"), room_id)]
    again = guild_fleet.crash(b)
    assert isinstance(again, GuildMember)
    b = again
    guild_fleet.run(5)
    guild_fleet.down.clear()
    guild_fleet.run(30)
    guild_fleet.come_to_rest()
    assert {b.membership("bob", room_id) for room_id in channels} == {"join"}
    assert b.wait(b.house.database.run(untended)) == []


def test_kick_and_ban_by_a_plain_client_elsewhere_are_the_guilds(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = started(guild_fleet)
    b.enter("bob", guild_id, via=a)
    a.enter("cat", guild_id)
    guild_fleet.come_to_rest()
    general = a.names("ann", guild_id)["general"]
    with pytest.raises(MatrixError, match="ban_members"):
        b.ban("bob", a.user("cat"), general)
    a.done("ann", "PUT", at("guilds", guild_id, "members", b.user("bob"), "roles", "admin"))
    guild_fleet.come_to_rest()
    b.ban("bob", a.user("cat"), general)
    guild_fleet.come_to_rest()
    assert {a.membership("cat", room_id) for room_id in (guild_id, *a.guild(guild_id).channels)} == {"ban"}
    assert b.membership(a.user("cat"), guild_id) == "ban"


def test_who_was_left_behind_by_a_crash_is_put_out_at_the_next_start(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = started(guild_fleet)
    b.enter("bob", guild_id, via=a)
    guild_fleet.come_to_rest()
    general = a.names("ann", guild_id)["general"]
    assert a.membership(b.user("bob"), general) == "join"
    doors = a.house.guilds.door.observers
    held = [one for one in doors if isinstance(one, GuildDoors)]
    doors.remove(held[0])  # it crashes before this one hears of it
    event = b.make(guild_id, "bob", "m.room.member", {"membership": "leave"}, state_key=b.user("bob"))
    assert a.receive("b.example", guild_id, event.raw) == ["accepted"]
    assert a.membership(b.user("bob"), general) == "join"
    again = guild_fleet.crash(a)
    assert isinstance(again, GuildMember)
    assert {again.membership(b.user("bob"), room_id) for room_id in (guild_id, general)} == {"leave"}


def test_a_guild_that_names_a_strangers_room_brings_nobody_into_it(guild_fleet: GuildFleet) -> None:
    a, b, guild_id = started(guild_fleet)
    b.enter("bob", guild_id, via=a)
    guild_fleet.come_to_rest()
    trap = a.create("mallory", preset="public_chat", room_version="12")
    known = b.create("eve", preset="public_chat", room_version="12")

    def work(edit: Edit) -> None:
        for room_id in (trap, known):
            edit.set(CHANNEL_TYPE, room_id, {"kind": "text"})

    a.wait(a.house.part(Editor).edit(guild_id, a.steward, work))
    guild_fleet.come_to_rest()
    assert b.membership("bob", trap) == "leave" and b.membership("bob", known) is None
    asked = len(guild_fleet.asked("make_join"))
    a.done("ann", "PUT", at("guilds", guild_id, "members", b.user("bob"), "roles", "admin"))
    guild_fleet.come_to_rest()
    assert len(guild_fleet.asked("make_join")) == asked  # once was enough
