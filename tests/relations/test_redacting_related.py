"""A redaction that takes along what hangs on the event: edits, a thread; what its sender may redact of it."""

from __future__ import annotations

from homeserver.client.send import WITH_RELATIONS, Redact, redact
from homeserver.rooms.send import RELATED_AT_ONCE, Sender
from tests.fixtures_house import LivedInHouse
from tests.fixtures_server import ServerProcess
from tests.relations.talk import edit, event, react, relate

UNSTABLE, STABLE = WITH_RELATIONS


def take(house: LivedInHouse, name: str, room_id: str, target: str, rel_types: object, field: str = UNSTABLE) -> str:
    ask = Redact(room_id, target, {"reason": "enough", field: rel_types}, f"txn {name} {target} {rel_types}")
    return house.wait(redact(house.house.part(Sender), house.who(name), ask))["event_id"]


def said(house: LivedInHouse, room_id: str, *events: str) -> str:
    """An x for each of the events that still says something."""
    return "".join("x" if event(house, "alice", room_id, one)["content"] else "-" for one in events)


def test_what_hangs_on_an_event_goes_too(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    root, other = house.say("bob", room_id, "root"), house.say("bob", room_id, "other")
    first = edit(house, "bob", room_id, root, "better")
    replies = [relate(house, name, room_id, root, "m.thread", text="reply") for name in ("bob", "alice")]
    liked = react(house, "alice", room_id, root)
    deeper = react(house, "bob", room_id, replies[0])
    apart = edit(house, "bob", room_id, other, "better")
    everything = (root, first, *replies, liked, deeper, apart)
    assert said(house, room_id, *everything) == "xxxxxxx"
    # Without a word of it, the event alone; who may redact only their own takes along only those.
    redaction = take(house, "bob", room_id, root, [])
    assert said(house, room_id, *everything) == "-xxxxxx"
    assert event(house, "alice", room_id, redaction)["content"] == {"reason": "enough", "redacts": root}
    take(house, "bob", room_id, root, ["m.thread", "no such thing"])
    assert said(house, room_id, *everything) == "-x-xxxx"
    take(house, "alice", room_id, root, ["m.replace"], STABLE)
    assert said(house, room_id, *everything) == "---xxxx"
    take(house, "alice", room_id, root, ["*"])
    assert said(house, room_id, *everything) == "-----xx"
    because = event(house, "alice", room_id, liked)["unsigned"]["redacted_because"]
    assert because["content"] == {"reason": "enough", "redacts": liked}


def test_a_long_thread(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    root = house.say("alice", room_id, "root")
    replies = [relate(house, "alice", room_id, root, "m.thread", text="reply") for _ in range(RELATED_AT_ONCE + 2)]
    take(house, "alice", room_id, root, ["m.thread"])
    assert said(house, room_id, root, *replies) == "-" * (len(replies) + 1)


def test_over_http(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann_who_redacts")
    assert shared_server.request("GET", "/_matrix/client/versions").json["unstable_features"]["org.matrix.msc3912"]
    room_id = ann.create_room()
    root = ann.say(room_id, "root")
    path = f"/_matrix/client/v3/rooms/{room_id}/redact/{root}"
    for number, wrong in enumerate(("m.thread", [1], {}, ["x"] * 21)):
        answer = ann.request("PUT", f"{path}/wrong{number}", {UNSTABLE: wrong})
        assert answer.status == 400 and UNSTABLE in answer.json["error"]
    assert ann.call("PUT", f"{path}/right", {UNSTABLE: ["m.thread", "no\0type"]})["event_id"]
