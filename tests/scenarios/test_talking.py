"""What people of several servers say to each other in a room, take back, and see of each other meanwhile."""

from __future__ import annotations

import os
from typing import Any

from homeserver.harness.client import until
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members

PAST = 1000 if os.environ.get("ACCEPTANCE") else 60
"""Messages of a room that somebody comes to late."""


def together(cast: Cast, host: Server, *guests: Server, **body: object) -> tuple[str, list[Person]]:
    """A public room with somebody of each server in it; the first is its founder."""
    founder = cast.person("alice", host)
    room_id = cast.room(founder, preset="public_chat", **body)
    people = [founder]
    for guest in guests:
        people.append(cast.person("bob", guest))
        people[-1].join(room_id, via=[host])
        wait_for_members(room_id, *people)
    return room_id, people


def heard(room_id: str, texts: list[str], *readers: Person) -> None:
    for reader in readers:
        until(lambda reader=reader: reader.texts(room_id), texts)  # type: ignore[misc]


@scenario("host", "guest")
def test_a_conversation(cast: Cast) -> None:
    """In turns: each hears the other's last word before saying the next."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    said: list[str] = []
    for number in range(6):
        text = f"Grüße {number} \u0000 🫖" if number == 3 else f"number {number}"
        (alice, bob)[number % 2].say(room_id, text)
        said.append(text)
        heard(room_id, said, alice, bob)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_both_talk_at_once(cast: Cast) -> None:
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    for number in range(15):
        alice.say(room_id, f"alice {number:02}")
        bob.say(room_id, f"bob {number:02}")
    everything = sorted(f"{name} {number:02}" for name in ("alice", "bob") for number in range(15))
    for reader in (alice, bob):
        until(lambda reader=reader: sorted(reader.texts(room_id)), everything)  # type: ignore[misc]
        for name in ("alice", "bob"):
            own = [text for text in reader.texts(room_id) if text.startswith(name)]
            assert own == sorted(own), "what one says comes in the order in which it was said"


@scenario("host", "guest")
def test_redactions(cast: Cast) -> None:
    """One's own, and by a moderator of the other side; who may not, can't."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    own, rude, fine = bob.say(room_id, "a slip"), bob.say(room_id, "rude"), alice.say(room_id, "fine")
    for reader in (alice, bob):
        until(lambda reader=reader: sorted(reader.texts(room_id)), ["a slip", "fine", "rude"])  # type: ignore[misc]
    assert bob.request("PUT", f"/_matrix/client/v3/rooms/{room_id}/redact/{fine}/1", {}).status == 403
    bob.redact(room_id, own, "never mind")
    alice.redact(room_id, rude, "manners")
    heard(room_id, ["fine"], alice, bob)
    for reader in (alice, bob):
        event = reader.event(room_id, own)
        assert event["content"] == {}
        because = event["unsigned"]["redacted_because"]
        assert (because["sender"], because["content"]["reason"]) == (bob.user_id, "never mind")


@scenario("host", "guest")
def test_state_of_all_kinds(cast: Cast) -> None:
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest, power_level_content_override={"state_default": 0})
    alice.set_state(room_id, "m.room.topic", {"topic": "by alice"})
    until(lambda: (bob.content_of(room_id, "m.room.topic") or {}).get("topic"), "by alice")
    bob.set_state(room_id, "m.room.topic", {"topic": "by bob"})
    bob.set_state(room_id, "org.example/odd type", {"": {"deep": [1, -(2**53) + 1, None, True]}}, "key/with ümlaut %2F")
    until(lambda: (alice.content_of(room_id, "m.room.topic") or {}).get("topic"), "by bob")
    odd = {"": {"deep": [1, -(2**53) + 1, None, True]}}
    until(lambda: alice.content_of(room_id, "org.example/odd type", "key/with ümlaut %2F"), odd)
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_typing_receipts_and_presence(cast: Cast) -> None:
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    for person, other in ((alice, bob), (bob, alice)):
        person.news()
        other.type(room_id)
        until(lambda: [other.user_id] in [e["user_ids"] for e in person.ephemeral(room_id, "m.typing")], True)  # noqa: B023
        other.type(room_id, False)
        until(lambda: [] in [e["user_ids"] for e in person.ephemeral(room_id, "m.typing")], True)  # noqa: B023
        event_id = person.say(room_id, f"to {other.user_id}")
        until(lambda: f"to {other.user_id}" in other.texts(room_id), True)  # noqa: B023
        other.read(room_id, event_id)
        until(lambda: reads(person, room_id, event_id, other), True)  # noqa: B023
        other.set_presence("unavailable", f"waits for {person.user_id}")
        until(lambda: presence(person, other), ("unavailable", f"waits for {person.user_id}"))  # noqa: B023


def reads(person: Person, room_id: str, event_id: str, other: Person) -> bool:
    """Whether there is news that somebody read up to an event."""
    receipts = person.ephemeral(room_id, "m.receipt")
    return any(other.user_id in receipt.get(event_id, {}).get("m.read", {}) for receipt in receipts)


def presence(person: Person, other: Person) -> tuple[Any, Any]:
    found = person.call("GET", f"/_matrix/client/v3/presence/{other.user_id}/status")
    return found.get("presence"), found.get("status_msg")


@scenario("host", "guest")
def test_profiles(cast: Cast) -> None:
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    for person, other in ((alice, bob), (bob, alice)):
        person.set_profile("displayname", f"I, {person.user_id}")
        until(lambda: other.profile_of(person.user_id).get("displayname"), f"I, {person.user_id}")  # noqa: B023
        until(lambda: name_in(other, room_id, person), f"I, {person.user_id}")  # noqa: B023
    nobody = f"@nobody:{alice.server.name}"
    assert bob.request("GET", f"/_matrix/client/v3/profile/{nobody}").status == 404
    wait_for_agreement(room_id, alice, bob)


def name_in(person: Person, room_id: str, other: Person) -> Any:
    content = person.content_of(room_id, "m.room.member", other.user_id)
    return content.get("displayname")


@scenario("host", "guest")
def test_the_past_of_a_room(cast: Cast) -> None:
    """Somebody comes late and reads back to the beginning; what is said meanwhile is in its place."""
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat")
    said = [f"number {number}" for number in range(PAST)]
    for text in said:
        alice.say(room_id, text)
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    bob.say(room_id, "here at last")
    heard(room_id, [*said, "here at last"], bob)
    newest_first = list(bob.history(room_id))
    assert len({event["event_id"] for event in newest_first}) == len(newest_first)
    assert newest_first[-1]["type"] == "m.room.create"
    wait_for_agreement(room_id, alice, bob)


@scenario("host", "guest")
def test_what_was_before_stays_hidden(cast: Cast) -> None:
    """History visibility `joined`: nobody reads what was said before they came, or after they left."""
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    hidden = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room_id = cast.room(alice, preset="public_chat", initial_state=[hidden])
    before = alice.say(room_id, "before")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    alice.say(room_id, "meanwhile")
    heard(room_id, ["meanwhile"], bob)
    assert bob.request("GET", f"/_matrix/client/v3/rooms/{room_id}/event/{before}").status in (403, 404)
    bob.leave(room_id)
    until(lambda: alice.joined(room_id), {alice.user_id})
    alice.say(room_id, "after")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    alice.say(room_id, "again")
    heard(room_id, ["meanwhile", "again"], bob)


@scenario("host", "guest")
def test_large_and_odd_messages(cast: Cast) -> None:
    """What is just small enough, and what JSON and Unicode allow, arrives as it was said."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    contents: list[dict[str, Any]] = [
        {"msgtype": "m.text", "body": "x" * 60_000},
        {
            "msgtype": "m.text",
            "body": '\ud7ff\ue000\U0010ffff\u2028\x7f\x01"\\/',
            "": {},
            "ключ": [[], {}, -1, 2**53 - 1],
        },
        {"msgtype": "org.example.\u0000", "body": "\u0000", "formatted_body": "<b>\u0000</b>"},
    ]
    for sender, reader in ((alice, bob), (bob, alice)):
        for content in contents:
            event_id = sender.send(room_id, "m.room.message", content)
            until(lambda: reader.event(room_id, event_id)["content"] == content, True)  # noqa: B023
        too_large = {"msgtype": "m.text", "body": "x" * 66_000}
        path = f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{sender.user_id}"
        assert sender.request("PUT", path, too_large).status in (400, 413)
