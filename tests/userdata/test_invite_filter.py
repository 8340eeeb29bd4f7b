"""Whose invitations people want: the order of the rules, and what becomes of those that they do not want."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, MatrixError
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.invite_filter import CONFIG, CONFIG_UNSTABLE, InviteConfig
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import ignore

BLOCK = {"default_action": "block"}


def wish(house: LivedInHouse, name: str, content: dict[str, Any], event_type: str = CONFIG) -> None:
    house.wait(house.house.part(AccountData).put(house.user(name), GLOBAL, event_type, content))


@pytest.mark.parametrize(
    ("config", "inviter", "verdict"),
    [
        ({}, "@a:x.org", "allow"),
        ({"default_action": "block"}, "@a:x.org", "block"),
        ({"default_action": "allow"}, "@a:x.org", "allow"),
        ({"default_action": ["block"]}, "@a:x.org", "allow"),
        ({"blocked_users": ["@a:x.org"]}, "@a:x.org", "block"),
        ({"blocked_users": ["@a:*"]}, "@a:x.org", "block"),
        ({"blocked_users": ["@?:x.org"]}, "@ab:x.org", "allow"),
        ({"ignored_users": ["@a:x.org"], "blocked_users": ["@a:x.org"]}, "@a:x.org", "ignore"),
        ({"allowed_users": ["@a:x.org"], "ignored_users": ["*"]}, "@a:x.org", "allow"),
        ({"allowed_users": ["@a:x.org"], "blocked_servers": ["*"]}, "@b:x.org", "block"),
        ({"blocked_users": ["@a:x.org"], "allowed_servers": ["x.org"]}, "@a:x.org", "block"),
        ({"allowed_servers": ["x.org"], "blocked_servers": ["*"]}, "@b:x.org", "allow"),
        ({"ignored_servers": ["*.org"], "blocked_servers": ["*"]}, "@b:x.org", "ignore"),
        ({"allowed_users": ["@a:x.org"], "default_action": "block"}, "@a:x.org", "allow"),
        ({"enabled": False, "blocked_users": ["*"]}, "@a:x.org", "allow"),
        ({"enabled": False, "default_action": "block"}, "@a:x.org", "block"),
        ({"enabled": "no", "blocked_users": ["*"]}, "@a:x.org", "block"),
        ({"blocked_users": "*", "blocked_servers": [5, None, {}]}, "@a:x.org", "allow"),
        ({"blocked_users": ["*" * 200 + "z"]}, "@" + "a" * 200 + ":x.org", "allow"),
    ],
)
def test_the_order_of_rules(config: dict[str, Any], inviter: str, verdict: str) -> None:
    assert InviteConfig.parse(orjson.dumps(config)).judge(inviter) == verdict


def test_invitations_that_are_refused(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    wish(house, "bob", BLOCK)
    alice, bob = house.user("alice"), house.user("bob")
    with pytest.raises(Forbidden) as caught:
        house.wait(house.memberships.invite(room_id, alice, bob))
    assert caught.value.errcode == "M_INVITE_BLOCKED"
    with pytest.raises(Forbidden) as caught:
        house.set_state("alice", room_id, "m.room.member", {"membership": "invite"}, bob)
    assert caught.value.errcode == "M_INVITE_BLOCKED"
    assert house.wait(house.house.rooms.require(room_id)).membership_of(bob) is None
    made = house.create("alice", invite=[bob, house.user("carol")], preset="trusted_private_chat")
    room = house.wait(house.house.rooms.require(made))
    assert (room.membership_of(bob), room.membership_of(house.user("carol"))) == (None, "invite")
    with pytest.raises(MatrixError):
        house.create(
            "alice", initial_state=[{"type": "m.room.member", "state_key": bob, "content": {"membership": "invite"}}]
        )
    wish(house, "bob", {})
    house.wait(house.memberships.invite(room_id, alice, bob))
    assert room_id in house.sync("bob")["rooms"]["invite"]


@pytest.mark.parametrize("event_type", [CONFIG, CONFIG_UNSTABLE])
def test_invitations_that_are_not_shown(house: LivedInHouse, event_type: str) -> None:
    """They are there, and show again when they are no longer unwanted."""
    room_id, other = house.create("alice"), house.create("carol")
    since = house.sync("bob")["next_batch"]
    wish(house, "bob", {"ignored_users": [house.user("alice")]}, event_type)
    for name, room in (("alice", room_id), ("carol", other)):
        house.wait(house.memberships.invite(room, house.user(name), house.user("bob")))
    for answer in (house.sync("bob", since), house.sync("bob")):
        assert set(answer["rooms"]["invite"]) == {other}
    wish(house, "bob", {}, event_type)
    assert set(house.sync("bob")["rooms"]["invite"]) == {room_id, other}
    ignore(house, "bob", "carol")
    assert set(house.sync("bob")["rooms"]["invite"]) == {room_id}
    # What was there before the wish is not shown either.
    wish(house, "bob", BLOCK, event_type)
    assert "rooms" not in house.sync("bob")


def test_between_servers(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    wish(b, "bob", {"blocked_servers": ["a.example"]})
    with pytest.raises(MatrixError) as caught:
        a.invite("alice", b.user("bob"), room_id)
    assert (caught.value.status, caught.value.errcode) == (403, "M_INVITE_BLOCKED")
    assert a.membership(b.user("bob"), room_id) is None
    wish(b, "bob", {"ignored_servers": ["a.*"]})
    a.invite("alice", b.user("bob"), room_id)
    assert a.membership(b.user("bob"), room_id) == "invite"
    assert "rooms" not in b.sync("bob")
    wish(b, "bob", {})
    assert room_id in b.sync("bob")["rooms"]["invite"]
    ignore(b, "bob", a.user("alice"))
    assert "rooms" not in b.sync("bob")
    made = a.create("alice", invite=[b.user("bob")])  # the other server takes it, as it should
    assert a.membership(b.user("bob"), made) == "invite"
