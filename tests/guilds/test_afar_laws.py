"""After whatever was edited, and whoever came and went: what a plain server lets its people do, roles allow them.

The plain server is played: b's own rules are not asked, only the room as b knows it and the authorisation rules.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from federation.room.auth import Refused
from homeserver.guilds.permissions import (
    ADD_REACTIONS,
    CONNECT,
    EDIT_CHANNEL,
    MANAGE_GUILD,
    MANAGE_MESSAGES,
    SEND_MESSAGES,
    VIEW_CHANNEL,
)
from homeserver.rooms.receive.receiver import Receiver
from tests.guilds.api import at
from tests.guilds.fleet import GuildFleet, GuildMember, guild_fleet
from tests.guilds.strategies import CARRIED

__all__ = ["guild_fleet"]

PEOPLE = ("bob", "eve")
SOME = ("view_channel", "send_messages", "add_reactions", "connect", "edit_channel", "manage_messages")
NEVER = 0
permissions = st.lists(st.sampled_from(CARRIED), max_size=4, unique=True)
in_channels = st.lists(st.sampled_from(SOME), max_size=3, unique=True)
edits = st.one_of(
    st.tuples(st.just("role"), st.sampled_from(("everyone", "red", "blue")), permissions),
    st.tuples(st.just("give"), st.sampled_from(PEOPLE), st.lists(st.sampled_from(("red", "blue")), max_size=2)),
    st.tuples(
        st.just("override"),
        st.sampled_from(("everyone", "red", "blue", *PEOPLE)),
        st.tuples(in_channels, in_channels).map(lambda pair: (pair[0], sorted(set(pair[1]) - set(pair[0])))),
    ),
    st.tuples(st.just("inherit"), st.just(""), st.none()),
    st.tuples(st.sampled_from(("kick", "come", "leave")), st.sampled_from(PEOPLE), st.none()),
)
_number = count()


class Place:
    """One guild, and what is done in it."""

    def __init__(self, fleet: GuildFleet, a: GuildMember, b: GuildMember) -> None:
        self.fleet, self.a, self.b = fleet, a, b
        self.guild_id = a.new_guild("ann", name=f"Place {next(_number)}")
        a.opened(self.guild_id)
        self.channel = a.names("ann", self.guild_id)["general"]
        self.ids = {"everyone": "everyone", **{name: b.user(name) for name in PEOPLE}}
        for name in ("red", "blue"):
            self.ids[name] = a.done("ann", "POST", at("guilds", self.guild_id, "roles"), {"name": name})["role_id"]
        for name in PEOPLE:
            b.enter(name, self.guild_id, via=a)

    def edit(self, what: str, whom: str, how: Any) -> None:
        a, b, guild = self.a, self.b, ("guilds", self.guild_id)
        target = self.ids.get(whom, "")
        overrides = (*guild, "channels", self.channel, "overrides")
        match what:
            case "role":
                a.done("ann", "PATCH", at(*guild, "roles", target), {"permissions": how})
            case "give":  # 404 for who is not in
                a.call("ann", "PATCH", at(*guild, "members", target), {"roles": [self.ids[one] for one in how]})
            case "override":
                a.call("ann", "PUT", at(*overrides, target), {"allow": how[0], "deny": how[1]})
            case "inherit":
                a.done("ann", "DELETE", at(*overrides))
            case "kick":
                a.call("ann", "POST", at(*guild, "members", target, "kick"))
            case "come" if b.membership(whom, self.guild_id) != "join":
                b.enter(whom, self.guild_id, via=a)
            case "leave" if b.membership(whom, self.guild_id) == "join":
                b.leave(whom, self.guild_id)

    def check(self) -> None:
        guild = self.a.guild(self.guild_id)
        assert self.b.guild(self.guild_id) == guild or not self.b.room(self.guild_id).local_joined
        for room_id in (self.guild_id, self.channel):
            channel = guild.channels.get(room_id)
            edit = MANAGE_GUILD if channel is None else EDIT_CHANNEL
            for name in PEOPLE:
                is_in = self.a.membership(self.b.user(name), room_id) == "join"
                held = guild.permissions(self.b.user(name), channel)
                is_member = self.a.membership(self.b.user(name), self.guild_id) == "join"
                if channel is not None:
                    assert is_in == (is_member and bool(held & VIEW_CHANNEL)), (name, "in")
                if not is_in:
                    continue
                for kind, key, content, needed in (
                    ("m.room.message", None, {"msgtype": "m.text", "body": "x"}, SEND_MESSAGES),
                    ("m.room.encrypted", None, {}, SEND_MESSAGES),
                    ("m.reaction", None, {}, ADD_REACTIONS),
                    ("m.room.topic", "", {"topic": "x"}, edit),
                    ("m.room.name", "", {"name": "x"}, edit),
                    ("m.room.pinned_events", "", {"pinned": []}, MANAGE_MESSAGES),
                    ("org.matrix.msc3401.call.member", self.b.user(name), {}, CONNECT),
                    ("m.room.power_levels", "", {"users": {self.b.user(name): 100}}, NEVER),
                    ("m.room.join_rules", "", {"join_rule": "public"}, NEVER),
                    ("m.room.member", self.a.user("ann"), {"membership": "leave"}, NEVER),
                    ("m.room.member", "@new:b.example", {"membership": "invite"}, NEVER),
                    ("chat.guildhall.member", f"_{self.b.user(name)}", {"roles": ["admin"]}, NEVER),
                ):
                    assert not self.passes(room_id, name, kind, key, content) or held & needed, (name, kind, room_id)

    def passes(self, room_id: str, name: str, kind: str, key: str | None, content: dict[str, Any]) -> bool:
        event = self.b.make(room_id, name, kind, content, state_key=key)
        room = self.b.room(room_id)
        judge = self.b.house.part(Receiver).judge
        return not isinstance(self.b.wait(judge.by_state(room, event, room.visible.state)), Refused)


LOST_AND_REGAINED = [("role", "everyone", []), ("role", "everyone", ["view_channel", "send_messages"])]


def test_no_action_passes_on_a_plain_server_that_roles_forbid(guild_fleet: GuildFleet) -> None:
    a, b = guild_fleet.pair()

    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @example(LOST_AND_REGAINED)
    @given(st.lists(edits, min_size=3, max_size=8))
    def law(some: list[tuple[str, str, Any]]) -> None:
        place = Place(guild_fleet, a, b)
        guild_fleet.come_to_rest()
        place.check()
        for what, whom, how in some:
            place.edit(what, whom, how)
        guild_fleet.come_to_rest()
        place.check()

    law()
