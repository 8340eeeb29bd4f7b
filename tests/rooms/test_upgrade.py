"""Rooms that move to another version: what comes along, what stays, and who may."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.client.aliases import NewAlias, OneAlias, get_alias, set_alias
from homeserver.errors import BadJson, Forbidden, MatrixError
from homeserver.push.book import RuleBook
from homeserver.push.rules import Rules
from homeserver.rooms.aliases import Aliases
from homeserver.rooms.directory import Directory
from homeserver.rooms.upgrade import Upgrades
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.tags import TAG, Tags
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user

ALICE, BOB, CAROL, MALLORY = (user(name) for name in ("alice", "bob", "carol", "mallory"))


def upgrade(house: LivedInHouse, name: str, room_id: str, version: str, *creators: str) -> str:
    return house.wait(house.house.part(Upgrades).upgrade(user(name), room_id, version, creators))


def content(house: LivedInHouse, room_id: str, event_type: str, key: str = "") -> Any:
    room = house.wait(house.house.rooms.require(room_id))
    ref = room.visible.state.get((event_type, key))
    if ref is None:
        return None
    stored = house.wait(house.house.events.get(ref.nid))
    assert stored is not None
    return dict(stored.event.content)


def settle(house: LivedInHouse) -> None:
    """What is done beside the call: what people keep for themselves moves."""
    for _ in range(5):
        house.advance(0)
        house.wait(house.house.database.write(lambda cursor: None))
        house.wait(house.house.database.run(lambda cursor: None))


def published(house: LivedInHouse, room_id: str) -> bool:
    return house.wait(house.house.part(Directory).is_published(room_id))


def state(event_type: str, key: str = "", **words: Any) -> dict[str, Any]:
    return {"type": event_type, "state_key": key, "content": words}


def test_everything_moves(house: LivedInHouse) -> None:
    other = house.create("alice", preset="public_chat")
    old = house.create(
        "alice",
        preset="public_chat",
        visibility="public",
        name="The pub",
        topic="Beer",
        room_version="10",
        room_alias_name="pub",
        creation_content={"type": "m.space", "m.federate": False, "org.example.mine": 1},
        initial_state=[
            state("m.room.join_rules", join_rule="knock_restricted", allow=[]),
            state("m.room.history_visibility", history_visibility="world_readable"),
            state("m.room.guest_access", guest_access="can_join"),
            state("m.room.server_acl", allow=["*"], deny=["evil.example"]),
            state("m.room.encryption", algorithm="m.megolm.v1.aes-sha2"),
            state("m.room.avatar", url="mxc://test.example/beer"),
            state("m.space.child", other, via=[SERVER_NAME], order="a"),
            state("m.space.child", "!gone:test.example"),
            state("m.space.parent", other, via=[SERVER_NAME], canonical=True),
            state("m.space.parent", "!gone:test.example"),
            state("m.room.image_pack", "cats", images={}),
            state("im.ponies.room_emotes", "dogs", images={}),
            state("m.room.retention", max_lifetime=86_400_000),
            state("in.cinny.room.power_level_tags", low={"name": "Barkeeper"}),
            state("org.example.sensitive", words="who sent this matters"),
            state("m.room.pinned_events", pinned=["$x"]),
        ],
        power_level_content_override={"users": {ALICE: 100, BOB: 50}, "events": {"m.room.name": 75}, "invite": 10},
    )
    who = house.who("alice")
    aliases = house.house.part(Aliases)
    house.wait(set_alias(aliases, who, NewAlias(f"#bar:{SERVER_NAME}", old)))
    house.set_state(
        "alice", old, "m.room.canonical_alias", {"alias": f"#pub:{SERVER_NAME}", "alt_aliases": [f"#bar:{SERVER_NAME}"]}
    )
    house.wait(house.memberships.ban(old, ALICE, MALLORY, "rude"))
    newest = house.say("alice", old, "last orders")

    new = upgrade(house, "alice", old, "11")
    assert content(house, new, "m.room.create") == {
        "room_version": "11", "type": "m.space", "m.federate": False,
        "predecessor": {"room_id": old, "event_id": newest},
    }  # fmt: skip
    for event_type in (
        "name",
        "topic",
        "join_rules",
        "history_visibility",
        "guest_access",
        "server_acl",
        "encryption",
        "avatar",
    ):
        assert content(house, new, f"m.room.{event_type}") == content(house, old, f"m.room.{event_type}") is not None
    assert content(house, new, "m.space.child", other) == {"via": [SERVER_NAME], "order": "a"}
    assert content(house, new, "m.space.parent", other) == {"via": [SERVER_NAME], "canonical": True}
    assert content(house, new, "m.room.image_pack", "cats") == {"images": {}}
    assert content(house, new, "im.ponies.room_emotes", "dogs") == {"images": {}}
    assert content(house, new, "m.room.retention") == {"max_lifetime": 86_400_000}
    assert content(house, new, "in.cinny.room.power_level_tags") == {"low": {"name": "Barkeeper"}}
    for event_type, key in (
        ("m.space.child", "!gone:test.example"), ("m.space.parent", "!gone:test.example"),
        ("org.example.sensitive", ""), ("m.room.pinned_events", ""), ("m.room.tombstone", ""), ("m.room.member", BOB),
    ):  # fmt: skip
        assert content(house, new, event_type, key) is None
    assert content(house, new, "m.room.member", MALLORY) == {"membership": "ban", "reason": "rude"}
    levels = content(house, new, "m.room.power_levels")
    assert levels["users"] == {ALICE: 100, BOB: 50} and levels["events"] == {"m.room.name": 75}
    assert levels["invite"] == 10 and levels["events_default"] == 0

    assert content(house, old, "m.room.tombstone") == {
        "body": "This room has been replaced", "replacement_room": new,
    }  # fmt: skip
    silent = content(house, old, "m.room.power_levels")
    assert (silent["events_default"], silent["invite"], silent["users"]) == (50, 50, {ALICE: 100, BOB: 50})
    for alias in ("#pub", "#bar"):
        assert house.wait(get_alias(aliases, OneAlias(f"{alias}:{SERVER_NAME}")))["room_id"] == new
    assert content(house, new, "m.room.canonical_alias") == {
        "alias": f"#pub:{SERVER_NAME}", "alt_aliases": [f"#bar:{SERVER_NAME}"],
    }  # fmt: skip
    assert content(house, old, "m.room.canonical_alias") == {}
    assert published(house, new) and not published(house, old)


@pytest.mark.parametrize(
    ("before", "after"), [("1", "12"), ("9", "10"), ("11", "12"), ("12", "12"), ("12", "11"), ("11", "6")]
)
def test_between_versions(house: LivedInHouse, before: str, after: str) -> None:
    levels = {} if before == "12" else {"users": {ALICE: "100" if int(before) < 10 else 100, BOB: 50}}
    rules = state("m.room.join_rules", join_rule="restricted", allow=[])
    old = house.create(
        "alice", preset="private_chat", room_version=before, power_level_content_override=levels, initial_state=[rules]
    )
    new = upgrade(house, "alice", old, after, CAROL)
    room = house.wait(house.house.rooms.require(new))
    power = house.wait(house.house.part(Upgrades).door.power_levels(room))
    assert room.version.identifier == after
    assert power.user(ALICE) >= 100 and power.user(BOB) == (0 if before == "12" else 50)
    assert (power.user(CAROL) > 100) == (after == "12")
    assert power.event("m.room.tombstone", True) == (150 if after == "12" else 100)
    assert ("event_id" in content(house, new, "m.room.create")["predecessor"]) == (after != "12")
    expected = "restricted" if int(after) >= 8 else "invite"
    assert content(house, new, "m.room.join_rules")["join_rule"] == expected
    house.say("alice", new, "hello")
    assert upgrade(house, "alice", new, after) != new  # and on


def test_who_may(house: LivedInHouse) -> None:
    old = house.create("alice", preset="public_chat", room_version="11")
    house.join("bob", old)
    for name in ("bob", "carol"):
        with pytest.raises(Forbidden):
            upgrade(house, name, old, "11")
    for version, errcode in (("13", "M_UNSUPPORTED_ROOM_VERSION"), ("", "M_UNSUPPORTED_ROOM_VERSION")):
        with pytest.raises(MatrixError) as caught:
            upgrade(house, "alice", old, version)
        assert (caught.value.status, caught.value.errcode) == (400, errcode)
    with pytest.raises(BadJson):
        upgrade(house, "alice", old, "12", "carol")
    with pytest.raises(Forbidden):
        upgrade(house, "alice", "!none:test.example", "11")
    assert content(house, old, "m.room.tombstone") is None
    # A moderator may, where the room says so; what is beyond it in the new room was beyond it in the old.
    levels = content(house, old, "m.room.power_levels")
    levels["users"][BOB], levels["events"]["m.room.tombstone"] = 50, 50
    house.set_state("alice", old, "m.room.power_levels", levels)
    new = upgrade(house, "bob", old, "11")
    assert content(house, new, "m.room.power_levels") == levels
    with pytest.raises(Forbidden):
        house.set_state("bob", new, "m.room.power_levels", {"users": {BOB: 100}})
    assert content(house, old, "m.room.power_levels") == levels  # it could not be silenced by bob


def test_what_people_keep_for_themselves(house: LivedInHouse) -> None:
    old = house.create("alice", preset="public_chat", room_version="11")
    house.join("bob", old)
    room = house.wait(house.house.rooms.require(old))
    data, tags = house.house.part(AccountData), house.house.part(Tags)
    for user_id in (ALICE, BOB):
        house.wait(tags.put(user_id, room.nid, "m.favourite", {"order": 0.5}))
    house.wait(data.put(BOB, GLOBAL, "m.direct", {ALICE: [old, "!other:x"], CAROL: ["!other:x"], "odd": 7}))
    new = upgrade(house, "alice", old, "12")
    house.join("bob", new)
    house.join("carol", new)
    settle(house)
    nid = house.wait(house.house.rooms.require(new)).nid
    for user_id in (ALICE, BOB):
        assert house.wait(tags.of_room(user_id, nid)) == {"m.favourite": {"order": 0.5}}
        assert house.wait(tags.of_room(user_id, room.nid)) == {"m.favourite": {"order": 0.5}}
    assert house.wait(data.get(CAROL, nid, TAG)) is None
    direct = house.wait(data.get(BOB, GLOBAL, "m.direct"))
    assert orjson.loads(direct or b"") == {ALICE: [old, "!other:x", new], CAROL: ["!other:x"], "odd": 7}
    # Somebody who has sorted the new room otherwise meanwhile keeps that, also after coming back.
    house.wait(tags.remove(BOB, nid, "m.favourite"))
    house.wait(tags.put(BOB, nid, "u.work", {}))
    house.leave("bob", new)
    house.join("bob", new)
    settle(house)
    assert house.wait(tags.of_room(BOB, nid)) == {"u.work": {}}


def test_push_rules_of_a_room(house: LivedInHouse) -> None:
    """Those of both kinds by which clients mute rooms; who has muted the new one otherwise meanwhile keeps that."""
    old = house.create("alice", preset="public_chat", room_version="11")
    house.join("bob", old)
    book = house.house.part(RuleBook)
    mute = {"kind": "event_match", "key": "room_id", "pattern": old}

    def mute_it(rules: Rules) -> None:
        rule = {"rule_id": old, "default": False, "enabled": True, "actions": []}
        rules["room"].append(dict(rule))
        rules["override"].insert(1, {**rule, "conditions": [mute]})

    house.wait(book.change(BOB, mute_it))
    new = upgrade(house, "alice", old, "12")
    for _ in range(2):
        house.join("bob", new)
        for _ in range(20):  # it is the last thing that moves
            settle(house)
        rules = house.wait(book.of(BOB))
        assert {rule["rule_id"] for rule in rules["room"]} == {old, new}
        (rule,) = [rule for rule in rules["override"] if rule["rule_id"] == new]
        assert (rule["conditions"], rule["actions"]) == ([{**mute, "pattern": new}], [])
        house.leave("bob", new)
    assert house.wait(book.of(ALICE))["room"] == []


def test_a_room_that_claims_another_as_its_predecessor(house: LivedInHouse) -> None:
    """Who was never in that gets nothing from it, and nothing breaks."""
    secret = house.create("alice")
    for named in ({"room_id": secret}, {"room_id": 7}, "text", {"room_id": "!none:test.example"}):
        room_id = house.create("mallory", preset="public_chat", creation_content={"predecessor": named})
        house.join("bob", room_id)
        settle(house)
    assert house.wait(house.house.part(AccountData).get(BOB, GLOBAL, "m.direct")) is None
