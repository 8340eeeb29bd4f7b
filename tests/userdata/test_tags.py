"""Tags: put, changed and taken away, whatever a client has written there before."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import BadJson, InvalidParam
from homeserver.userdata.tags import MAX_TAGS, TAG
from tests.fixtures_userdata import Household, user

ANN = user("ann")


def of_room(household: Household, room_nid: int = 7) -> dict[str, Any]:
    return household.wait(household.tags.of_room(ANN, room_nid))


def put(household: Household, name: str, about: dict[str, Any]) -> None:
    household.wait(household.tags.put(ANN, 7, name, about))


def test_put_change_and_take_away(household: Household) -> None:
    assert of_room(household) == {}
    put(household, "m.favourite", {"order": 0.1})
    put(household, "u.Work ü", {})
    put(household, "m.favourite", {"order": 1, "org.x": [1]})
    assert of_room(household) == {"m.favourite": {"order": 1, "org.x": [1]}, "u.Work ü": {}}
    assert of_room(household, 8) == {}
    before = household.town.hub.position
    household.wait(household.tags.remove(ANN, 7, "nothing"))
    assert household.town.hub.position == before
    household.wait(household.tags.remove(ANN, 7, "m.favourite"))
    assert of_room(household) == {"u.Work ü": {}}
    changes = household.wait(household.account_data.changes(ANN, before, household.town.hub.position))
    assert list(map(orjson.loads, changes.rooms[7])) == [{"type": "m.tag", "content": {"tags": {"u.Work ü": {}}}}]


def test_two_at_once_are_both_there(household: Household) -> None:
    writing = [Deferred.fromCoroutine(household.tags.put(ANN, 7, f"u.{number}", {})) for number in range(10)]
    for one in writing:
        household.wait(one)
    assert len(of_room(household)) == 10


@pytest.mark.parametrize("content", [{}, {"tags": []}, {"tags": None}, {"tags": {"u.old": None}, "other": 1}])
def test_whatever_stood_there(household: Household, content: dict[str, Any]) -> None:
    household.wait(household.account_data.put(ANN, 7, TAG, content))
    put(household, "u.new", {})
    assert "u.new" in of_room(household)
    household.wait(household.tags.remove(ANN, 7, "u.old"))
    assert of_room(household) == {"u.new": {}}


@pytest.mark.parametrize(
    ("name", "about", "error"),
    [
        ("", {}, InvalidParam),
        ("x" * 256, {}, InvalidParam),
        ("ü" * 128, {}, InvalidParam),
        ("u.x", {"order": "0.5"}, BadJson),
        ("u.x", {"order": True}, BadJson),
        ("u.x", {"order": [0.5]}, BadJson),
    ],
)
def test_what_is_no_tag(household: Household, name: str, about: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        put(household, name, about)


def test_there_is_an_end_to_it(household: Household) -> None:
    tags: dict[str, Any] = {f"u.{number}": {} for number in range(MAX_TAGS)}
    household.wait(household.account_data.put(ANN, 7, TAG, {"tags": tags}))
    with pytest.raises(InvalidParam):
        put(household, "u.more", {})
    put(household, "u.1", {"order": 0})
