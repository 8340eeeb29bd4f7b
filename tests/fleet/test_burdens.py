"""What one server may burden another with: slow rooms, floods of forks, lies about what it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.outbound.transport import Request, Response
from federation.room.event import Event
from homeserver.http.answer import Answer
from homeserver.rooms.receive.questions import FIRST_PAUSE_MS, FREELY
from homeserver.rooms.receive.receiver import MOST_FORKS
from homeserver.rooms.serve.inbox import ANSWER_AFTER_S, MOST_LATE
from tests.fixtures_fleet import Fleet, Member


def send(member: Member, other: Member, txn_id: str, events: Sequence[Event]) -> Deferred[Any]:
    """A transaction on its way."""
    assert member.house.federation is not None
    body = {"pdus": [orjson.loads(event.raw) for event in events]}
    path = f"/_matrix/federation/v1/send/{txn_id}"
    return Deferred.fromCoroutine(member.house.federation.client.put(other.name, path, into=dict, body=body))


class Gate:
    """Holds answers to some requests back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
        self.held: list[Deferred[None]] = []
        plain = Member.serve

        async def serve(member: Member, request: Request) -> Answer:
            answer = await plain(member, request)
            if part in request.path:
                self.held.append(Deferred())
                await self.held[-1]
            return answer

        monkeypatch.setattr(Member, "serve", serve)

    def open(self) -> None:
        for waiter in self.held:
            waiter.callback(None)


def test_entering_a_big_room_holds_up_no_other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told of a room that is still on its way waits for it, and nothing else does."""
    a, b = fleet.open("a", "b")
    other, big = (a.create("alice", preset="public_chat") for _ in range(2))
    b.enter("bob", other, via=a)
    gate = Gate(monkeypatch, "/send_join/")
    entering = Deferred.fromCoroutine(b.memberships.join(big, b.user("beth"), via=[a.name]))
    fleet.run(0.5)
    assert gate.held and not entering.called
    for text in ("one", "two"):
        for room_id in (big, other):
            a.say("alice", room_id, text)
    *first, last_big, last_other = a.post.waiting.pop(b.name)
    slow = send(a, b, "1", first)
    fleet.run(ANSWER_AFTER_S / 2)
    assert b.texts("bob", other) == ["one"] and not slow.called
    fleet.run(ANSWER_AFTER_S)
    assert slow.called
    assert fleet.wait(slow) == {"pdus": {event.event_id: {} for event in first}}
    # The room is known to be slow now: nobody waits for it again.
    assert len(fleet.wait(send(a, b, "2", [last_big, last_other]))["pdus"]) == 2
    assert b.texts("bob", other) == ["one", "two"]
    gate.open()
    fleet.wait(entering)
    fleet.run(0.5)
    assert b.texts("beth", big) == ["one", "two"], "in their order"
    assert b.house.tasks.names.count("late events") == 0


def test_whoever_has_too_much_going_on_waits(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fleet.open("a", "b")
    rooms = [a.create("alice", preset="public_chat") for _ in range(MOST_LATE + 1)]
    for room_id in rooms:
        b.enter("bob", room_id, via=a)
    lost = [a.make(room_id, "alice", "m.room.message", {}, prev=["$" + "x" * 43]) for room_id in rooms]
    gate = Gate(monkeypatch, "/get_missing_events/")
    first = send(a, b, "1", lost[:MOST_LATE])
    fleet.run(ANSWER_AFTER_S + 1)
    assert first.called
    second = send(a, b, "2", lost[MOST_LATE:])
    fleet.run(3 * ANSWER_AFTER_S)
    assert not second.called
    gate.open()
    assert fleet.wait(second)
    fleet.run(0.5)
    assert b.house.tasks.names.count("late events") == 0


def test_a_flood_of_forks(fleet: Fleet) -> None:
    """The ends of the room's graph do not grow with it, and others' are not washed away."""
    a, b, c = fleet.open("a", "b", "c")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    c.enter("carol", room_id, via=a)
    fleet.settle()
    start = a.room(room_id).visible.head.extremities
    honest = c.make(room_id, "carol", "m.room.message", {"body": "honest", "msgtype": "m.text"}, prev=start)
    assert a.receive(c.name, room_id, honest.raw) == ["accepted"]
    forks = [
        b.make(room_id, "bob", "m.room.message", {"body": f"{number}", "msgtype": "m.text"}, prev=start)
        for number in range(5 * MOST_FORKS)
    ]
    state = a.state_of(room_id)
    for fork in forks:
        assert a.receive(b.name, room_id, fork.raw) == ["accepted"]
    ends = a.room(room_id).visible.head.extremities
    assert ends == (honest.event_id, *(fork.event_id for fork in forks[-MOST_FORKS:]))
    assert a.state_of(room_id) == state
    assert a.texts("alice", room_id)[-1] == f"{len(forks) - 1}", "nothing of what is said is lost"
    a.house.rooms.drop(a.room(room_id))
    assert a.room(room_id).visible.head.extremities == ends
    for text in ("x", "y"):
        a.say("alice", room_id, text)
    assert len(a.room(room_id).visible.head.extremities) == 1


@pytest.mark.parametrize("lie", ["nothing", "junk", "refusal"])
def test_a_server_that_does_not_have_what_it_speaks_of(fleet: Fleet, lie: str) -> None:
    """It is asked the same thing again now and then, and not for each of its events."""
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("bob", room_id, via=a)
    fleet.settle()
    answers = {
        "nothing": Response(200, {}, b'{"events": [], "pdus": [], "pdu_ids": [], "auth_chain_ids": []}'),
        "junk": Response(200, {}, b'{"events": [{}], "pdus": [{}], "pdu_ids": ["$x"], "auth_chain_ids": ["$y"]}'),
        "refusal": Response(403, {}, b'{"errcode": "M_FORBIDDEN", "error": "no"}'),
    }
    asking = ("/get_missing_events/", "/state_ids/", "/state/", "/event/")

    asked: Counter[tuple[str, bytes | None]] = Counter()

    def answer(origin: str, request: Request) -> Request | Response:
        if origin != a.name or not any(part in request.path for part in asking):
            return request
        asked[request.path, request.body] += 1
        return answers[lie]

    fleet.meddler = answer
    events = [
        b.make(room_id, "bob", "m.room.message", {"body": f"{number}"}, prev=["$" + "x" * 43]) for number in range(3)
    ]
    for _ in range(10):
        for event in events:
            assert a.receive(b.name, room_id, event.raw) == ["unfounded"]
    assert max(asked.values()) == FREELY
    fleet.reactor.timers.advance(FIRST_PAUSE_MS / 1000)
    for _ in range(2):
        assert a.receive(b.name, room_id, events[0].raw) == ["unfounded"]
    assert max(asked.values()) == FREELY + 1
    # About other things it is asked as ever.
    fleet.meddler = None
    for text in ("lost", "heard"):
        b.say("bob", room_id, text)
    assert a.receive(b.name, room_id, b.post.waiting[a.name].pop().raw) == ["accepted"]
    assert a.texts("alice", room_id) == ["lost", "heard"]
