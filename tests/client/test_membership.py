"""Joining over the client API: what of the body ends up in the member event, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.client.membership import JoinAnywhere, JoinRoom, join_anywhere, join_room
from homeserver.errors import BadJson, Forbidden, MatrixError
from tests.fixtures_rooms import Town, user


def member(town: Town, name: str, room_id: str) -> dict[str, Any]:
    event = town.wait(town.state.piece(room_id, user("alice"), ("m.room.member", user(name))))
    return dict(event.event.content)


def join(town: Town, name: str, room_id: str, body: dict[str, Any]) -> Any:
    return town.answer(join_room(town.memberships, town.who(name), JoinRoom(room_id, body)))


def test_a_join_carries_what_the_client_adds(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat", room_alias_name="pub")
    assert join(town, "bob", room_id, {"foo": "bar", "reason": "thirsty"}) == {"room_id": room_id}
    assert member(town, "bob", room_id) == {
        "membership": "join", "displayname": "Bob", "foo": "bar", "reason": "thirsty",
    }  # fmt: skip
    ask = JoinAnywhere(next(iter(town.wait(town.aliases.of_room(room_id, user("alice"))))), {"foo": ["bar"]})
    town.answer(join_anywhere(town.memberships, town.aliases, town.who("carol"), ask))
    assert member(town, "carol", room_id) == {"membership": "join", "displayname": "Carol", "foo": ["bar"]}


def test_what_is_the_servers_business_stays_so(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    forged = {"membership": "ban", "displayname": "Alice", "avatar_url": "mxc://a/b", "reason": None}
    join(town, "bob", room_id, {**forged, "join_authorised_via_users_server": user("alice"), "third_party_invite": {}})
    assert member(town, "bob", room_id) == {"membership": "join", "displayname": "Bob"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"reason": 1}, BadJson),
        ({"third_party_signed": "yes"}, BadJson),
        ({"third_party_signed": {}}, Forbidden),
        ({"foo": 1.5}, MatrixError),
        ({"foo": "x" * 70_000}, MatrixError),
    ],
)
def test_a_join_that_cannot_be(town: Town, body: dict[str, Any], error: type[MatrixError]) -> None:
    room_id = town.create("alice", preset="public_chat")
    with pytest.raises(error):
        join(town, "bob", room_id, body)
    assert town.room(room_id).membership_of(user("bob")) is None
