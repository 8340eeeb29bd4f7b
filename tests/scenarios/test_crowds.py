"""Much at once: people who come and go together, and the same state changed from all sides."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from homeserver.harness.client import Refused, until
from tests.fixtures_town import Cast, scenario, wait_for_agreement, wait_for_members
from tests.scenarios.test_talking import together


def at_once(*works: Callable[[], object]) -> None:
    """Do it all at the same time. Raises what the first of them raises."""
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result()


@scenario("host", "guest", "third")
def test_everybody_comes_at_once_and_goes_at_once(cast: Cast) -> None:
    host, guest, third = cast
    alice = cast.person("alice", host)
    room_id = cast.room(alice, preset="public_chat")
    crowd = [cast.person("c", server) for server in (guest, third, guest, third, host)]
    at_once(*(lambda person=person: person.join(room_id, via=[host]) for person in crowd))
    until(lambda: alice.joined(room_id), {alice.user_id, *(person.user_id for person in crowd)})
    if any(server.make != "ours" for server in cast):
        # What crosses a server's joining is not in the state that it is handed, and its own people's joins go to whom
        # it knows by then. Ours tell it of that; from Synapse the others hear of it with what is said next.
        alice.say(room_id, "welcome")
    wait_for_members(room_id, alice, *crowd)
    wait_for_agreement(room_id, alice, *crowd[:2])
    at_once(
        *(lambda person=person: person.leave(room_id) for person in crowd[2:]),
        lambda: alice.set_state(room_id, "m.room.topic", {"topic": "goodbye"}),
        lambda: crowd[0].say(room_id, "so long"),
    )
    wait_for_members(room_id, alice, *crowd[:2])
    wait_for_agreement(room_id, alice, *crowd[:2])


@scenario("host", "guest", "third")
def test_the_same_state_changed_from_all_sides(cast: Cast) -> None:
    """No line is cut; the forks are as short as they come when people are quick."""
    host, guest, third = cast
    room_id, people = together(cast, host, guest, third, power_level_content_override={"state_default": 0})

    def change(number: int) -> None:
        for turn in range(4):
            people[number].set_state(room_id, "m.room.topic", {"topic": f"{number}.{turn}"})
            people[number].set_state(room_id, "org.example.turn", {"by": number, "turn": turn}, f"{turn % 2}")

    at_once(*(lambda number=number: change(number) for number in range(3)))
    for person in people:
        person.say(room_id, f"done, {person.user_id}")
    wanted = {f"done, {person.user_id}" for person in people}
    for reader in people:
        until(lambda reader=reader: wanted <= set(reader.texts(room_id)), True)  # type: ignore[misc]
    wait_for_agreement(room_id, *people)


@scenario("host", "guest")
def test_levels_changed_while_people_use_them(cast: Cast) -> None:
    """A moderator is made and unmade again and again, while they kick and set the topic: both sides judge the same."""
    host, guest = cast
    room_id, (alice, bob) = together(cast, host, guest)
    levels = alice.content_of(room_id, "m.room.power_levels")
    users = dict(levels.get("users", {}))

    def rise_and_fall() -> None:
        for turn in range(5):
            levels["users"] = users | ({bob.user_id: 50} if turn % 2 == 0 else {})
            alice.set_state(room_id, "m.room.power_levels", levels)

    def try_it() -> None:
        for turn in range(8):
            try:
                bob.set_state(room_id, "m.room.topic", {"topic": f"bob {turn}"})
            except Refused as refused:
                assert refused.answer.status == 403

    at_once(rise_and_fall, try_it)
    for person in (alice, bob):
        person.say(room_id, f"done, {person.user_id}")
    for reader in (alice, bob):
        until(lambda reader=reader: len(reader.texts(room_id)), 2)  # type: ignore[misc]
    wait_for_agreement(room_id, alice, bob)
