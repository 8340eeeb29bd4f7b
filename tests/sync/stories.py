"""What may happen in the stories by which the laws of syncing are tried."""

from __future__ import annotations

import itertools

from homeserver.errors import MatrixError
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user

numbers = itertools.count()
"""Everything that is said is new."""


def act(house: LivedInHouse, reader: str, kind: str, who: str, room_id: str, count: int) -> None:
    """Let somebody do something `count` times, as far as they may: "say", "topic", "join" or "leave"; whatever else is
    that the server forgets what it has in memory of the room and of the `reader`."""
    try:
        for _ in range(count):
            if kind == "say":
                house.say(who, room_id, f"message {next(numbers)}")
            elif kind == "topic":
                house.set_state(who, room_id, "m.room.topic", {"topic": f"topic {next(numbers)}"})
            elif kind == "join":
                house.join(who, room_id)
            elif kind == "leave":
                house.leave(who, room_id)
            else:
                _forget(house, reader, room_id)
    except MatrixError:
        pass  # not in the room: the story goes on


def _forget(house: LivedInHouse, reader: str, room_id: str) -> None:
    feed = house.house.hub.feed(user(reader))
    if feed is not None:
        house.house.hub.close_feed(feed)
    room = house.house.rooms.peek(room_id)
    if room is not None:
        house.house.rooms.drop(room)
