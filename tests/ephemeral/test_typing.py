"""Typing on a fake clock, and who is woken by it."""

from __future__ import annotations

import msgspec
import orjson
import pytest
from twisted.internet.task import Clock as FakeTimers

from homeserver.clock import Clock
from homeserver.ephemeral.typing import MAX_TIMEOUT_MS, NOBODY, TypingBoard
from homeserver.streams.hub import Feed, Hub

ANN, BOB = "@ann:a.org", "@bob:a.org"


class Room(msgspec.Struct):
    nid: int


ROOM = Room(7)


class Scene:
    def __init__(self) -> None:
        self.timers = FakeTimers()
        clock = Clock(self.timers, lambda: round(self.timers.seconds() * 1000))
        self.hub = Hub(clock, 0)
        self.board = TypingBoard(self.hub, clock)
        self.feed: Feed = self.hub.open_feed("@reader:a.org")
        self.hub.fill_feed(self.feed, {7: 1})

    def typing(self) -> list[str]:
        content = orjson.loads(self.board.content(7))
        assert content["type"] == "m.typing"
        users: list[str] = content["content"]["user_ids"]
        assert users == self.board.typing_in(7)
        return users

    def stirred(self) -> int:
        return self.feed.stirred.get(7, 0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_begin_and_stop(scene: Scene) -> None:
    assert scene.board.content(7) == NOBODY and scene.board.is_quiet(7) and scene.stirred() == 0
    scene.board.set(ROOM, ANN, True, 30_000)
    first = scene.stirred()
    assert scene.typing() == [ANN] and first > 0 and not scene.board.is_quiet(7)
    scene.board.set(ROOM, BOB, True, 30_000)
    assert scene.typing() == [ANN, BOB] and scene.stirred() > first
    scene.board.set(ROOM, ANN, False, 0)
    scene.board.set(ROOM, BOB, False, 0)
    assert scene.typing() == [] and scene.board.content(7) == NOBODY
    assert scene.timers.getDelayedCalls() == []


def test_the_event_is_made_once_for_all_readers(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 30_000)
    assert scene.board.content(7) is scene.board.content(7)


def test_saying_it_again_wakes_nobody_but_lasts_longer(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 10_000)
    stirred = scene.stirred()
    scene.timers.advance(8)
    scene.board.set(ROOM, ANN, True, 10_000)
    scene.timers.advance(8)
    assert scene.typing() == [ANN] and scene.stirred() == stirred
    scene.timers.advance(2)
    assert scene.typing() == [] and scene.stirred() > stirred


def test_each_stops_at_their_own_time_with_one_timer_a_room(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 20_000)
    scene.board.set(ROOM, BOB, True, 5_000)
    assert len(scene.timers.getDelayedCalls()) == 1
    scene.timers.advance(5)
    assert scene.typing() == [ANN]
    scene.timers.advance(15)
    assert scene.typing() == [] and scene.timers.getDelayedCalls() == []


def test_a_shorter_time_replaces_a_longer(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 60_000)
    scene.board.set(ROOM, ANN, True, 1_000)
    scene.timers.advance(1)
    assert scene.typing() == []


@pytest.mark.parametrize("timeout_ms", [0, -1, -(10**18)])
def test_no_time_at_all_is_not_typing(scene: Scene, timeout_ms: int) -> None:
    scene.board.set(ROOM, ANN, True, 60_000)
    scene.board.set(ROOM, ANN, True, timeout_ms)
    assert scene.typing() == []


def test_nobody_types_for_ever(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 10**18)
    scene.timers.advance(MAX_TIMEOUT_MS / 1000)
    assert scene.typing() == []


def test_stopping_what_was_not_begun_is_no_news(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, False, 0)
    scene.board.stop(7, BOB)
    assert scene.stirred() == 0


def test_shutdown_leaves_no_timer(scene: Scene) -> None:
    scene.board.set(ROOM, ANN, True, 60_000)
    scene.board.stop_timers()
    assert scene.timers.getDelayedCalls() == []
