"""Two real servers and the people on them, over HTTPS: who is where makes no difference."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tests.fixtures_peers import Pair
from tests.fixtures_server import Person

PATIENCE_S = 30


def history(person: Person, room_id: str) -> list[str]:
    """What was said in the room, oldest first."""
    query: dict[str, str | int] = {"dir": "b", "limit": 100}
    page = person.call("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/messages", query=query)
    return [event["content"]["body"] for event in reversed(page["chunk"]) if event["type"] == "m.room.message"]


def until(look: Callable[[], Any], wanted: Any) -> None:
    """Look again and again until the wanted is there."""
    end = time.monotonic() + PATIENCE_S
    while (found := look()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def members(person: Person, room_id: str) -> set[str]:
    return set(person.call("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/joined_members")["joined"])


def test_a_conversation_between_two_servers(pairs: list[Pair]) -> None:
    a, b, _ = pairs
    alice, bob = a.process.register("alice"), b.process.register("bob")
    room_id = alice.create_room(preset="public_chat", room_alias_name="pub", name="The pub")
    bob.call("POST", f"/_matrix/client/v3/join/{quote(f'#pub:{a.name}')}", {})
    until(lambda: members(alice, room_id), {alice.user_id, bob.user_id})
    assert members(bob, room_id) == {alice.user_id, bob.user_id}

    bob.say(room_id, "hello from b")
    until(lambda: history(alice, room_id), ["hello from b"])
    alice.say(room_id, "hello from a")
    until(lambda: history(bob, room_id), ["hello from b", "hello from a"])

    # What is said while a server is away is heard when it comes back, also by one that was killed in between.
    b.stop()
    alice.say(room_id, "are you there?")
    a.stop(signal.SIGKILL)
    a.start()
    b.start()
    alice.say(room_id, "hello?")
    until(lambda: history(bob, room_id)[2:], ["are you there?", "hello?"])
    bob.say(room_id, "back again")
    until(lambda: history(alice, room_id)[-1], "back again")

    alice.call("POST", f"/_matrix/client/v3/rooms/{quote(room_id)}/kick", {"user_id": bob.user_id})
    until(lambda: room_id in bob.sync().get("rooms", {}).get("join", {}), False)


def test_an_invitation_to_another_server(pairs: list[Pair]) -> None:
    a, b, _ = pairs
    alice, bob = a.process.register("alice"), b.process.register("bob")
    room_id = alice.create_room(name="Private", invite=[bob.user_id])

    def invited() -> bool:
        return room_id in bob.sync().get("rooms", {}).get("invite", {})

    until(invited, True)
    bob.join(room_id)
    alice.say(room_id, "welcome")
    until(lambda: history(bob, room_id), ["welcome"])
