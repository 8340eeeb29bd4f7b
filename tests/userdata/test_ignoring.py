"""People who are ignored are not heard in what passes, either: typing, receipts, presence."""

from __future__ import annotations

import orjson

from homeserver.ephemeral.presence import PresenceBoard
from homeserver.ephemeral.typing import TypingBoard
from homeserver.userdata.ignoring import parse_ignored, without_ignored
from homeserver.userdata.read_markers import Mark, ReadMarkers
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import ignore


def test_lists_that_make_no_sense() -> None:
    for content in (b"{}", b'{"ignored_users":[]}', b'{"ignored_users":"@a:b"}', b'{"ignored_users":null}', None):
        assert parse_ignored(content) == frozenset()


def test_nothing_is_changed_for_who_ignores_nobody() -> None:
    events = [b'{"content":{"user_ids":["@a:b"]},"type":"m.typing"}']
    assert without_ignored(events, frozenset()) == events


def test_receipts_of_several() -> None:
    content = {"$1": {"m.read": {"@a:b": {"ts": 1}, "@c:d": {"ts": 2}}}, "$2": {"m.read": {"@a:b": {"ts": 1}}}}
    event = orjson.dumps({"type": "m.receipt", "content": content})
    (kept,) = without_ignored([event], frozenset({"@a:b"}))
    assert orjson.loads(kept)["content"] == {"$1": {"m.read": {"@c:d": {"ts": 2}}}}
    assert without_ignored([event], frozenset({"@a:b", "@c:d"})) == []


def test_what_passes(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.join("carol", room_id)
    said = house.say("alice", room_id, "hello")
    room = house.wait(house.house.rooms.require(room_id))
    since = house.sync("alice")["next_batch"]
    ignore(house, "alice", "bob")
    house.sync("bob")
    for name in ("bob", "carol"):
        house.house.part(PresenceBoard).seen(house.user(name), "online", "DEVICE", 0)
        house.house.part(TypingBoard).set(room, house.user(name), True, 10_000)
        house.wait(house.house.part(ReadMarkers).move(room.nid, house.user(name), [Mark("m.read", said)]))
    for answer in (house.sync("alice", since), house.sync("alice")):
        text = orjson.dumps([answer["rooms"]["join"][room_id]["ephemeral"], answer.get("presence", {})]).decode()
        assert house.user("carol") in text
        assert house.user("bob") not in text
    others = house.sync("carol")["rooms"]["join"][room_id]["ephemeral"]
    assert house.user("bob") in orjson.dumps(others).decode()
