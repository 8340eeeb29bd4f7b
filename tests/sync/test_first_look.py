"""Which of a room's events are its last by the graph."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from federation.room.event import Event
from homeserver.rooms.tracing import Seen
from homeserver.sync.first_look import is_one_line, last_by_graph
from storage.ports import StateRef, StoredEvent

TOPIC = ("m.room.topic", "")


def came(*depths: int, topics: tuple[int, ...] = ()) -> list[Seen]:
    """Events of these depths as they came, at positions from 1 on; those at `topics` set one."""
    return [(_stored(position, depth, position in topics), "join") for position, depth in enumerate(depths, 1)]


def _stored(position: int, depth: int, is_topic: bool) -> StoredEvent:
    more: dict[str, Any] = {"prev_events": (), "auth_events": (), "redacts": None, "raw": b"{}"}
    event = Event(
        f"${position}",
        "!r:x",
        "m.room.topic" if is_topic else "m.room.message",
        "" if is_topic else None,
        "@a:x",
        0,
        depth,
        **more,
    )
    return StoredEvent(position, position, 1, event, 0, 0)


def shown(recent: list[Seen], limit: int, topic: int = 0) -> list[int]:
    """Positions, where the room has the topic that the event at a position set."""
    state = {TOPIC: StateRef(topic, f"${topic}")} if topic else {}
    return [stored.position for stored, _ in last_by_graph(recent, limit, state)]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 20))
def test_the_last_are_the_deepest(depths: list[int], limit: int) -> None:
    positions = shown(came(*depths), limit)
    assert len(positions) == min(limit, len(depths))
    keys = [(depths[position - 1], position) for position in positions]
    assert keys == sorted(keys)
    rest = [(depth, position) for position, depth in enumerate(depths, 1) if position not in positions]
    assert all(one < keys[0] for one in rest)
    if depths == sorted(depths):
        assert positions == list(range(1, len(depths) + 1))[-limit:]


def test_a_depth_that_lies_keeps_its_own_event_at_the_end_and_no_other() -> None:
    assert shown(came(5, 2**53 - 1, 6, 7, 8), 2) == [5, 2]


def test_a_last_word_that_is_not_valid_is_not_made_one() -> None:
    """What came late may be in force: a reader who takes the last word of the timeline for it would have it wrong."""
    recent = came(5, 7, 8, 6, topics=(2, 4))
    assert shown(recent, 3, topic=2) == [4, 2, 3]
    assert shown(recent, 3, topic=4) == [2, 3, 4]
    # It matters only where the timeline shows another word.
    assert shown(recent, 1, topic=4) == [3]
    # Nothing is to be had from arrival either, where the valid one is not among them.
    assert shown(recent, 3, topic=99) == [4, 2, 3]


def test_one_line() -> None:
    def is_line(*depths: int, room: int) -> bool:
        return is_one_line([stored for stored, _ in came(*depths)], room)

    assert is_line(4, 5, 6, room=6) and is_line(4, 5, 5, 6, room=6) and is_line(3, room=3)
    assert not is_line(4, 5, 4, room=5)  # the last one is on a fork
    assert not is_line(4, 5, room=9)  # both are
    assert not is_line(4, 5, 10, room=10)  # they were, and somebody has joined the ends
