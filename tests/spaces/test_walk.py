"""Down the tree of a space: what is shown, to whom, in which order, page by page."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.http.answer import encode_json
from homeserver.spaces.summaries import Summaries
from homeserver.spaces.walk import DEFAULT_LIMIT, Hierarchy, HierarchyAsk
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user


def space(house: LivedInHouse, **body: Any) -> str:
    return house.create("alice", creation_content={"type": "m.space"}, **{"preset": "public_chat", **body})


def link(house: LivedInHouse, parent: str, child: str, **content: Any) -> None:
    house.set_state("alice", parent, "m.space.child", {"via": [SERVER_NAME], **content}, child)


def page(house: LivedInHouse, name: str, room_id: str, **ask: Any) -> dict[str, Any]:
    answer = house.wait(house.house.part(Hierarchy).page(user(name), room_id, HierarchyAsk(**ask)))
    found: dict[str, Any] = orjson.loads(encode_json(answer))
    return found


def ids(answer: dict[str, Any]) -> list[str]:
    return [room["room_id"] for room in answer["rooms"]]


def summary(house: LivedInHouse, name: str, room_id: str) -> dict[str, Any]:
    return house.wait(house.house.part(Summaries).of(user(name), room_id, []))


def rule(join_rule: str, *allowed: str) -> dict[str, Any]:
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in allowed]
    return {"type": "m.room.join_rules", "content": {"join_rule": join_rule, **({"allow": allow} if allow else {})}}


def test_a_tree_depth_first(house: LivedInHouse) -> None:
    root, inner = space(house, name="Root"), space(house, name="Inner")
    first, second, third = (house.create("alice", preset="public_chat", name=name) for name in "123")
    link(house, root, first, suggested=True)
    link(house, root, inner)
    link(house, inner, third)
    link(house, inner, root)  # in a circle
    link(house, root, second)
    link(house, first, third)  # a room that is no space has no children
    whole = page(house, "bob", root)
    assert ids(whole) == [root, first, inner, third, second] and "next_batch" not in whole
    assert [[one["state_key"] for one in room["children_state"]] for room in whole["rooms"]] == [
        [first, inner, second], [], [third, root], [], [],
    ]  # fmt: skip
    assert whole["rooms"][0]["children_state"][0] == {
        "type": "m.space.child",
        "state_key": first,
        "sender": user("alice"),
        "content": {"via": [SERVER_NAME], "suggested": True},
        "origin_server_ts": whole["rooms"][0]["children_state"][0]["origin_server_ts"],
    }
    assert ids(page(house, "bob", root, max_depth=1)) == [root, first, inner, second]
    assert ids(page(house, "bob", root, max_depth=0)) == [root]
    assert ids(page(house, "bob", root, suggested_only=True)) == [root, first]
    house.set_state("alice", root, "m.space.child", {}, inner)
    assert ids(page(house, "bob", root)) == [root, first, second]


def test_the_order_of_children(house: LivedInHouse) -> None:
    root = space(house)
    names = ["late", "early", "long", "strange", "b", "a", "none"]
    rooms = {name: house.create("alice", preset="public_chat", name=name) for name in names}
    for name, order in (("long", "x" * 51), ("strange", "é"), ("b", "b"), ("a", " "), ("early", 7), ("late", None)):
        link(house, root, rooms[name], order=order)
    house.set_state("alice", root, "m.space.child", {"via": "no list"}, rooms["none"])
    house.set_state("alice", root, "m.space.child", {"via": [SERVER_NAME]}, "no room")
    told = [room.get("name") for room in page(house, "alice", root)["rooms"][1:]]
    assert told == ["a", "b", "long", "strange", "early", "late"]


def test_pages(house: LivedInHouse) -> None:
    root = space(house)
    rooms = [house.create("alice", preset="public_chat") for _ in range(7)]
    for room_id in rooms:
        link(house, root, room_id)
    found: list[str] = []
    token = None
    tokens = []
    while True:
        answer = page(house, "bob", root, limit=3, from_=token)
        found += ids(answer)
        token = answer.get("next_batch")
        if token is None:
            break
        tokens.append(token)
    assert found == [root, *rooms] and len(tokens) == 2
    assert ids(page(house, "bob", root, limit=3, from_=tokens[0])) == rooms[2:5]  # again
    for wrong in (
        {"from_": "nonsense"}, {"from_": tokens[0], "max_depth": 1}, {"from_": tokens[0], "suggested_only": True},
        {"limit": 0}, {"limit": -1}, {"max_depth": -1},
    ):  # fmt: skip
        with pytest.raises(InvalidParam):
            page(house, "bob", root, **wrong)
    with pytest.raises(InvalidParam):
        page(house, "carol", root, from_=tokens[0])
    assert DEFAULT_LIMIT >= 8 and ids(page(house, "bob", root)) == [root, *rooms]


def test_who_is_shown_what(house: LivedInHouse) -> None:
    root = space(house)
    house.join("bob", root)
    rooms = {
        name: house.create(
            "alice", name=name, room_version=version, preset="private_chat", initial_state=[rule(*rules)]
        )
        for name, version, rules in (
            ("public", "11", ["public"]),
            ("knock", "11", ["knock"]),
            ("knock before its time", "6", ["knock"]),
            ("invite", "11", ["invite"]),
            ("odd", "11", ["org.example.odd"]),
            ("restricted", "11", ["restricted", root]),
            ("restricted to others", "11", ["restricted", "!other:elsewhere.example"]),
            ("restricted before its time", "7", ["restricted", root]),
            ("both", "11", ["knock_restricted", "!other:elsewhere.example"]),
        )
    }
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    rooms["readable"] = house.create("alice", name="readable", preset="private_chat", initial_state=[readable])
    for room_id in rooms.values():
        link(house, root, room_id)

    def shown(name: str) -> set[str]:
        return {room["name"] for room in page(house, name, root)["rooms"][1:]}

    for_all = {"public", "knock", "both", "readable"}
    assert shown("alice") == set(rooms)
    assert shown("carol") == for_all
    assert shown("bob") == for_all | {"restricted"}
    house.wait(house.memberships.invite(rooms["invite"], user("alice"), user("carol")))
    assert shown("carol") == for_all | {"invite"}
    house.wait(house.memberships.ban(rooms["public"], user("alice"), user("carol")))
    house.wait(house.memberships.ban(rooms["knock"], user("alice"), user("carol")))
    house.wait(house.memberships.ban(rooms["readable"], user("alice"), user("carol")))
    assert shown("carol") == {"both", "readable", "invite"}
    house.leave("bob", root)
    assert shown("bob") == for_all
    for name, room_id in rooms.items():
        if name in for_all:
            assert summary(house, "dave", room_id)["membership"] == "leave"
        else:
            with pytest.raises(NotFound):
                summary(house, "dave", room_id)
            with pytest.raises(Forbidden):
                page(house, "dave", room_id)


def test_what_a_summary_tells(house: LivedInHouse) -> None:
    root = space(house)
    room_id = house.create(
        "alice",
        name="Den",
        topic="Bears",
        preset="private_chat",
        room_version="11",
        initial_state=[
            rule("knock_restricted", root),
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        ],
    )
    house.join("bob", root)
    expected = {
        "room_id": room_id, "name": "Den", "topic": "Bears", "num_joined_members": 1, "world_readable": False,
        "guest_can_join": True, "join_rule": "knock_restricted", "room_version": "11",
        "encryption": "m.megolm.v1.aes-sha2", "allowed_room_ids": [root],
    }  # fmt: skip
    assert summary(house, "alice", room_id) == {**expected, "membership": "join"}
    assert summary(house, "bob", room_id) == {**expected, "membership": "leave"}
    for odd in ("!none", "!none:elsewhere.example"):
        with pytest.raises(NotFound):
            summary(house, "alice", odd)
        with pytest.raises(Forbidden):
            page(house, "alice", odd)
    with pytest.raises(InvalidParam):
        summary(house, "alice", "den")
