"""Sticky events: while they stick nobody in the room misses them, whenever they come; then they are as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from federation.room.sticky import LONGEST_MS
from homeserver.client.send import STICKY_MS, SendMessage, send_message
from homeserver.delayed.clockwork import Clockwork
from homeserver.http.asks import AskReader
from homeserver.rooms.send import Sender
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse, open_house
from tests.relations.talk import event, ignore, parsed

LIMIT = {"room": {"timeline": {"limit": 1}}}


def stick(house: LivedInHouse, name: str, room_id: str, text: str, ms: int = 60_000) -> str:
    send = house.house.part(Sender).message(
        house.who(name), room_id, "org.example.rtc", {"body": text}, text, sticky_ms=ms
    )
    return house.wait(send)


def stuck(house: LivedInHouse, name: str, room_id: str, since: str | None = None, **filter: Any) -> list[str]:
    """What the sticky section of a sync says."""
    section = house.sync(name, since, filter=filter or LIMIT)["rooms"]["join"][room_id]
    return [one["content"]["body"] for one in section.get("msc4354_sticky", {"events": []})["events"]]


def token(house: LivedInHouse, name: str) -> str:
    return str(house.sync(name)["next_batch"])


def later(house: LivedInHouse, ms: int) -> None:
    """Let wall time pass."""
    real = house.house.clock.now_ms
    object.__setattr__(house.house.clock, "now_ms", lambda: real() + ms)


def test_where_it_is_shown(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = token(house, "bob")
    said = stick(house, "alice", room_id, "ring")
    shown = event(house, "bob", room_id, said)
    assert shown["msc4354_sticky"] == {"duration_ms": 60_000}
    assert 59_000 < shown["unsigned"]["msc4354_sticky_duration_ttl_ms"] <= 60_000
    assert stuck(house, "bob", room_id, since) == []  # it is in the timeline
    house.say("alice", room_id, "hello")
    assert stuck(house, "bob", room_id, since) == ["ring"]
    assert stuck(house, "bob", room_id) == ["ring"]
    assert stuck(house, "bob", room_id, since, room={"timeline": {"limit": 10}}) == []
    after = token(house, "bob")
    for number in range(3):
        house.say("alice", room_id, f"{number}")
    assert stuck(house, "bob", room_id, after) == []  # told before
    later(house, 61_000)
    assert stuck(house, "bob", room_id, since) == []
    assert "msc4354_sticky_duration_ttl_ms" not in event(house, "bob", room_id, said)["unsigned"]


def test_who_comes_sees_it(house: LivedInHouse) -> None:
    """Whatever the history visibility; who is not in the room does not."""
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = house.create("alice", preset="public_chat", initial_state=[setting])
    since = token(house, "bob")
    for number in range(3):
        stick(house, "alice", room_id, f"ring {number}")
        house.say("alice", room_id, f"{number}")
    house.join("bob", room_id)
    assert stuck(house, "bob", room_id, since) == ["ring 0", "ring 1", "ring 2"]
    left = token(house, "bob")
    house.leave("bob", room_id)
    stick(house, "alice", room_id, "ring 3")
    section = house.sync("bob", left, filter=LIMIT)["rooms"]["leave"][room_id]
    assert "msc4354_sticky" not in section


def test_it_can_be_taken_back_and_ignored(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = token(house, "bob")
    first = stick(house, "alice", room_id, "first")
    stick(house, "alice", room_id, "second")
    house.say("alice", room_id, "hello")
    house.redact("alice", room_id, first)
    assert stuck(house, "bob", room_id, since) == ["second"]
    assert "msc4354_sticky" not in event(house, "bob", room_id, first)
    ignore(house, "bob", "alice")
    assert stuck(house, "bob", room_id) == []


def test_many(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from homeserver.rooms import sticky

    monkeypatch.setattr(sticky, "MOST_IN_SYNC", 2)
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = token(house, "bob")
    for number in range(4):
        stick(house, "alice", room_id, f"{number}")
    house.say("alice", room_id, "hello")
    assert stuck(house, "bob", room_id, since) == ["2", "3"]
    assert stuck(house, "bob", room_id) == ["0", "1", "2", "3"]


def test_over_a_restart(tmp_path: Path, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    room_id = house.create("alice", preset="public_chat")
    for text, ms in (("short", 1_000), ("long", 10 * LONGEST_MS), ("middle", 600_000)):
        stick(house, "alice", room_id, text, ms)
    house.say("alice", room_id, "hello")
    house.wait(house.house.close())
    house = open_house(tmp_path, database_url)
    later(house, 30_000)
    house.wait(house.house.sticky.start())
    assert stuck(house, "alice", room_id) == ["long", "middle"]
    later(house, LONGEST_MS)
    assert stuck(house, "alice", room_id) == []
    house.wait(house.house.sticky.tidy())
    rows = house.house.database.run(lambda cursor: cursor.execute("SELECT 1 FROM sticky_events").fetchall())
    assert house.wait(rows) == []
    house.wait(house.house.close())


def test_by_the_clients_request(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    reader = AskReader(SendMessage, path=["room_id", "event_type", "txn_id"], query=[STICKY_MS], body="content")
    for asked, kept in ((5_000, 5_000), (LONGEST_MS + 1, LONGEST_MS), (0, 0)):
        ask = reader.read([room_id, "org.example.rtc", f"t{asked}"], f"{STICKY_MS}={asked}", b'{"body":"x"}')
        assert isinstance(ask, SendMessage)
        handler = send_message(house.house.part(Sender), house.house.part(Clockwork), house.who("alice"), ask)
        said = parsed(house, handler)["event_id"]
        assert event(house, "alice", room_id, said)["msc4354_sticky"] == {"duration_ms": kept}
    state = house.house.part(Sender).state(house.user("alice"), room_id, "org.example.s", "", {}, sticky_ms=9_000)
    assert event(house, "alice", room_id, house.wait(state))["msc4354_sticky"] == {"duration_ms": 9_000}


@pytest.mark.parametrize("told", [None, 5, [], {}, {"duration_ms": "5"}, {"duration_ms": -1}, {"duration_ms": None}])
def test_nonsense_does_not_stick(fleet: Fleet, told: Any) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    made = b.make(room_id, "bob", "org.example.rtc", {"body": "x"}, extra={"msc4354_sticky": told})
    assert a.receive(b.name, room_id, made.raw) == ["accepted"]
    a.say("alice", room_id, "hello")
    assert stuck(a, "alice", room_id) == []
    assert "msc4354_sticky" not in event(a, "alice", room_id, made.event_id)


def test_between_servers(fleet: Fleet) -> None:
    """Each server brings what its own people said to servers that come later; nobody makes an event stick for ever."""
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    stick(a, "alice", room_id, "by alice")
    over = stick(a, "alice", room_id, "over", 0)
    fleet.settle()
    stick(b, "bob", room_id, "by bob")
    fleet.settle()
    for member, name in ((a, "alice"), (b, "bob")):
        member.say(name, room_id, "hello")
        fleet.settle()
    assert stuck(b, "bob", room_id) == ["by alice", "by bob"]
    c.enter("carol", room_id, via=a)
    fleet.run(1)
    fleet.settle()
    c.say("carol", room_id, "hello")
    c.say("carol", room_id, "anybody?")
    assert sorted(stuck(c, "carol", room_id)) == ["by alice", "by bob"]
    sent = [one.event_id for post in (a.post, b.post) for events in post.waiting.values() for one in events]
    assert over not in sent
    future = b.make(
        room_id, "bob", "org.example.rtc", {"body": "x"}, extra={"msc4354_sticky": {"duration_ms": 1_000}},
        origin_server_ts=b.house.clock.now_ms() + 10 * LONGEST_MS,
    )  # fmt: skip
    assert a.receive(b.name, room_id, future.raw) == ["accepted"]
    ttl = event(a, "alice", room_id, future.event_id)["unsigned"]["msc4354_sticky_duration_ttl_ms"]
    assert ttl <= 1_000
