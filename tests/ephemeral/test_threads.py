"""Which thread an event is in: the example of the specification, and what is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.ephemeral.threads import MAIN
from homeserver.errors import InvalidParam, NotFound
from tests.fixtures_userdata import Household


class Scene:
    def __init__(self, household: Household) -> None:
        self.household = household
        self.room_id = household.town.create("ann", preset="public_chat")
        self.nid = household.nid(self.room_id)
        self.said: dict[str, str] = {}
        for name, relation in {
            "A": None,
            "B": None,
            "C": ("m.thread", "A"),
            "D": ("m.thread", "B"),
            "reaction": ("m.annotation", "C"),
            "edit of reaction": ("m.replace", "reaction"),
            "reaction to a root": ("m.annotation", "A"),
            "of nothing": ("m.annotation", "nothing"),
        }.items():
            self.say(name, relation)

    def say(self, name: str, relation: tuple[str, str] | None) -> None:
        content: dict[str, Any] = {"msgtype": "m.text", "body": name}
        if relation is not None:
            rel_type, parent = relation
            content["m.relates_to"] = {"rel_type": rel_type, "event_id": self.said.get(parent, f"${parent}")}
        sent = self.household.town.send("ann", self.room_id, "m.room.message", content)
        self.said[name] = sent.event.event_id

    def is_in(self, name: str, thread: str) -> bool:
        thread_id = self.said.get(thread, thread)
        try:
            self.household.wait(self.household.threads.require_in_thread(self.nid, self.said[name], thread_id))
        except InvalidParam:
            return False
        return True


def test_threads_of_events(household: Household) -> None:
    scene = Scene(household)
    threads = {name: {thread for thread in (MAIN, "A", "B") if scene.is_in(name, thread)} for name in scene.said}
    assert threads == {
        "A": {MAIN, "A"},
        "B": {MAIN, "B"},
        "C": {"A"},
        "D": {"B"},
        "reaction": {"A"},
        "edit of reaction": {"A"},
        "reaction to a root": {MAIN, "A"},
        "of nothing": {MAIN},
    }


def test_relations_are_followed_only_so_far(household: Household) -> None:
    scene = Scene(household)
    for number, parent in enumerate(["C", "r0", "r1", "r2"]):
        scene.say(f"r{number}", ("m.reference", parent))
    assert [scene.is_in(f"r{number}", "A") for number in range(4)] == [True, True, True, False]


def test_a_relation_that_is_none_counts_for_nothing(household: Household) -> None:
    scene = Scene(household)
    odd: list[Any] = ["x", {"rel_type": "m.thread"}, {"rel_type": 1, "event_id": "$x"}, {"event_id": []}]
    for relation in odd:
        content = {"body": "x", "m.relates_to": relation}
        scene.said["odd"] = household.town.send("ann", scene.room_id, "m.room.message", content).event.event_id
        assert scene.is_in("odd", MAIN)


def test_events_of_other_rooms_are_not_found(household: Household) -> None:
    scene, other = Scene(household), Scene(household)
    for event_id in ("$nothing", other.said["A"]):
        with pytest.raises(NotFound):
            household.wait(household.threads.require_in_thread(scene.nid, event_id, MAIN))
