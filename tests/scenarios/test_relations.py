"""Events under other events, over two servers, each in every role: what hangs on what is the same on both sides."""

from __future__ import annotations

from collections import Counter
from typing import Any

from homeserver.harness.client import until
from homeserver.harness.person import Person, in_path
from tests.fixtures_town import Cast, scenario, wait_for_members
from tests.scenarios.test_talking import together


def text(body: str, **more: object) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body, **more}


def edit(person: Person, room_id: str, event_id: str, body: str) -> str:
    to = {"rel_type": "m.replace", "event_id": event_id}
    return person.send(
        room_id, "m.room.message", text(f"* {body}", **{"m.new_content": text(body), "m.relates_to": to})
    )


def react(person: Person, room_id: str, event_id: str, key: str) -> str:
    to = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    return person.send(room_id, "m.reaction", {"m.relates_to": to})


def answer(person: Person, room_id: str, root: str, body: str) -> str:
    to = {"rel_type": "m.thread", "event_id": root}
    return person.send(room_id, "m.room.message", text(body, **{"m.relates_to": to}))


def bundled(person: Person, room_id: str, event_id: str) -> Any:
    """What goes with an event: relation type → what is to be known of it."""
    return person.event(room_id, event_id).get("unsigned", {}).get("m.relations", {})


def related(person: Person, room_id: str, event_id: str, kind: str) -> list[str]:
    """Ids of what hangs on an event, the newest first."""
    path = f"/_matrix/client/v1/rooms/{in_path(room_id)}/relations/{in_path(event_id)}/{kind}"
    return [event["event_id"] for event in person.call("GET", path)["chunk"]]


@scenario("host", "guest")
def test_edits_and_reactions(cast: Cast) -> None:
    """Only one's own edits count, and the last; reactions are listed, until they are taken back."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    typo = alice.say(room_id, "helo")
    until(lambda: bob.texts(room_id), ["helo"])
    first = edit(alice, room_id, typo, "hallo")
    until(lambda: "* hallo" in bob.texts(room_id))
    lie = edit(bob, room_id, typo, "I like bob")
    until(lambda: "* I like bob" in alice.texts(room_id))
    last = edit(alice, room_id, typo, "hello")
    for reader in (alice, bob):
        until(lambda: bundled(reader, room_id, typo).get("m.replace", {}).get("event_id"), last)  # noqa: B023
        assert {first, last} <= set(related(reader, room_id, typo, "m.replace")) <= {first, last, lie}
        history = {event["event_id"]: event for event in reader.history(room_id)}
        assert history[typo]["unsigned"]["m.relations"]["m.replace"]["event_id"] == last

    thumbs = [react(person, room_id, typo, "👍") for person in (alice, bob)]
    flower = react(bob, room_id, typo, "🌷")
    for reader in (alice, bob):
        until(lambda: Counter(related(reader, room_id, typo, "m.annotation")), Counter([*thumbs, flower]))  # noqa: B023
    bob.redact(room_id, flower)
    alice.redact(room_id, last)
    for reader in (alice, bob):
        until(lambda: Counter(related(reader, room_id, typo, "m.annotation")), Counter(thumbs))  # noqa: B023
        until(lambda: bundled(reader, room_id, typo).get("m.replace", {}).get("event_id"), first)  # noqa: B023


@scenario("host", "guest")
def test_threads(cast: Cast) -> None:
    """Both sides see how many answers there are, the last one, and who took part; and read them in order."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    root = bob.say(room_id, "root")
    until(lambda: alice.texts(room_id), ["root"])
    answers = []
    for number in range(3):
        person = (alice, bob)[number % 2]
        answers.append(answer(person, room_id, root, f"{number}"))
        for reader in (alice, bob):
            until(lambda: related(reader, room_id, root, "m.thread"), answers[::-1])  # noqa: B023
    for reader in (alice, bob):
        thread = bundled(reader, room_id, root)["m.thread"]
        assert (thread["count"], thread["current_user_participated"]) == (3, True)
        assert thread["latest_event"]["event_id"] == answers[-1]
        found = reader.call("GET", f"/_matrix/client/v1/rooms/{in_path(room_id)}/threads")["chunk"]
        assert [event["event_id"] for event in found] == [root]
    alice.redact(room_id, answers[-1])
    for reader in (alice, bob):
        until(lambda: bundled(reader, room_id, root)["m.thread"]["count"], 2)  # noqa: B023


@scenario("host", "guest")
def test_moments_from_before_one_came(cast: Cast) -> None:
    """Whoever asks for a moment gets the event that is next to it, also of what their server has not seen."""
    host, guest = cast
    alice, bob = cast.person("alice", host), cast.person("bob", guest)
    room_id = cast.room(alice, preset="public_chat")
    first = alice.say(room_id, "first")
    for number in range(30):
        alice.say(room_id, f"number {number}")
    bob.join(room_id, via=[host])
    wait_for_members(room_id, alice, bob)
    moment = alice.event(room_id, first)["origin_server_ts"]
    path = f"/_matrix/client/v1/rooms/{in_path(room_id)}/timestamp_to_event"
    for person in (alice, bob):
        for direction in ("f", "b"):
            event = person.call("GET", path, query={"ts": moment, "dir": direction})
            assert event["origin_server_ts"] == moment
            assert person.event(room_id, event["event_id"])["origin_server_ts"] == moment
        beyond = person.request("GET", path, query={"ts": 1, "dir": "b"})
        assert (beyond.status, beyond.json["errcode"]) == (404, "M_NOT_FOUND")
