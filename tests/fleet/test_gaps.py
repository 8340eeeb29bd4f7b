"""What a server missed of one branch while the room went on in another."""

from __future__ import annotations

from homeserver.rooms.receive.receiver import Receiver
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
