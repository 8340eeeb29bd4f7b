"""Messages that are over some time after everybody has read them: whose word counts, and that they are really gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.room.event import Event
from federation.room.retention import LONGEST_MS, ends_at, lasts_ms
from homeserver.userdata.read_markers import Mark, ReadMarkers
from storage.retention import NOWHERE, _two_slowest
from tests.fixtures_fleet import Fleet, Member
from tests.fixtures_house import LivedInHouse, open_house
from tests.retention.test_expiry import HOUR_MS, WORD, bodies, kept, later, now, say, settle, words


def read(house: Any, name: str, room_id: str, event_id: str, kind: str = "m.read", thread: str = "") -> None:
    room = house.wait(house.house.rooms.require(room_id))
    house.wait(house.house.part(ReadMarkers).move(room.nid, house.user(name), [Mark(kind, event_id, thread)]))


def burn(house: Any, name: str, room_id: str, text: str, **more: Any) -> str:
    """Say something that stays for an hour."""
    return say(house, name, room_id, text, {"m.self_destruct": HOUR_MS, **more})


def left(house: Any) -> int:
    """How much waits to be read, or to be over."""
    count = "SELECT (SELECT COUNT(*) FROM read_timers) + (SELECT COUNT(*) FROM ending_events)"
    return int(house.wait(house.house.database.run(lambda cursor: cursor.execute(count).fetchone()))[0])


def meet(house: LivedInHouse, *names: str) -> str:
    room_id = house.create("alice", preset="public_chat")
    for name in names:
        house.join(name, room_id)
    return room_id


def test_once_everybody_has_read_it(house: LivedInHouse) -> None:
    room_id = meet(house, "bob", "carol")
    said = burn(house, "alice", room_id, f"one {WORD}")
    house.wait(house.house.indexer.catch_up())
    edit = {"rel_type": "m.replace", "event_id": said}
    say(house, "alice", room_id, f"* two {WORD}", {"m.new_content": {"body": WORD}, "m.relates_to": edit})
    read(house, "bob", room_id, said)
    read(house, "alice", room_id, said)  # she wrote it
    read(house, "carol", room_id, said, "m.read.private")  # nobody may learn of that
    read(house, "carol", room_id, said, thread="$another")
    for _ in range(2):  # time enough to begin, and to be over
        later(house, 5 * HOUR_MS)
    assert len(kept(house, WORD)) == 2
    read(house, "carol", room_id, said)
    later(house, 2_000)
    later(house, HOUR_MS // 2)
    assert len(kept(house, WORD)) == 2  # it is an hour from now
    later(house, HOUR_MS)
    assert kept(house, WORD) == [] and bodies(house, "bob", room_id) == []
    house.wait(house.house.indexer.catch_up())
    assert words(house) == 0 and left(house) == 0


def test_who_is_there_to_read(house: LivedInHouse) -> None:
    room_id = meet(house)
    burn(house, "alice", room_id, "alone")
    later(house, 2 * HOUR_MS)
    assert bodies(house, "alice", room_id) == ["alone"]
    for name in ("bob", "carol"):
        house.join(name, room_id)
    last = burn(house, "bob", room_id, "another")
    read(house, "bob", room_id, last)
    read(house, "alice", room_id, last)
    later(house, 2 * HOUR_MS)
    assert bodies(house, "alice", room_id) == ["alone", "another"]
    house.leave("carol", room_id)  # of whom was waited
    later(house, 2_000)
    later(house, HOUR_MS)
    assert bodies(house, "alice", room_id) == [] and left(house) == 0


def test_a_steward_reads_nothing(house: LivedInHouse) -> None:
    room_id = house.create("guildhall", preset="public_chat")
    for name in ("alice", "bob"):
        house.join(name, room_id)
    read(house, "bob", room_id, burn(house, "alice", room_id, "in a channel"))
    later(house, 2_000)
    later(house, HOUR_MS)
    assert bodies(house, "bob", room_id) == []


def test_threads_are_read_apart(house: LivedInHouse) -> None:
    room_id = meet(house, "bob")
    root = say(house, "alice", room_id, "root")
    relation = {"rel_type": "m.thread", "event_id": root}
    inside = burn(house, "alice", room_id, "inside", **{"m.relates_to": relation})
    outside = burn(house, "alice", room_id, "outside")
    read(house, "bob", room_id, inside, thread=root)
    later(house, 2_000)
    later(house, HOUR_MS)
    assert bodies(house, "bob", room_id) == ["root", "outside"]
    read(house, "bob", room_id, outside, thread="main")
    later(house, 2_000)
    later(house, HOUR_MS)
    assert bodies(house, "bob", room_id) == ["root"]


def test_ends_of_both_kinds_and_redactions(house: LivedInHouse) -> None:
    room_id = meet(house, "bob")
    sooner = burn(house, "alice", room_id, "sooner", **{"m.self_destruct_after": now(house) + 60_000})
    short = say(house, "alice", room_id, "short", {"org.matrix.self_destruct_after": 60_000})
    never = burn(house, "alice", room_id, "redacted")
    house.redact("alice", room_id, never)
    later(house, 61_000)
    assert bodies(house, "bob", room_id)[:1] == ["short"]
    read(house, "bob", room_id, short)
    assert sooner
    later(house, 2_000)
    later(house, 61_000)
    assert bodies(house, "bob", room_id) == [None] and left(house) == 0


def test_what_counted_goes_on_counting(tmp_path: Path, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    room_id = meet(house, "bob")
    one = burn(house, "alice", room_id, "counts")
    read(house, "bob", room_id, one)
    later(house, 2_000)
    two = burn(house, "alice", room_id, "was read when it crashed")
    burn(house, "alice", room_id, "is not read")
    read(house, "bob", room_id, two)  # nobody looks any more
    house.wait(house.house.close())
    house = open_house(tmp_path, database_url)
    later(house, HOUR_MS + 10_000)  # its clock begins anew
    house.wait(house.house.expiry.start())
    assert bodies(house, "bob", room_id) == ["was read when it crashed", "is not read"]
    later(house, HOUR_MS)
    assert bodies(house, "bob", room_id) == ["is not read"]
    house.wait(house.house.close())


def test_readers_elsewhere(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    said = burn(a, "alice", room_id, f"burn {WORD}")
    fleet.settle()
    for member in (a, b):
        later(member, 2 * HOUR_MS)
        assert len(kept(member, WORD)) == 1
    read(b, "bob", room_id, said)
    tell(b, a, b.user("bob"), room_id, said)
    for member in (a, b):
        later(member, 2_000)
        later(member, HOUR_MS)
        assert kept(member, WORD) == []


def tell(here: Member, there: Member, user_id: str, room_id: str, event_id: str) -> None:
    """A server sends another one a receipt."""
    content = {room_id: {"m.read": {user_id: {"event_ids": [event_id], "data": {"ts": 1}}}}}
    edus = [{"edu_type": "m.receipt", "content": content}]
    body = {"origin": here.name, "origin_server_ts": 1, "pdus": [], "edus": edus}
    assert here.ask(there, "PUT", "/_matrix/federation/v1/send/receipt", body) == {"pdus": {}}
    settle(there)


@pytest.mark.parametrize(
    ("content", "ends", "lasts"),
    [
        ({}, None, None),
        ({"m.self_destruct": 5}, None, 5),
        ({"org.matrix.self_destruct": 0}, None, 0),
        ({"m.self_destruct": None, "org.matrix.self_destruct": 7}, None, 7),
        ({"m.self_destruct": LONGEST_MS + 1}, None, None),
        ({"m.self_destruct": True}, None, None),
        ({"m.self_destruct": "5"}, None, None),
        ({"m.self_destruct": -1}, None, None),
        ({"m.self_destruct": 1.5}, None, None),
        ({"m.self_destruct": {}}, None, None),
        ({"m.self_destruct_after": 5}, None, 5),
        ({"m.self_destruct_after": LONGEST_MS + 1}, LONGEST_MS + 1, None),
        ({"m.self_destruct_after": LONGEST_MS + 1, "m.self_destruct": 9}, LONGEST_MS + 1, 9),
    ],
)
def test_what_messages_say(content: dict[str, Any], ends: int | None, lasts: int | None) -> None:
    raw = orjson.dumps(content)
    event = Event("$e", "!r", "m.room.message", None, "@s:s", 0, 1, (), (), None, raw, content)
    assert (ends_at(event), lasts_ms(event)) == (ends, lasts)


places = st.integers(-3, 3)


@given(st.dictionaries(st.sampled_from("abcde"), places), st.dictionaries(st.sampled_from("abcde"), places))
def test_the_two_slowest(whole: dict[str, int], in_thread: dict[str, int]) -> None:
    members = sorted({*whole, *in_thread})
    in_order = sorted((whole.get(one, NOWHERE), one) for one in members)
    slow = _two_slowest(in_order, in_thread)
    everybody = sorted(max(whole.get(one, NOWHERE), in_thread.get(one, NOWHERE)) for one in members)
    assert [place for place, _ in slow] == everybody[:2]
    assert all(max(whole.get(one, NOWHERE), in_thread.get(one, NOWHERE)) == place for place, one in slow)
