"""Reports: of what one may see, and of anything else without being told whether it is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import InvalidParam, NotFound
from homeserver.reports import LONGEST_PAUSE_S, LONGEST_REASON_BYTES, Reports
from tests.fixtures_house import LivedInHouse

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def reports(house: LivedInHouse) -> Reports:
    return house.house.part(Reports)


def report(house: LivedInHouse, kind: str, name: str, *what: str) -> None:
    """Report something, and let the time pass that the answer takes."""
    outcome: list[Any] = []
    making: Callable[..., Awaitable[None]] = getattr(reports(house), kind)

    async def make() -> None:
        await making(house.user(name), *what)

    Deferred.fromCoroutine(make()).addBoth(outcome.append)
    while not outcome:
        house.wait(house.house.database.write(lambda cursor: None))
        house.advance(LONGEST_PAUSE_S)
    if outcome[0] is not None:
        outcome[0].raiseException()


def test_events(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    said = house.say("alice", room_id, "something rude")
    report(house, "event", "bob", room_id, said, "rude \x00 indeed")
    (found,) = house.wait(reports(house).page())
    assert (found.reporter, found.room_id, found.event_id) == (house.user("bob"), room_id, said)
    assert (found.user_id, found.reason, found.resolved_ts) == (house.user("alice"), "rude \x00 indeed", None)
    for room, event_id, name in (
        (room_id, said, "carol"),
        (room_id, "$nothing", "bob"),
        ("!nothing", said, "bob"),
        (house.create("bob"), said, "bob"),
    ):
        with pytest.raises(NotFound):
            report(house, "event", name, room, event_id, "")
    house.leave("bob", room_id)
    with pytest.raises(NotFound):
        report(house, "event", "bob", room_id, said, "")
    assert len(house.wait(reports(house).page())) == 1


def test_an_event_that_one_may_not_see(house: LivedInHouse) -> None:
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room_id = house.create("alice", preset="public_chat", initial_state=[setting])
    said = house.say("alice", room_id, "early")
    house.join("bob", room_id)
    with pytest.raises(NotFound):
        report(house, "event", "bob", room_id, said, "")


def test_rooms_and_people(house: LivedInHouse) -> None:
    """Those that are known are taken down, and for the others the answer is no other."""
    room_id = house.create("alice")
    for given in (room_id, "!" + "x" * 43, "nonsense", ""):
        report(house, "room", "bob", given, "a bad place")
    for given in (house.user("alice"), "@nobody:test.example", "@stranger:elsewhere.example", "nonsense"):
        report(house, "user", "bob", given, "a bad person")
    found = house.wait(reports(house).page())
    assert [(one.room_id, one.user_id, one.event_id) for one in found] == [
        (None, house.user("alice"), None),
        (room_id, None, None),
    ]


@on_sqlite
def test_reasons_have_an_end(house: LivedInHouse) -> None:
    room_id = house.create("alice")
    said = house.say("alice", room_id, "hello")
    for kind, what in (("event", (room_id, said)), ("room", (room_id,)), ("user", (house.user("alice"),))):
        with pytest.raises(InvalidParam):
            report(house, kind, "alice", *what, "x" * (LONGEST_REASON_BYTES + 1))


def test_dealing_with_them(house: LivedInHouse) -> None:
    one, two = house.create("alice"), house.create("alice")
    for room_id in (one, two, one):
        report(house, "room", "bob", room_id, "bad")
    every = house.wait(reports(house).page())
    assert [found.nid for found in every] == [3, 2, 1]
    assert [found.nid for found in house.wait(reports(house).page(before=3, limit=1))] == [2]
    assert [found.nid for found in house.wait(reports(house).page(room_ids=[one]))] == [3, 1]
    assert house.wait(reports(house).page(room_ids=[])) == []
    assert house.wait(reports(house).page(user_id=house.user("alice"))) == []
    assert house.wait(reports(house).resolve(1, house.user("alice"), "talked to them"))
    assert not house.wait(reports(house).resolve(1, house.user("carol"), "too late"))
    assert not house.wait(reports(house).resolve(9, house.user("carol"), "there is none"))
    assert [found.nid for found in house.wait(reports(house).page(room_ids=[one], only_open=True))] == [3]
    done = house.wait(reports(house).get(1))
    assert done is not None and (done.resolved_by, done.resolution) == (house.user("alice"), "talked to them")
    assert house.wait(reports(house).get(9)) is None
