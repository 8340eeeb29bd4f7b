"""Known mistakes, planted into the servers of a seed on purpose, to see whether the simulation finds them.

Each is a context: while it is entered, all servers have the mistake. Nothing of this is reachable from production code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from twisted.internet.defer import Deferred

from federation.outbound.destination import Destination
from federation.room.event import Event
from federation.room.resolution.ordering import Mainline
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Advance
from homeserver.rooms.live import Standing
from storage.ports import RoomHead


@contextmanager
def _in_the_place_of(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


def off_by_one() -> AbstractContextManager[None]:
    """State resolution counts the mainline from the second power levels on: who rests on the ones before the newest
    is thought to be as near as who rests on the newest."""
    right = Mainline.position

    def position(self: Mainline, event: Event) -> float:
        return max(0.0, right(self, event) - 1)

    return _in_the_place_of(Mainline, "position", position)


def soft_failed_extremity() -> AbstractContextManager[None]:
    """What is soft-failed becomes one of the room's newest events all the same, and what comes next follows it."""
    right = Door.append

    def append(self: Door, advance: Advance, **more: Any) -> Deferred[None]:
        soft = [new.stored for new in advance.new if new.stored.soft_failed and not new.is_outlier]
        if soft:
            head = advance.standing.head
            ends = (*head.extremities, *(stored.event.event_id for stored in soft))
            advance.standing = Standing(RoomHead(ends, head.depth, head.snapshot), advance.standing.state)
        return right(self, advance, **more)

    return _in_the_place_of(Door, "append", append)


def lost_catch_up() -> AbstractContextManager[None]:
    """A server that was given up is not told, when it is back, of what it missed."""

    def owe(self: Destination, topic: str, position: int) -> None: ...

    return _in_the_place_of(Destination, "_owe", owe)


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "off-by-one": off_by_one,
    "soft-failed-extremity": soft_failed_extremity,
    "lost-catch-up": lost_catch_up,
}
