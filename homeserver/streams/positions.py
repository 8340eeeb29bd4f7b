"""Taking a place in the stream for something durable that is no event."""

from __future__ import annotations

from storage.ports import Counters


def take_position(counters: Counters) -> int:
    """The next position. Take it and queue the write in one go, without waiting in between: positions must reach
    the database in their order, or a reader could pass by one that comes later.
    """
    return take_positions(counters, 1)


def take_positions(counters: Counters, number: int) -> int:
    """The first of the next `number` positions, for what is written together."""
    first = counters.position
    counters.position = first + number
    return first
