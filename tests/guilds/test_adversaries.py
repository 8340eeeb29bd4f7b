"""Somebody on another server who would be more in a guild than they are: by the API, by Matrix, by federation.

Every row is tried in one world, and refused: what comes after it finds the guild as it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from attrs import define

from federation.outbound.client import path_to
from federation.outbound.transport import PeerError, Request, Response
from federation.room.event import Event
from federation.room.signing import SigningKey
from homeserver.app import read_key
from homeserver.errors import MatrixError
from homeserver.guilds.abroad.errands import ACTIONS
from homeserver.guilds.model import OWN_TYPES
from homeserver.rooms.send import Sender
from tests.guilds.api import at
from tests.guilds.fleet import GuildFleet, GuildMember, guild_fleet

__all__ = ["guild_fleet"]

HIDDEN: dict[str, Any] = {"overrides": {"everyone": {"allow": [], "deny": ["view_channel"]}}}


@define
class World:
    """`a` is the guild's home, `b` a server that does whatever eve wants. eve has the role `helper`."""

    fleet: GuildFleet
    a: GuildMember
    b: GuildMember
    guild_id: str
    general: str
    closed: str
    helper: str
    chief: str

    @property
    def eve(self) -> str:
        return self.b.user("eve")

    # -- three ways of trying ----------------------------------------------------------------------------------

    def call(self, method: str, *path: str, **body: Any) -> None:
        """The guild API at home."""
        self.b.refused("eve", method, at("guilds", self.guild_id, *path), body or None)

    def sets(self, room_id: str, event_type: str, content: dict[str, Any], key: str = "") -> None:
        """The Matrix API at home."""
        with pytest.raises(MatrixError):
            self.b.set_state("eve", room_id, event_type, content, key)

    def sends(
        self, room_id: str, event_type: str, content: dict[str, Any], key: str | None = None, **more: Any
    ) -> None:
        """An event that no rule of b's has seen."""
        by = more.pop("by", "eve")
        self.hands_over(room_id, self.b.make(room_id, by, event_type, content, state_key=key, **more))

    def hands_over(self, room_id: str, event: Event) -> None:
        assert self.a.receive("b.example", room_id, event.raw) != ["accepted"], event.type

    def act(self, **changes: Any) -> None:
        """A signed action."""
        with pytest.raises(PeerError):
            self.b.ask(self.a, "POST", path_to(ACTIONS, self.guild_id), self.action(**changes))

    def action(self, **changes: Any) -> dict[str, Any]:
        path = at("guilds", self.guild_id, "members", self.eve, "roles", "admin")
        return {
            "action_id": secrets.token_urlsafe(8),
            "origin_server_ts": self.a.house.clock.now_ms(),
            "user_id": self.eve,
            "action": f"PUT {path}",
            "params": {},
            **changes,
        }

    # -- what must not change ----------------------------------------------------------------------------------

    def law(self) -> Any:
        guild = self.a.guild(self.guild_id)
        rooms = [self.guild_id, *sorted(guild.channels)]
        frames = [
            {key: ref.event_id for key, ref in self.a.room(room_id).visible.state.items() if key[0] != "m.room.member"}
            for room_id in rooms
        ]
        inside = [
            sorted(user for user, ref in self.a.room(room_id).members() if ref.membership == "join")
            for room_id in rooms
        ]
        return guild, frames, inside


def begin(fleet: GuildFleet) -> World:
    a, b = fleet.pair()
    guild_id = a.new_guild("ann")
    a.opened(guild_id)

    def role(name: str, *permissions: str) -> str:
        body = {"name": name, "permissions": list(permissions)}
        return str(a.done("ann", "POST", at("guilds", guild_id, "roles"), body)["role_id"])

    helper = role("helper", "manage_roles", "manage_channels", "kick_members", "manage_nicknames", "create_invite")
    chief = role("chief", "manage_roles", "ban_members", "manage_messages")
    a.done("ann", "PUT", at("guilds", guild_id, "roles", "order"), {"roles": [chief, helper]})
    closed = str(a.done("ann", "POST", at("guilds", guild_id, "channels"), {"name": "closed", **HIDDEN})["room_id"])
    a.enter("cat", guild_id)
    a.done("ann", "PUT", at("guilds", guild_id, "members", a.user("cat"), "roles", chief))
    for name in ("eve", "bob", "guildhall"):
        b.enter(name, guild_id, via=a)
    fleet.come_to_rest()
    a.done("ann", "PUT", at("guilds", guild_id, "members", b.user("eve"), "roles", helper))
    view = {"allow": ["view_channel"], "deny": []}
    a.done("ann", "PUT", at("guilds", guild_id, "channels", closed, "overrides", b.user("bob")), view)
    fleet.come_to_rest()
    general = a.names("ann", guild_id)["general"]
    assert b.membership("eve", general) == b.membership("bob", closed) == "join" != b.membership("eve", closed)
    return World(fleet, a, b, guild_id, general, closed, helper, chief)


# -- the table --------------------------------------------------------------------------------------------------------


def by_api(world: World) -> None:
    eve, cat, ann = world.eve, world.a.user("cat"), world.a.user("ann")
    world.call("PUT", "members", eve, "roles", "admin")
    world.call("PUT", "members", eve, "roles", world.chief)
    world.call("PATCH", "members", eve, roles=[world.helper, world.chief])
    world.call("PATCH", "members", eve, roles=[])  # taking one's own highest is taking one at one's rank
    world.call("PATCH", "roles", world.helper, permissions=["administrator"])
    world.call("PATCH", "roles", "everyone", permissions=["view_channel", "ban_members"])
    world.call("PATCH", "roles", world.chief, permissions=[])
    world.call("DELETE", "roles", world.chief)
    world.call("PUT", "roles", "order", roles=[world.helper, world.chief])
    world.call("POST", "roles", name="mine", permissions=["ban_members"])
    world.call("PUT", "channels", world.general, "overrides", eve, allow=["manage_messages"], deny=[])
    world.call("PUT", "channels", world.closed, "overrides", eve, allow=["view_channel"], deny=[])
    world.call("POST", "members", cat, "kick")
    world.call("POST", "members", ann, "kick")
    for target in (world.a.steward, ann):
        world.call("POST", "members", target, "kick")
        world.call("POST", "members", target, "ban")
        world.call("PATCH", "members", target, nick="nobody")
    world.call("POST", "members", cat, "ban")
    world.call("PATCH", "members", cat, nick="dog")
    world.call("POST", "owner", user_id=eve)
    world.call("PATCH", name="Eve's place")
    world.call("DELETE")
    world.call("GET", "audit")


def by_the_matrix_api(world: World) -> None:
    eve, steward = world.eve, world.a.steward
    for room_id in (world.guild_id, world.general):
        world.sets(room_id, "m.room.power_levels", {"users": {eve: 100}})
        world.sets(room_id, "m.room.join_rules", {"join_rule": "public"})
        world.sets(room_id, "m.room.history_visibility", {"history_visibility": "world_readable"})
        world.sets(room_id, "m.room.policy", {"via": "b.example", "public_key": "x"})
        world.sets(room_id, "m.room.tombstone", {"body": "gone", "replacement_room": "!other"})
        world.sets(room_id, "m.room.member", {"membership": "leave"}, world.a.user("cat"))
        world.sets(room_id, "m.room.member", {"membership": "leave"}, steward)
        world.sets(room_id, "m.space.child", {"via": ["b.example"]}, "!other")
    world.sets(world.guild_id, "chat.guildhall.role", {"name": "x", "permissions": ["administrator"]}, world.helper)
    world.sets(world.guild_id, "chat.guildhall.member", {"roles": ["admin"]}, f"_{eve}")
    world.sets(world.guild_id, "chat.guildhall.member", {"roles": ["admin"]}, eve)
    world.sets(world.guild_id, "chat.guildhall.guild", {"version": 1, "owner": eve})
    world.sets(world.general, "m.space.parent", {"via": ["b.example"], "canonical": True}, "!other")
    forged = {"msgtype": "m.text", "body": "by ann", "chat.guildhall.on_behalf_of": world.a.user("ann")}
    with pytest.raises(MatrixError):
        world.b.wait(
            world.b.house.part(Sender).message(world.b.who("eve"), world.general, "m.room.message", forged, "f")
        )
    with pytest.raises(MatrixError):
        world.b.enter("eve", world.closed, via=world.a)
    with pytest.raises(MatrixError):
        world.b.invite("bob", eve, world.closed)


def by_events(world: World) -> None:
    eve = world.eve
    for room_id in (world.guild_id, world.general):
        world.sends(room_id, "m.room.power_levels", {"users": {eve: 100}}, "")
        world.sends(room_id, "m.room.join_rules", {"join_rule": "public"}, "")
        world.sends(room_id, "m.room.member", {"membership": "ban"}, world.a.user("cat"))
        world.sends(room_id, "m.room.server_acl", {"allow": ["b.example"]}, "")
    for by in ("eve", "guildhall"):  # b's own steward is nobody here
        world.sends(world.guild_id, "chat.guildhall.member", {"roles": ["admin"]}, f"_{eve}", by=by)
        world.sends(world.guild_id, "chat.guildhall.role", {"name": "x", "permissions": ["administrator"]}, "x", by=by)
        world.sends(world.guild_id, "chat.guildhall.channel", {"kind": "text"}, "!strangers", by=by)
        world.sends(world.guild_id, "m.space.child", {"via": ["b.example"]}, "!strangers", by=by)
    world.sends(world.guild_id, "chat.guildhall.member", {"roles": ["admin"]}, eve)  # the key that only eve may set
    world.sends(world.guild_id, "chat.guildhall.role", {"name": "x"}, "x", by="eve", auth_events=[])


def as_the_steward(world: World) -> None:
    content = {"roles": ["admin"], "chat.guildhall.on_behalf_of": world.a.user("ann")}
    key = f"_{world.eve}"
    for signing in (read_key(world.b.house.settings), SigningKey.generate("test")):
        forged = world.b.make(
            world.guild_id, world.a.steward, "chat.guildhall.member", content, state_key=key, key=signing
        )
        world.hands_over(world.guild_id, forged)
        renamed = world.b.make(
            world.guild_id, world.a.steward, "chat.guildhall.member", content, state_key=key, key=signing,
            server_name="a.example",
        )  # fmt: skip
        world.hands_over(world.guild_id, renamed)


def on_a_fork(world: World) -> None:
    """From where eve was somebody else, or before the rules were what they are."""
    room = world.b.room(world.guild_id)
    create = room.create.event_id
    member = room.visible.state["m.room.member", world.eve].event_id
    role = {"name": "x", "permissions": ["administrator"]}
    for prev in ([create], [member]):
        for auth in ([], [member]):
            fork = world.b.make(
                world.guild_id, "eve", "chat.guildhall.role", role, state_key=world.helper, prev=prev, auth_events=auth,
                depth=3,
            )  # fmt: skip
            world.hands_over(world.guild_id, fork)


def by_a_restricted_join(world: World) -> None:
    """Into the channel that eve may not view, with whoever might be said to vouch for it."""
    room = world.b.room(world.closed)
    state = room.visible.state
    for authoriser in (None, world.a.steward, world.b.user("bob"), world.b.steward):
        more = {} if authoriser is None else {"join_authorised_via_users_server": authoriser}
        cited = [("m.room.power_levels", ""), ("m.room.join_rules", ""), ("m.room.member", authoriser or world.eve)]
        join = world.b.make(
            world.closed, "eve", "m.room.member", {"membership": "join", **more}, state_key=world.eve,
            auth_events=[state[key].event_id for key in cited if key in state],
        )  # fmt: skip
        world.hands_over(world.closed, join)
        with pytest.raises(PeerError):
            path = path_to("/_matrix/federation/v2/send_join/{}/{}", world.closed, join.event_id)
            world.b.ask(world.a, "PUT", path, orjson.loads(join.raw))
    with pytest.raises(PeerError):
        world.b.ask(
            world.a, "GET", path_to("/_matrix/federation/v1/make_join/{}/{}", world.closed, world.eve), ver="12"
        )


def by_actions(world: World) -> None:
    a, b = world.a, world.b
    world.act()  # what eve may not do at home, nor by a signature
    world.act(user_id=a.user("ann"))
    world.act(user_id=a.steward)
    world.act(user_id=b.steward)
    world.act(user_id=b.user("nobody"))
    late = a.house.clock.now_ms() - 6 * 60_000
    world.act(origin_server_ts=late, action=f"PATCH {at('guilds', world.guild_id, 'members', world.eve)}")
    world.act(action=f"POST {at('guilds', world.guild_id, 'members', world.eve)}/../../../../../_synapse/admin")
    world.act(action="POST ../../../_matrix/client/v3/createRoom")
    nick = f"PATCH {at('guilds', world.guild_id, 'members', world.eve)}"
    done = world.action(action=nick, params={"nick": "Eve"}, action_id="once")
    assert b.ask(a, "POST", path_to(ACTIONS, world.guild_id), done) == {}
    again = {**done, "params": {"nick": None}}
    assert b.ask(a, "POST", path_to(ACTIONS, world.guild_id), {**again, "action_id": "back"}) == {}
    world.fleet.come_to_rest()
    with pytest.raises(PeerError):
        b.ask(a, "POST", path_to(ACTIONS, world.guild_id), done)  # replayed

    def alters(origin: str, request: Request) -> Request | Response:
        if "actions" not in request.path:
            return request
        body = orjson.loads(request.body or b"{}")
        body["params"] = {"nick": "Mallory"}
        return Request(request.destination, request.method, request.path, request.headers, orjson.dumps(body))

    world.fleet.meddler = alters
    with pytest.raises(PeerError) as caught:
        b.ask(a, "POST", path_to(ACTIONS, world.guild_id), {**done, "action_id": "altered"})
    world.fleet.meddler = None
    assert "401" in str(caught.value)


def by_a_room_that_claims_the_guild(world: World) -> None:
    """A stranger's channel is none of the guild's, whoever made it: it lets in whom its maker likes, and has no say."""
    a, b = world.a, world.b
    parent = {
        "type": "m.space.parent", "state_key": world.guild_id, "content": {"via": ["a.example"], "canonical": True},
    }  # fmt: skip
    rule = {"type": "chat.guildhall.view_channel", "room_id": world.guild_id}
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": [rule]}}
    for maker in ("eve", "guildhall"):
        claimed = b.create(maker, initial_state=[parent, rules], room_version="12")
        with pytest.raises(MatrixError):
            a.enter("cat", claimed, via=b)
        world.sends(world.guild_id, "m.space.child", {"via": ["b.example"]}, claimed)
        with pytest.raises(MatrixError):
            b.enter("bob", claimed)


ATTACKS: Mapping[str, Callable[[World], None]] = {
    one.__name__: one
    for one in (
        by_api,
        by_the_matrix_api,
        by_events,
        as_the_steward,
        on_a_fork,
        by_a_restricted_join,
        by_actions,
        by_a_room_that_claims_the_guild,
    )
}


def test_nobody_raises_themselves(guild_fleet: GuildFleet) -> None:
    world = begin(guild_fleet)
    before = world.law()
    for name, attack in ATTACKS.items():
        attack(world)
        guild_fleet.come_to_rest()
        after = world.law()
        after_guild, before_guild = after[0], before[0]
        assert after_guild == before_guild, name
        assert after[2] == before[2], name
        for found, was in zip(after[1], before[1], strict=True):
            moved = {key for key in found if found[key] != was.get(key)} | was.keys() - found.keys()
            # The nickname that is set and taken away again is a newer event, of the steward's.
            assert moved <= {("chat.guildhall.member", f"_{world.eve}")}, name
        senders = world.a.wait(_senders(world))
        assert senders == {world.a.steward}, name
        assert world.b.guild(world.guild_id) == after_guild, name


async def _senders(world: World) -> set[str]:
    room = await world.a.house.rooms.require(world.guild_id)
    nids = [ref.nid for key, ref in room.visible.state.items() if key[0] in OWN_TYPES]
    return {stored.event.sender for stored in (await world.a.house.events.get_many(nids)).values()}
