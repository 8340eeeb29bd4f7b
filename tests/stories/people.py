"""Short ways of telling what people do and see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from homeserver.harness.client import Refused
from homeserver.harness.ours import ServerProcess
from homeserver.harness.person import Person, in_path

_number = count(1)


def people_of(server: ServerProcess, *names: str) -> list[Person]:
    """New accounts with names of that kind: stories share a server."""
    mark = next(_number)
    return [server.register(f"{name}-{mark}") for name in names]


def forbidden(act: Callable[[], object]) -> bool:
    """Whether somebody may not do that. Raises what else it is refused with."""
    try:
        act()
    except Refused as refused:
        if refused.answer.status in (403, 404):
            return True
        raise
    return False


def mentioned(person: Person, room_id: str) -> int:
    """How many unread messages of a room are marked for somebody."""
    room = person.sync(timeout=0)["rooms"]["join"][room_id]
    return int(room["unread_notifications"]["highlight_count"])


def reactions_of(person: Person, room_id: str, event_id: str) -> Mapping[str, int]:
    """What was reacted to a message with, and how often."""
    path = f"/_matrix/client/v1/rooms/{in_path(room_id)}/relations/{in_path(event_id)}/m.annotation/m.reaction"
    found = person.call("GET", path)["chunk"]
    return dict(Counter(event["content"]["m.relates_to"]["key"] for event in found))


def upload(person: Person, data: bytes, content_type: str, name: str) -> str:
    """Put a file up; its mxc: URI."""
    server: Any = person.server
    answer = server.request(
        "POST",
        f"/_matrix/media/v3/upload?filename={in_path(name)}",
        data,
        token=person.token,
        headers={"Content-Type": content_type},
    )
    return str(answer.json["content_uri"])
