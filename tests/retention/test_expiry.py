"""Messages that are over are gone: from timelines, the database, the search and the files; state stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from config import Retention
from federation.room.retention import lifetime_ms
from homeserver.client.retention import get_configuration
from homeserver.rooms.send import Sender
from storage import media, media_refs
from storage.media import Medium, Quota
from storage.ports import Cursor
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse, open_house
from tests.relations.talk import event, messages, parsed

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WORD = "xylophone"


def later(house: Any, ms: int) -> None:
    """Let time pass on the wall, and for timers."""
    real = house.house.clock.now_ms
    object.__setattr__(house.house.clock, "now_ms", lambda: real() + ms)
    house.reactor.timers.advance(ms / 1000)
    settle(house)


def settle(house: Any) -> None:
    while house.house.tasks.names:
        house.wait(house.house.database.write(lambda cursor: None))


def now(house: Any) -> int:
    return int(house.house.clock.now_ms())


def say(
    house: Any, name: str, room_id: str, text: str, more: Mapping[str, Any] | None = None, *, ends: int | None = None
) -> str:
    content = {"msgtype": "m.text", "body": text, **(more or {})}
    if ends is not None:
        content["org.matrix.self_destruct_after"] = ends
    sent = house.house.part(Sender).message(house.who(name), room_id, "m.room.message", content, text)
    return str(house.wait(sent))


def bodies(house: Any, name: str, room_id: str) -> list[Any]:
    page = messages(house, name, room_id)["chunk"][::-1]
    return [one["content"].get("body") for one in page if one["type"] == "m.room.message"]


def sweep(house: Any) -> None:
    house.wait(house.house.expiry.sweep())


def set_policy(house: Any, **given: Any) -> None:
    object.__setattr__(house.house.expiry, "settings", Retention(**given))


def kept(house: Any, text: str) -> list[str]:
    """The events in whose stored form there is a text."""
    rows = house.wait(
        house.house.database.run(lambda cursor: cursor.execute("SELECT event_id, raw FROM events").fetchall())
    )
    return [event_id for event_id, raw in rows if text.encode() in bytes(raw)]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"max_lifetime": 5}, 5),
        ({"max_lifetime": 5, "min_lifetime": 5}, 5),
        ({"max_lifetime": 5, "min_lifetime": 6}, None),
        ({"min_lifetime": 6}, None),
        ({"max_lifetime": "5"}, None),
        ({"max_lifetime": True}, None),
        ({"max_lifetime": -1}, None),
        ({"max_lifetime": 2**60}, None),
        ({}, None),
    ],
)
def test_what_rooms_say(content: dict[str, Any], wanted: int | None) -> None:
    assert lifetime_ms(content) == wanted


def test_a_message_with_an_end(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.sync("bob")
    say(house, "alice", room_id, "before")
    ends = now(house) + HOUR_MS
    said = say(house, "alice", room_id, f"one {WORD}", ends=ends)
    edit = {"rel_type": "m.replace", "event_id": said}
    say(house, "alice", room_id, f"* two {WORD}", {"m.new_content": {"body": WORD}, "m.relates_to": edit})
    say(house, "alice", room_id, "sooner", ends=now(house) + 60_000)
    later(house, 61_000)
    assert bodies(house, "bob", room_id) == ["before", f"one {WORD}", f"* two {WORD}"]
    assert len(kept(house, WORD)) == 2
    later(house, HOUR_MS)
    assert kept(house, WORD) == [] and kept(house, "sooner") == []
    assert bodies(house, "bob", room_id) == ["before"]
    for answer in (house.sync("bob"), house.sync("bob", filter={"room": {"timeline": {"limit": 2}}})):
        assert WORD not in orjson.dumps(answer).decode()
    assert event(house, "bob", room_id, said)["content"] == {}
    say(house, "alice", room_id, "after")  # the room goes on
    assert bodies(house, "bob", room_id) == ["before", "after"]
    left = house.house.database.run(lambda cursor: cursor.execute("SELECT 1 FROM ending_events").fetchall())
    assert house.wait(left) == []


def test_state_has_no_end(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    content = {"topic": WORD, "m.self_destruct_after": now(house) + 1000}
    house.set_state("alice", room_id, "org.example.topic", content)
    for nonsense in (True, "5", -1, None):
        say(house, "alice", room_id, f"{nonsense}", {"m.self_destruct_after": nonsense})
    later(house, DAY_MS)
    assert len(kept(house, WORD)) == 1
    assert len(bodies(house, "alice", room_id)) == 4


def test_over_a_restart(tmp_path: Path, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    room_id = house.create("alice")
    say(house, "alice", room_id, f"one {WORD}", ends=now(house) + HOUR_MS)
    say(house, "alice", room_id, "two", ends=now(house) + 90 * DAY_MS)
    house.wait(house.house.close())
    house = open_house(tmp_path, database_url)
    later(house, DAY_MS)
    house.wait(house.house.expiry.start())
    assert kept(house, WORD) == []
    assert bodies(house, "alice", room_id) == ["two"]
    for _ in range(90):
        later(house, DAY_MS)
    assert bodies(house, "alice", room_id) == []
    house.wait(house.house.close())


@pytest.mark.parametrize("event_type", ["m.room.retention", "org.matrix.msc1763.retention"])
def test_rooms_whose_messages_live_for_a_while(house: LivedInHouse, event_type: str) -> None:
    room_id = house.create("alice", preset="public_chat")
    other = house.create("alice", preset="public_chat")
    house.set_state("alice", room_id, event_type, {"max_lifetime": 2 * DAY_MS})
    for room in (room_id, other):
        say(house, "alice", room, f"old {WORD} {room}")
    later(house, DAY_MS)
    say(house, "alice", room_id, "young")
    sweep(house)
    assert len(kept(house, WORD)) == 2
    later(house, DAY_MS)
    sweep(house)
    assert bodies(house, "alice", room_id) == ["young"]
    assert kept(house, f"{WORD} {room_id}") == []
    assert len(kept(house, f"{WORD} {other}")) == 1  # it says nothing
    assert house.wait(house.house.rooms.require(room_id)).membership_of(house.user("alice")) == "join"
    house.set_state("alice", room_id, event_type, {})
    later(house, 9 * DAY_MS)
    sweep(house)
    assert bodies(house, "alice", room_id) == ["young"]


def test_the_servers_own_bounds(house: LivedInHouse) -> None:
    short, long, silent = (house.create("alice") for _ in range(3))
    house.set_state("alice", short, "m.room.retention", {"max_lifetime": 1})
    house.set_state("alice", long, "m.room.retention", {"max_lifetime": 100 * DAY_MS})
    for room in (short, long, silent):
        say(house, "alice", room, room)
    set_policy(house, shortest_ms=2 * DAY_MS, longest_ms=5 * DAY_MS, default_ms=3 * DAY_MS)
    seen = []
    for _ in range(6):
        later(house, DAY_MS)
        sweep(house)
        seen.append([len(bodies(house, "alice", room)) for room in (short, long, silent)])
    assert seen == [[1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    told = parsed(house, get_configuration(house.house.expiry))
    assert told["limits"]["max_lifetime"] == {"min": 2 * DAY_MS, "max": 5 * DAY_MS}
    assert told["policies"] == {"*": {"max_lifetime": 3 * DAY_MS}}
    with pytest.raises(ValueError, match="must not be less"):
        Retention(shortest_ms=DAY_MS, longest_ms=HOUR_MS)


def test_where_everything_stays(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    house.set_state("alice", room_id, "m.room.retention", {"max_lifetime": 1})
    set_policy(house, enabled=False, default_ms=HOUR_MS)
    say(house, "alice", room_id, "stays", ends=now(house) + 1)
    house.wait(house.house.expiry.start())
    later(house, 9 * DAY_MS)
    sweep(house)
    assert bodies(house, "alice", room_id) == ["stays"]


def test_many_pages(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    from homeserver.retention import expiry

    monkeypatch.setattr(expiry, "PAGE", 2)
    room_id = house.create("alice")
    house.set_state("alice", room_id, "m.room.retention", {"max_lifetime": 1})
    for number in range(7):
        say(house, "alice", room_id, f"{number}", ends=now(house) + DAY_MS if number % 2 else None)
        house.set_state("alice", room_id, "org.example.s", {"n": number})
    later(house, 2 * DAY_MS)
    assert bodies(house, "alice", room_id) == ["0", "2", "4", "6"]
    sweep(house)
    assert bodies(house, "alice", room_id) == []


def test_files_and_the_search(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    uri = "mxc://test.example/picture"

    def upload(cursor: Cursor) -> None:
        row = Medium(
            "test.example", "picture", house.user("alice"), 1, None, 1, 5, "image/png", "a", b"h" * 32, "local/p", False
        )
        media.add(cursor, row, Quota(None, None))

    house.wait(house.house.database.write(upload))
    say(house, "alice", room_id, WORD, {"url": uri}, ends=now(house) + HOUR_MS)
    house.wait(house.house.indexer.catch_up())
    held = house.house.database.run(media_refs.is_held, "picture")
    assert house.wait(held)
    assert words(house) == 1
    later(house, 2 * HOUR_MS)
    assert not house.wait(house.house.database.run(media_refs.is_held, "picture"))
    assert house.wait(house.house.database.run(media.get, "test.example", "picture")) is None
    assert words(house) == 0


def words(house: LivedInHouse) -> int:
    rows = house.wait(
        house.house.database.run(lambda cursor: cursor.execute("SELECT event_nid FROM search_docs").fetchall())
    )
    return len(rows)


def test_on_every_server(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    a.set_state("alice", room_id, "m.room.retention", {"max_lifetime": DAY_MS})
    say(a, "alice", room_id, f"swept {WORD}")
    say(a, "alice", room_id, f"ends {WORD}", ends=now(a) + HOUR_MS)
    fleet.settle()
    assert len(kept(b, WORD)) == 2
    for member in (a, b):
        later(member, 2 * HOUR_MS)
        assert len(kept(member, WORD)) == 1
        later(member, DAY_MS)
        sweep(member)
        assert kept(member, WORD) == []
