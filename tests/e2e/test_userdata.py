"""User data over HTTP on a real server: what one person's clients write, the other's /sync reads."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote

import pytest

from tests.fixtures_server import Person, ServerProcess

V3 = "/_matrix/client/v3"


class Pair:
    """Two people in one room, each with a place in /sync."""

    def __init__(self, server: ServerProcess) -> None:
        tail = secrets.token_hex(4)
        self.ann, self.bob = server.register(f"ann{tail}"), server.register(f"bob{tail}")
        self.room_id = self.ann.create_room(preset="public_chat")
        self.bob.join(self.room_id)
        self.room = f"{V3}/rooms/{quote(self.room_id)}"
        self.since = {person.user_id: person.sync()["next_batch"] for person in (self.ann, self.bob)}

    def news(self, person: Person, **query: str | int) -> Any:
        """What /sync has for somebody, waiting for it if need be."""
        answer = person.sync(since=self.since[person.user_id], timeout=5000, **query)
        self.since[person.user_id] = answer["next_batch"]
        return answer

    def until(self, person: Person, part: str) -> list[Any]:
        """The events of a part of /sync, when there are any: `presence`, `account_data`, or the room's `ephemeral`."""
        for _ in range(10):
            answer = self.news(person)
            if part == "ephemeral":
                answer = answer.get("rooms", {}).get("join", {}).get(self.room_id, {})
            events: list[Any] = answer.get(part, {}).get("events", [])
            if events:
                return events
        pytest.fail(f"no {part} came")

    def of(self, person: Person) -> str:
        return f"{V3}/user/{quote(person.user_id)}"


@pytest.fixture
def pair(shared_server: ServerProcess) -> Pair:
    return Pair(shared_server)


def test_typing(pair: Pair) -> None:
    path = f"{pair.room}/typing/{quote(pair.ann.user_id)}"
    pair.ann.call("PUT", path, {"typing": True, "timeout": 30_000})
    assert pair.until(pair.bob, "ephemeral") == [{"type": "m.typing", "content": {"user_ids": [pair.ann.user_id]}}]
    pair.ann.call("PUT", path, {"typing": False})
    assert pair.until(pair.bob, "ephemeral") == [{"type": "m.typing", "content": {"user_ids": []}}]
    assert pair.bob.request("PUT", path, {"typing": True}).status == 403
    assert pair.ann.request("PUT", path, {"typing": "yes"}).json["errcode"] == "M_BAD_JSON"
    assert pair.ann.request("PUT", path, {}).status == 400


def test_leaving_ends_typing(pair: Pair) -> None:
    pair.ann.call("PUT", f"{pair.room}/typing/{quote(pair.ann.user_id)}", {"typing": True})
    pair.until(pair.bob, "ephemeral")
    pair.ann.call("POST", f"{pair.room}/leave", {})
    assert pair.until(pair.bob, "ephemeral")[0]["content"] == {"user_ids": []}


def test_receipts_and_markers(pair: Pair) -> None:
    event_id = pair.ann.say(pair.room_id, "read this")
    pair.bob.call("POST", f"{pair.room}/receipt/m.read.private/{quote(event_id)}", {})
    pair.bob.call("POST", f"{pair.room}/read_markers", {"m.fully_read": event_id, "m.read": event_id})
    (event,) = pair.until(pair.ann, "ephemeral")
    assert event["type"] == "m.receipt" and list(event["content"][event_id]) == ["m.read"]
    assert list(event["content"][event_id]["m.read"]) == [pair.bob.user_id]
    room = pair.bob.sync()["rooms"]["join"][pair.room_id]
    assert set(room["ephemeral"]["events"][0]["content"][event_id]) == {"m.read", "m.read.private"}
    assert room["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": event_id}}]
    wrong = pair.bob.request("POST", f"{pair.room}/receipt/m.read/{quote(event_id)}", {"thread_id": "$other"})
    assert (wrong.status, wrong.json["errcode"]) == (400, "M_INVALID_PARAM")


def test_account_data_and_tags(pair: Pair) -> None:
    pair.ann.call("PUT", f"{pair.of(pair.ann)}/account_data/org.example", {"a": 1})
    assert {"type": "org.example", "content": {"a": 1}} in pair.until(pair.ann, "account_data")
    tags = f"{pair.of(pair.ann)}/rooms/{quote(pair.room_id)}/tags"
    pair.ann.call("PUT", f"{tags}/{quote('u.Wörk/home', safe='')}", {"order": 0.5})
    assert pair.ann.call("GET", tags) == {"tags": {"u.Wörk/home": {"order": 0.5}}}
    room = pair.news(pair.ann)["rooms"]["join"][pair.room_id]
    content = {"tags": {"u.Wörk/home": {"order": 0.5}}}
    assert room["account_data"]["events"] == [{"type": "m.tag", "content": content}]
    assert pair.ann.call("GET", f"{pair.of(pair.ann)}/rooms/{quote(pair.room_id)}/account_data/m.tag") == content
    pair.ann.call("DELETE", f"{tags}/{quote('u.Wörk/home', safe='')}")
    assert pair.ann.call("GET", tags) == {"tags": {}}
    refused = pair.ann.request("PUT", f"{pair.of(pair.ann)}/account_data/m.push_rules", {})
    assert (refused.status, refused.json["errcode"]) == (405, "M_BAD_JSON")
    assert pair.bob.request("GET", f"{pair.of(pair.ann)}/account_data/org.example").status == 403


def test_presence(pair: Pair) -> None:
    path = f"{V3}/presence/{quote(pair.ann.user_id)}/status"
    pair.ann.call("PUT", path, {"presence": "unavailable", "status_msg": "at lunch"})
    for _ in range(10):
        told = [event for event in pair.until(pair.bob, "presence") if event["sender"] == pair.ann.user_id]
        if told and told[-1]["content"].get("status_msg") == "at lunch":
            break
    else:
        pytest.fail("presence was not told")
    assert told[-1]["type"] == "m.presence" and told[-1]["content"]["presence"] == "unavailable"
    assert pair.bob.call("GET", path)["status_msg"] == "at lunch"
    assert pair.ann.request("PUT", path, {"presence": "asleep"}).json["errcode"] == "M_BAD_JSON"
    here = {event["sender"] for event in pair.bob.sync()["presence"]["events"]}
    assert here == {pair.ann.user_id, pair.bob.user_id}


def test_profiles_are_said_again_in_rooms(pair: Pair) -> None:
    path = f"{V3}/profile/{quote(pair.ann.user_id)}"
    pair.ann.call("PUT", f"{path}/displayname", {"displayname": "Ann of Ours"})
    pair.ann.call("PUT", f"{path}/org.example.pronouns", {"org.example.pronouns": ["she"]})
    pair.ann.call("PUT", f"{path}/m.tz", {"m.tz": "Europe/Berlin"})
    server = pair.ann.server
    assert server.call("GET", path) == {
        "displayname": "Ann of Ours",
        "org.example.pronouns": ["she"],
        "m.tz": "Europe/Berlin",
    }
    member = pair.bob.call("GET", f"{pair.room}/state/m.room.member/{quote(pair.ann.user_id)}")
    assert member["displayname"] == "Ann of Ours" and member["membership"] == "join"
    pair.ann.call("DELETE", f"{path}/m.tz")
    assert server.request("GET", f"{path}/m.tz").status == 404
    too_large = pair.ann.request("PUT", f"{path}/org.example.large", {"org.example.large": "x" * 66_000})
    assert (too_large.status, too_large.json["errcode"]) == (400, "M_PROFILE_TOO_LARGE")
    assert pair.bob.request("PUT", f"{path}/displayname", {"displayname": "x"}).status == 403
    assert server.request("GET", f"{V3}/profile/{quote('@nobody:localhost')}").status == 404


def test_filters(pair: Pair) -> None:
    json = {"room": {"timeline": {"types": ["m.room.message"]}, "state": {"types": []}, "ephemeral": {"types": []}}}
    path = f"{pair.of(pair.ann)}/filter"
    filter_id = pair.ann.call("POST", path, json)["filter_id"]
    assert pair.ann.call("GET", f"{path}/{filter_id}") == json
    pair.ann.say(pair.room_id, "only this")
    pair.ann.call("PUT", f"{pair.room}/typing/{quote(pair.ann.user_id)}", {"typing": True})
    room = pair.ann.sync(filter=filter_id)["rooms"]["join"][pair.room_id]
    assert {event["type"] for event in room["timeline"]["events"]} == {"m.room.message"}
    assert not room.get("ephemeral", {}).get("events") and not room.get("state", {}).get("events")
    no_filters: list[Any] = [{"room": {"timeline": {"limit": "x"}}}, {"presence": []}]
    for wrong in no_filters:
        assert pair.ann.request("POST", path, wrong).json["errcode"] == "M_BAD_JSON"
    assert pair.ann.request("GET", f"{V3}/sync", query={"filter": "77"}).status == 400


def test_all_of_it_outlives_a_restart(server: ServerProcess) -> None:
    pair = Pair(server)
    ann = pair.ann
    event_id = ann.say(pair.room_id, "hello")
    ann.call("POST", f"{pair.room}/receipt/m.read/{quote(event_id)}", {})
    ann.call("PUT", f"{pair.of(ann)}/account_data/org.example", {"nul": "\0"})
    ann.call("PUT", f"{V3}/profile/{quote(ann.user_id)}/displayname", {"displayname": "Ann"})
    ann.call("PUT", f"{V3}/presence/{quote(ann.user_id)}/status", {"presence": "online", "status_msg": "kept"})
    filter_id = ann.call("POST", f"{pair.of(ann)}/filter", {"room": {}})["filter_id"]
    pair.news(pair.bob)
    server.stop()
    server.start()
    whole = ann.sync(filter=filter_id)
    assert {"type": "org.example", "content": {"nul": "\0"}} in whole["account_data"]["events"]
    receipts = whole["rooms"]["join"][pair.room_id]["ephemeral"]["events"][0]["content"]
    assert ann.user_id in receipts[event_id]["m.read"]
    assert server.call("GET", f"{V3}/profile/{quote(ann.user_id)}") == {"displayname": "Ann"}
    told = pair.bob.call("GET", f"{V3}/presence/{quote(ann.user_id)}/status")
    assert told["status_msg"] == "kept"
    # A token from before still means what it meant.
    ann.call("PUT", f"{pair.of(ann)}/account_data/org.example", {"new": True})
    assert {"type": "org.example", "content": {"new": True}} in pair.until(ann, "account_data")
