"""Who is not asked again for a while, and how many may wait at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from federation.outbound.patience import (
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    MOST_WAITING,
    MOST_WAITING_EACH,
    Patience,
)
from federation.outbound.transport import Refused, Unreachable
from tests.federation.doubles import Calendar, begin, outcome


class Scene:
    def __init__(self) -> None:
        self.calendar = Calendar()
        self.patience = Patience(self.calendar.now_ms)
        self.asked: list[str] = []

    def ask(self, server: str = "a.example", raises: Exception | None = None) -> str:
        async def question() -> str:
            self.asked.append(server)
            if raises is not None:
                raise raises
            return "well"

        return outcome(self.patience.ask(server, question))

    def fails(self, server: str = "a.example") -> None:
        with pytest.raises(Unreachable):
            self.ask(server, Unreachable(server, "it sleeps"))

    def wait_for(self, server: str = "a.example") -> tuple[list[Any], Deferred[str]]:
        gate: Deferred[str] = Deferred()

        async def question() -> str:
            return await gate

        return begin(self.patience.ask(server, question)), gate


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_pauses_grow_and_end(scene: Scene) -> None:
    pause_ms = FIRST_PAUSE_MS
    for _ in range(8):
        scene.fails()
        scene.calendar.pass_ms(pause_ms - 1)
        asked = len(scene.asked)
        scene.fails()
        assert len(scene.asked) == asked, "it was left alone"
        scene.calendar.pass_ms(1)
        pause_ms = min(2 * pause_ms, LONGEST_PAUSE_MS)
    assert scene.ask() == "well"
    scene.fails()
    scene.calendar.pass_ms(FIRST_PAUSE_MS)
    assert scene.ask() == "well", "one answer, and it begins anew"


def test_others_are_asked_meanwhile(scene: Scene) -> None:
    scene.fails()
    assert scene.ask("b.example") == "well"


def test_who_is_heard_of_is_asked(scene: Scene) -> None:
    scene.fails()
    scene.patience.heard_of("a.example")
    assert scene.ask() == "well"


def test_a_refusal_is_a_sign_of_life(scene: Scene) -> None:
    for _ in range(3):
        with pytest.raises(Refused):
            scene.ask(raises=Refused("a.example", 500))
    assert len(scene.asked) == 3


def test_those_who_waited_together_have_failed_once(scene: Scene) -> None:
    waiting = [scene.wait_for() for _ in range(5)]
    for _, gate in waiting:
        gate.errback(Unreachable("a.example", "it sleeps"))
    scene.calendar.pass_ms(FIRST_PAUSE_MS)
    assert scene.ask() == "well"
    assert all(results[0].check(Unreachable) for results, _ in waiting)


def test_only_so_many_wait_for_one_server(scene: Scene) -> None:
    waiting = [scene.wait_for() for _ in range(MOST_WAITING_EACH)]
    with pytest.raises(Unreachable, match="too many"):
        scene.ask()
    assert scene.ask("b.example") == "well"
    waiting[0][1].callback("late")
    assert waiting[0][0] == ["late"]
    assert scene.ask() == "well"


def test_only_so_many_wait_at_all(scene: Scene) -> None:
    waiting = [scene.wait_for(f"s{number}.example") for number in range(MOST_WAITING)]
    with pytest.raises(Unreachable, match="too many"):
        scene.ask("b.example")
    with pytest.raises(CancelledError):
        waiting[0][1].cancel()
        waiting[0][0][0].raiseException()
    assert scene.ask("b.example") == "well"
