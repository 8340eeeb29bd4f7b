"""Spaces whose rooms are on several servers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from federation.outbound.transport import Refused, Response
from homeserver.errors import Forbidden, NotFound
from homeserver.http.answer import encode_json
from homeserver.spaces.summaries import Summaries
from homeserver.spaces.walk import Hierarchy, HierarchyAsk
from tests.fixtures_fleet import Fleet, Member

HIERARCHY = "/_matrix/federation/v1/hierarchy"
READABLE = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}


def space(member: Member, name: str, **body: Any) -> str:
    return member.create(name, preset="public_chat", creation_content={"type": "m.space"}, **body)


def link(member: Member, name: str, parent: str, child: str, *via: Member, **content: Any) -> None:
    content = {"via": [one.name for one in via], **content}
    member.set_state(name, parent, "m.space.child", content, child)


def walk(member: Member, name: str, room_id: str, **ask: Any) -> list[str]:
    answer = member.wait(member.house.part(Hierarchy).page(member.user(name), room_id, HierarchyAsk(**ask)))
    found = orjson.loads(encode_json(answer))
    return [room["room_id"] for room in found["rooms"]]


def summary(member: Member, name: str, room: str, *via: Member) -> Any:
    return member.wait(member.house.part(Summaries).of(member.user(name), room, [one.name for one in via]))


def rule(join_rule: str, *allowed: str) -> dict[str, Any]:
    allow = [{"type": "m.room_membership", "room_id": room_id} for room_id in allowed]
    return {"type": "m.room.join_rules", "content": {"join_rule": join_rule, "allow": allow}}


def test_a_tree_over_two_servers(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    root, inner = space(a, "alice"), space(a, "alice")
    own = a.create("alice", preset="public_chat")
    theirs, deep = (b.create("bob", preset="public_chat") for _ in range(2))
    afar = space(b, "bob")
    link(a, "alice", root, own, a)
    link(a, "alice", root, inner, a)
    link(a, "alice", root, theirs, b)
    link(a, "alice", inner, afar, b)
    link(b, "bob", afar, deep, b)
    link(b, "bob", afar, own, a)
    assert walk(a, "alice", root) == [root, own, inner, afar, deep, theirs]
    # b tells of its space and its room in one answer; only of what is directly below another space it has to be asked.
    assert len(any_fleet.asked("hierarchy")) == 2
    # The space is remembered for a moment; `theirs` was told as itself.
    assert walk(a, "alice", root) == [root, own, inner, afar, deep, theirs]
    assert len(any_fleet.asked("hierarchy")) == 2
    # Somebody of b sees the same from the other side.
    assert walk(b, "bob", afar) == [afar, deep, own]
    told = a.ask(b, "GET", f"{HIERARCHY}/{afar}")
    assert told["room"]["room_type"] == "m.space" and [one["room_id"] for one in told["children"]] == [deep]
    assert [one["state_key"] for one in told["room"]["children_state"]] == [deep, own]


def test_a_restricted_room_elsewhere(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    root = space(a, "alice")
    room_id = b.create("bob", preset="private_chat", initial_state=[rule("restricted", root)], room_version="11")
    link(a, "alice", root, room_id, b)
    assert walk(a, "alice", root) == [root]  # b does not know the space
    b.enter("bob", root, via=a)
    fleet.settle()
    assert walk(a, "alice", root) == [root, room_id]
    assert walk(a, "carol", root) == [root]  # who is not in the space
    assert summary(a, "alice", room_id, b)["allowed_room_ids"] == [root]
    with pytest.raises(NotFound):
        summary(a, "carol", room_id, b)


def test_what_another_server_may_see(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    root = space(a, "alice")
    secret = a.create("alice", preset="private_chat")
    shown = a.create("alice", preset="private_chat", initial_state=[READABLE])
    invited = a.create("alice", preset="private_chat")
    closed = a.create(
        "alice",
        preset="public_chat",
        initial_state=[{"type": "m.room.server_acl", "content": {"allow": ["*"], "deny": [b.name]}}],
    )
    for room_id in (secret, shown, invited, closed):
        link(a, "alice", root, room_id, a, suggested=room_id == shown)
    a.invite("alice", "@bob:b.example", invited)
    told = b.ask(a, "GET", f"{HIERARCHY}/{root}")
    assert {one["room_id"] for one in told["children"]} == {shown, invited}
    assert set(told["inaccessible_children"]) == {secret, closed}
    told = b.ask(a, "GET", f"{HIERARCHY}/{root}", suggested_only="true")
    assert [one["room_id"] for one in told["children"]] == [shown] and not told["inaccessible_children"]
    assert len(told["room"]["children_state"]) == 1
    for hidden in (secret, closed, "!none:a.example"):
        with pytest.raises(Refused) as caught:
            b.ask(a, "GET", f"{HIERARCHY}/{hidden}")
        assert (caught.value.status, caught.value.errcode) == (404, "M_NOT_FOUND")
    # For the person, the invitation counts; somebody else of b is shown less.
    link(b, "bob", own := space(b, "bob"), invited, a)
    assert walk(b, "bob", own) == [own, invited]
    assert walk(b, "carol", own) == [own]


def test_a_summary_from_elsewhere(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = b.create("bob", preset="public_chat", name="Garden", room_alias_name="garden", room_version="11")
    asked = summary(a, "alice", room_id)  # the id says whom to ask
    assert (asked["name"], asked["num_joined_members"], asked["membership"]) == ("Garden", 1, "leave")
    assert summary(a, "alice", "#garden:b.example") == asked
    hashed = b.create("bob", preset="public_chat", room_version="12")
    with pytest.raises(NotFound):
        summary(a, "alice", hashed)
    assert summary(a, "alice", hashed, b)["room_version"] == "12"
    a.enter("alice", room_id, via=b)
    assert summary(a, "alice", room_id)["membership"] == "join"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"room":null}', b'{"room":{"room_id":"!other:b.example","num_joined_members":1}}',
        b'{"room":[[[[[', b"[" * 100_000,
    ],
)  # fmt: skip
def test_answers_that_make_no_sense(fleet: Fleet, body: bytes) -> None:
    a, b = fleet.open("a", "b")
    root = space(a, "alice")
    theirs = b.create("bob", preset="public_chat")
    link(a, "alice", root, theirs, b)
    fleet.meddler = lambda origin, request: Response(200, {}, body) if "hierarchy" in request.path else request
    assert walk(a, "alice", root) == [root]
    fleet.meddler = None
    assert walk(a, "alice", root) == [root, theirs]


def test_a_peer_tells_of_nothing_but_its_own_tree(fleet: Fleet) -> None:
    """Rooms that its space does not name, malformed ones, and a member of the tree that is ours."""
    a, b = fleet.open("a", "b")
    root, theirs = space(a, "alice"), space(b, "bob")
    own = a.create("alice", preset="private_chat", name="Ours")
    link(a, "alice", root, theirs, b)

    def room(room_id: str, **more: Any) -> dict[str, Any]:
        return {"room_id": room_id, "num_joined_members": 1, "world_readable": True, "guest_can_join": False, **more}

    def child(room_id: object) -> dict[str, Any]:
        named = {"type": "m.space.child", "state_key": room_id, "sender": "@bob:b.example", "origin_server_ts": 1}
        return {**named, "content": {"via": [b.name]}}

    lie = {
        "room": room(
            theirs, room_type="m.space", children_state=[child(own), child("!named:b.example"), child(7), "nothing"]
        ),
        "children": [
            room("!named:b.example", name="Named", topic=7), room("!named:b.example", name="Told", secret="x"),
            room("!stranger:b.example"), room(own, name="Theirs?"), 5,
        ],
        "inaccessible_children": ["!stranger:b.example", own],
    }  # fmt: skip
    answer = Response(200, {}, orjson.dumps(lie))
    fleet.meddler = lambda origin, request: answer if "hierarchy" in request.path else request
    found = a.wait(a.house.part(Hierarchy).page(a.user("alice"), root, HierarchyAsk()))["rooms"]
    assert [one.get("name") for one in found] == [None, None, "Ours", "Told"]
    assert "secret" not in found[-1]
    assert walk(a, "carol", root) == [root, theirs, "!named:b.example"]


def test_a_silent_server_holds_up_nobody_for_long(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    root = space(a, "alice")
    rooms = [b.create("bob", preset="public_chat") for _ in range(60)]
    for room_id in rooms:
        link(a, "alice", root, room_id, b)
    fleet.down.add(b.name)
    assert walk(a, "alice", root) == [root]
    assert len(fleet.asked("hierarchy")) == 1  # it is left alone for a moment
    fleet.down.clear()
    b.ask(a, "GET", f"{HIERARCHY}/{root}")  # it is heard of again
    first = a.wait(a.house.part(Hierarchy).page(a.user("alice"), root, HierarchyAsk(limit=100)))
    assert len(first["rooms"]) == 26 and first["next_batch"]  # so many questions make a page
    with pytest.raises(Forbidden):
        walk(a, "alice", "!unknown:nowhere.example")
