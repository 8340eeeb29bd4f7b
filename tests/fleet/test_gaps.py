"""What a server missed of one branch while the room went on in another."""

from __future__ import annotations

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Request
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.serve.inbox import Inbox
from storage import heard
from storage.gaps import missing_prev
from tests.fixtures_fleet import Fleet

LONG = 130


def test_a_branch_missed_for_long(fleet: Fleet) -> None:
    """It was begun far below where the room is by now; whoever hears of its end asks for all of it."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    missed = [a.say("alice", room_id, f"missed {number}") for number in range(3)]
    a.post.waiting.clear()  # and nobody tells b ever again
    for number in range(LONG):
        b.say("bob", room_id, f"{number}")
    fleet.settle()
    # b goes on, unheard: what a's next event rests on is not b's newest.
    for number in range(3):
        b.say("bob", room_id, f"late {number}")
    kept, b.post.waiting = b.post.waiting, {}
    now = a.say("alice", room_id, "now")
    fleet.settle()
    b.post.waiting = kept
    fleet.settle()
    placed = fleet.wait(b.house.part(Receiver).known.find(b.room(room_id), [*missed, now]))
    assert {event_id for event_id, stored in placed.items() if stored.position > 0} == {*missed, now}
    assert b.state_of(room_id) == a.state_of(room_id)


def test_what_can_not_be_placed_yet_is_tried_again(fleet: Fleet) -> None:
    """b hears of a's newest event, but can't ask for what came before; its sender believes that all is well."""
    fleet.has_couriers = True
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.run(3)

    def no_events(origin: str, request: Request) -> Request | None:
        return None if origin == a.name else request

    fleet.meddler = no_events
    missed = [a.say("alice", room_id, f"missed {number}") for number in range(2)]
    fleet.run(0.5)
    newest = a.house.part(Receiver).known
    raw = fleet.wait(newest.find(a.room(room_id), [missed[1]]))[missed[1]].event.raw

    def one_way(origin: str, request: Request) -> Request | None:
        return None if origin == b.name else request

    fleet.meddler = one_way
    body = {"origin": a.name, "origin_server_ts": 0, "pdus": [orjson.loads(raw)]}
    answer = a.ask(b, "PUT", "/_matrix/federation/v1/send/by-hand", body)
    assert answer == {"pdus": {missed[1]: {}}}
    # The line works again, but a does not say anything more.
    fleet.meddler = lambda origin, request: None if "/send/" in request.path else request
    fleet.run(20)
    placed = fleet.wait(b.house.part(Receiver).known.find(b.room(room_id), missed))
    assert {event_id for event_id, stored in placed.items() if stored.position > 0} == set(missed)
    fleet.run(400)
    assert "events again" not in b.house.tasks.names


def test_what_follows_something_that_is_known_to_be_missing(fleet: Fleet) -> None:
    """b could not ask what came before one event, and took the state there on a's word; another follows the same."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    missed = a.say("alice", room_id, "missed")
    one = a.make(room_id, "alice", "m.room.message", {"body": "one"}, prev=[missed])
    other = a.make(room_id, "alice", "m.room.message", {"body": "other"}, prev=[missed])
    a.post.waiting.clear()
    fleet.meddler = lambda origin, request: None if "get_missing_events" in request.path else request
    assert b.receive(a.name, room_id, one.raw) == ["accepted"]
    fleet.meddler = None
    assert b.receive(a.name, room_id, other.raw) == ["accepted"]


@pytest.mark.parametrize("is_slow", [False, True])
def test_what_a_peer_was_told_is_well_outlives_a_crash(fleet: Fleet, is_slow: bool) -> None:
    """b hears of a's newest event and can't ask what came before, or waits for the answer for so long that its own goes
    out before; then it goes down. a believes that all is well."""
    fleet.has_couriers = True
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.run(3)
    fleet.meddler = lambda origin, request: None if origin == a.name else request
    missed = [a.say("alice", room_id, f"missed {number}") for number in range(2)]
    fleet.run(0.5)
    known = a.wait(a.house.part(Receiver).known.find(a.room(room_id), [missed[1]]))
    if is_slow:
        fleet.silent.add(a.name)
    fleet.meddler = lambda _, request: None if "/send/" in request.path or not is_slow else request
    body = {"origin": a.name, "origin_server_ts": 0, "pdus": [orjson.loads(known[missed[1]].event.raw)]}
    told = Deferred.fromCoroutine(b.house.part(Inbox).take(a.name, "by-hand", orjson.dumps(body)))
    fleet.run(12)
    assert fleet.wait(told) == {"pdus": {missed[1]: {}}}
    b = fleet.crash(b)
    fleet.silent.clear()
    fleet.meddler = lambda _, request: None if "/send/" in request.path else request
    fleet.run(20)
    placed = fleet.wait(b.house.part(Receiver).known.find(b.room(room_id), missed))
    assert {event_id for event_id, stored in placed.items() if stored.position > 0} == set(missed)
    assert fleet.wait(b.house.database.run(heard.everything)) == {}


def test_a_gap_behind_what_came_too_late(fleet: Fleet) -> None:
    """b does not want what carol says after a gap, as she is gone; but a, who knew nothing of that, follows it."""
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    for member, name in ((b, "bob"), (c, "carol")):
        member.enter(name, room_id, via=a)
    a.set_state("alice", room_id, "m.room.power_levels", {"users": {b.user("bob"): 90}})
    fleet.settle()
    missed = c.say("carol", room_id, "missed")
    said = c.say("carol", room_id, "late")
    late = c.wait(c.house.part(Receiver).known.find(c.room(room_id), [said]))[said].event
    c.post.waiting.clear()
    b.kick("bob", c.user("carol"), room_id)
    b.post.waiting.clear()
    fleet.meddler = lambda _, request: None if "get_missing_events" in request.path else request
    assert b.receive(c.name, room_id, late.raw) == ["soft-failed"]
    assert missed not in b.wait(b.house.database.run(missing_prev, b.room(room_id).nid))
    fleet.meddler = None
    assert a.receive(c.name, room_id, late.raw) == ["accepted"]
    a.say("alice", room_id, "what did she say?")
    fleet.settle()
    assert missed in b.wait(b.house.database.run(missing_prev, b.room(room_id).nid))
