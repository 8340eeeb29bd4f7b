"""The past of a room from before a server was there, and gaps in what came since."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Refused, Response
from homeserver.rooms.history import History
from homeserver.rooms.paging import PageAsk
from homeserver.streams.tokens import RoomToken, parse_room_token
from homeserver.sync.filters import NO_EVENT_FILTER
from storage.events import load_by_ids
from tests.fixtures_fleet import Fleet, Member


def read_back(member: Member, name: str, room_id: str, limit: int = 30) -> list[str]:
    """Everything that somebody can read of a room by paging back, oldest first."""
    found: list[str] = []
    start: RoomToken | None = None
    for _ in range(50):
        ask = PageAsk(backwards=True, start=start, stop=None, limit=limit, filter=NO_EVENT_FILTER)
        page = member.wait(member.house.part(History).page(room_id, member.user(name), ask))
        found += [stored.event.event_id for stored, _ in page.events]
        if page.end is None:
            return found[::-1]
        start = page.end
    raise AssertionError("there is no end of it")


@pytest.mark.parametrize("version", ["1", "6", "10", "12"])
def test_reading_what_was_said_before_one_came(fleet: Fleet, version: str) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", room_version=version)
    for number in range(130):
        a.say("alice", room_id, f"{number}")
        if number % 40 == 0:
            a.set_state("alice", room_id, "m.room.topic", {"topic": f"{number}"})
    b.enter("bob", room_id, via=a)
    fleet.settle()
    assert read_back(b, "bob", room_id) == read_back(a, "alice", room_id)
    assert len(fleet.asked("/backfill/")) == 2
    fleet.requests.clear()
    assert read_back(b, "bob", room_id, limit=7) == read_back(a, "alice", room_id)
    assert fleet.requests == []
    # Nothing of it changes the room as it is.
    assert b.state_of(room_id) == a.state_of(room_id)
    b.house.rooms.drop(b.room(room_id))
    assert b.state_of(room_id) == a.state_of(room_id)


def test_on_both_databases(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    for number in range(30):
        a.say("alice", room_id, f"{number}")
    b.enter("bob", room_id, via=a)
    assert read_back(b, "bob", room_id) == read_back(a, "alice", room_id)


def test_what_was_hidden_from_newcomers_stays_hidden(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    hidden: dict[str, Any] = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = a.create("alice", preset="public_chat", initial_state=[hidden])
    secret = a.say("alice", room_id, "not for bob")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    said = a.say("alice", room_id, "for bob")
    fleet.settle()
    seen = read_back(b, "bob", room_id)
    assert said in seen and secret not in seen
    stored = b.ask(a, "GET", f"/_matrix/federation/v1/event/{secret}")["pdus"][0]
    assert stored["content"] == {}


def test_a_past_that_can_not_be_had_is_not_asked_for_all_the_time(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    fleet.down.add(a.name)
    first = read_back(b, "bob", room_id)
    asked = len(fleet.asked("/backfill/"))
    assert asked == 1
    read_back(b, "bob", room_id)
    assert len(fleet.asked("/backfill/")) == asked
    assert len(first) == 1  # bob's own join


def test_missing_events_are_asked_for(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    for number in range(12):
        a.say("alice", room_id, f"{number}")
    a.post.waiting[b.name] = a.post.waiting[b.name][-1:]  # the others are lost
    fleet.settle()
    assert b.texts("bob", room_id) == [f"{number}" for number in range(2, 12)]  # the newest ten of a first sync
    assert len(fleet.asked("/get_missing_events/")) == 1
    assert b.state_of(room_id) == a.state_of(room_id)


def test_a_long_absence(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    for number in range(300):
        a.say("alice", room_id, f"{number}")
    a.set_state("alice", room_id, "m.room.topic", {"topic": "while b was away"})
    a.say("alice", room_id, "the last")
    a.post.waiting[b.name] = a.post.waiting[b.name][-1:]
    fleet.settle()
    assert b.texts("bob", room_id)[-1] == "the last"
    assert b.state_of(room_id) == a.state_of(room_id)
    b.say("bob", room_id, "heard")
    fleet.settle()
    assert a.texts("alice", room_id)[-1] == "heard"


def test_a_room_that_was_just_joined_is_shown_whole(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat", name="Harbour")
    a.enter("amy", room_id)
    said = a.say("alice", room_id, "before")
    since = b.sync("bob")["next_batch"]
    b.enter("bob", room_id, via=a)
    shown = b.sync("bob", since)["rooms"]["join"][room_id]
    known = {(event["type"], event["state_key"]) for event in shown["state"]["events"]}
    known |= {(event["type"], event["state_key"]) for event in shown["timeline"]["events"]}
    assert known == set(a.state_of(room_id))
    assert shown["timeline"]["limited"] is True
    # Where the timeline begins, the past can be read on.
    start = parse_room_token(shown["timeline"]["prev_batch"], "from")
    ask = PageAsk(backwards=True, start=start, stop=None, limit=5, filter=NO_EVENT_FILTER)
    page = b.wait(b.house.part(History).page(room_id, b.user("bob"), ask))
    assert page.events[0][0].event.event_id == said


def test_two_readers_at_once_fetch_the_past_once(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    b.enter("beth", room_id)
    ask = PageAsk(backwards=True, start=None, stop=None, limit=50, filter=NO_EVENT_FILTER)
    history = b.house.part(History)
    readers = [Deferred.fromCoroutine(history.page(room_id, b.user(name), ask)) for name in ("bob", "beth")]
    pages = [b.wait(reader) for reader in readers]
    assert len({tuple(stored.event.event_id for stored, _ in page.events) for page in pages}) == 1
    assert len(fleet.asked("/backfill/")) == 1


def test_what_can_not_be_verified_is_asked_for_once_in_a_while(fleet: Fleet) -> None:
    """An event whose signature does not hold stands in the way of all before it, and costs one try in a while."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    said = [a.say("alice", room_id, f"{number}") for number in range(3)]
    b.enter("bob", room_id, via=a)
    fleet.settle()
    forged = a.wait(a.house.database.run(load_by_ids, said))[said[-1]].event.to_json()
    forged["signatures"][a.name] = dict.fromkeys(forged["signatures"][a.name], "A" * 86)
    answer = Response(200, {}, orjson.dumps({"pdus": [forged], "origin": a.name, "origin_server_ts": 0}))
    fleet.meddler = lambda origin, request: answer if "/backfill/" in request.path else request
    for _ in range(3):
        assert len(read_back(b, "bob", room_id)) == 1
    assert len(fleet.asked("/backfill/")) == 1
    fleet.meddler = None
    assert len(read_back(b, "bob", room_id)) == 1, "the pause is not over"
    fleet.skip_ms(-3_600_000)  # the date is put right: that does not make it longer
    fleet.reactor.timers.advance(61)
    assert read_back(b, "bob", room_id) == read_back(a, "alice", room_id)


def test_what_was_fetched_of_the_past_is_not_for_who_never_was_there(fleet: Fleet) -> None:
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    early = a.say("alice", room_id, "early")
    a.say("alice", room_id, "later")
    b.enter("bob", room_id, via=a)
    assert read_back(b, "bob", room_id) == read_back(a, "alice", room_id)
    for path in (f"event/{early}", f"state_ids/{room_id}?event_id={early}", f"backfill/{room_id}?limit=9&v={early}"):
        path, _, query = path.partition("?")
        with pytest.raises(Refused) as refused:
            c.ask(b, "GET", f"/_matrix/federation/v1/{path}", **dict(parse_qsl(query)))
        assert refused.value.status == 403


def test_gaps_are_filled_where_they_are(fleet: Fleet) -> None:
    """Two outages: what was lost in each is read where it belongs, in either direction, whichever is had first."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    for outage in range(2):
        for number in range(150):
            a.say("alice", room_id, f"lost {outage} {number}")
        a.post.waiting[b.name].clear()
        for number in range(3):
            a.say("alice", room_id, f"heard {outage} {number}")
        fleet.settle()
    assert b.texts("bob", room_id)[-1] == "heard 1 2"
    fleet.requests.clear()
    whole = read_back(a, "alice", room_id)
    # From the beginning, one comes to what was before b was there, then to the first gap.
    ask = PageAsk(backwards=False, start=None, stop=None, limit=60, filter=NO_EVENT_FILTER)
    page = b.wait(b.house.part(History).page(room_id, b.user("bob"), ask))
    assert [stored.event.event_id for stored, _ in page.events] == whole[:60]
    # From the end, one comes to the last one first.
    ask = PageAsk(backwards=True, start=None, stop=None, limit=60, filter=NO_EVENT_FILTER)
    page = b.wait(b.house.part(History).page(room_id, b.user("bob"), ask))
    assert [stored.event.event_id for stored, _ in page.events] == whole[:-61:-1]
    assert read_back(b, "bob", room_id) == whole
    fleet.down.add(a.name)
    assert read_back(b, "bob", room_id, limit=9) == whole


def test_a_gap_that_can_not_be_had_stops_nobody(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    before = a.say("alice", room_id, "before")
    fleet.settle()
    for number in range(150):
        a.say("alice", room_id, f"lost {number}")
    a.post.waiting[b.name].clear()
    after = a.say("alice", room_id, "after")
    fleet.settle()
    fleet.down.add(a.name)
    seen = read_back(b, "bob", room_id)
    assert seen[-1] == after
    assert before in seen
