"""Account data: from memory and from the database the same, each person's own, and never torn."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from homeserver.errors import InvalidParam
from homeserver.userdata import account_data as module
from homeserver.userdata.account_data import GLOBAL, AccountChanges, AccountData
from storage import account_data as rows
from tests.fixtures_userdata import Household, user

ANN, BOB = user("ann"), user("bob")


def shown(changes: AccountChanges) -> dict[int, list[Any]]:
    """Room (0: none) → [type, content] in order."""
    found = {0: changes.global_events, **changes.rooms}
    return {
        room: [[event["type"], event["content"]] for event in map(orjson.loads, events)]
        for room, events in found.items()
        if events
    }


def put(household: Household, user_id: str, room_nid: int, event_type: str, content: dict[str, Any]) -> int:
    household.wait(household.account_data.put(user_id, room_nid, event_type, content))
    return household.town.hub.position


def both_ways(household: Household, user_id: str, after: int) -> dict[int, list[Any]]:
    upto = household.town.hub.position
    fresh = AccountData(household.town.hub, household.town.database)
    found = [
        shown(household.wait(service.changes(user_id, after, upto))) for service in (household.account_data, fresh)
    ]
    assert found[0] == found[1]
    return found[0]


def test_changes_since(household: Household) -> None:
    begun = household.town.hub.position
    first = put(household, ANN, GLOBAL, "org.x", {"a": 1})
    put(household, ANN, 7, "org.x", {"b": 2})
    put(household, BOB, GLOBAL, "org.x", {"c": 3})
    last = put(household, ANN, GLOBAL, "org.y\0ü", {"nul": "\0", "float": 0.5})
    assert first == begun + 1 and last == begun + 4
    everything = {0: [["org.x", {"a": 1}], ["org.y\0ü", {"nul": "\0", "float": 0.5}]], 7: [["org.x", {"b": 2}]]}
    assert both_ways(household, ANN, 0) == both_ways(household, ANN, begun) == everything
    assert shown(household.wait(household.account_data.everything(ANN))) == everything
    assert both_ways(household, ANN, first) == {
        0: [["org.y\0ü", {"nul": "\0", "float": 0.5}]],
        7: [["org.x", {"b": 2}]],
    }
    assert both_ways(household, ANN, last) == {}
    assert shown(household.wait(household.account_data.changes(ANN, begun, first))) == {0: [["org.x", {"a": 1}]]}


def test_only_the_newest_of_each_kind(household: Household) -> None:
    begun = household.town.hub.position
    for number in range(3):
        put(household, ANN, GLOBAL, "org.x", {"n": number})
    assert both_ways(household, ANN, begun) == {0: [["org.x", {"n": 2}]]}


def test_reading_one(household: Household) -> None:
    put(household, ANN, GLOBAL, "org.x", {"a": 1})
    assert household.wait(household.account_data.get(ANN, GLOBAL, "org.x")) == b'{"a":1}'
    for user_id, room_nid, event_type in ((BOB, GLOBAL, "org.x"), (ANN, 7, "org.x"), (ANN, GLOBAL, "org.z")):
        assert household.wait(household.account_data.get(user_id, room_nid, event_type)) is None


def test_only_the_owner_is_woken_and_only_when_it_is_durable(household: Household) -> None:
    ann, bob = household.feed("ann"), household.feed("bob")
    woken = household.town.hub.wait(ann, 30_000)
    before = household.town.hub.position
    writing = Deferred.fromCoroutine(household.account_data.put(ANN, GLOBAL, "org.x", {}))
    assert ann.account == 0
    assert shown(household.wait(household.account_data.changes(ANN, before, before + 1))) == {}
    household.wait(writing)
    household.timers.advance(0)
    assert ann.account == household.town.hub.position and woken.called and bob.account == 0


def test_edits_follow_each_other(household: Household) -> None:
    def add(content: dict[str, Any]) -> dict[str, Any]:
        return {"n": content.get("n", 0) + 1}

    writing = [Deferred.fromCoroutine(household.account_data.edit(ANN, 7, "org.x", add)) for _ in range(20)]
    for one in writing:
        household.wait(one)
    assert household.wait(household.account_data.get(ANN, 7, "org.x")) == b'{"n":20}'


def test_an_edit_that_changes_nothing_is_no_news(household: Household) -> None:
    before = household.town.hub.position
    household.wait(household.account_data.edit(ANN, 7, "org.x", lambda content: None))
    assert household.town.hub.position == before
    assert household.wait(household.account_data.get(ANN, 7, "org.x")) is None


def test_there_is_an_end_to_it(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TYPES", 2)
    for room_nid in (GLOBAL, 7):
        for name in ("org.x", "org.y"):
            put(household, ANN, room_nid, name, {"a": 1})
    before = household.town.hub.position
    with pytest.raises(InvalidParam) as caught:
        put(household, ANN, GLOBAL, "org.z", {"a": 1})
    assert caught.value.errcode == "M_TOO_LARGE" and household.town.hub.position == before
    put(household, ANN, GLOBAL, "org.y", {"a": 2})
    put(household, BOB, GLOBAL, "org.z", {"a": 1})
    assert both_ways(household, ANN, before) == {0: [["org.y", {"a": 2}]]}


def test_memory_is_bounded_and_what_left_it_is_read(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD_EACH_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 2500)
    begun = household.town.hub.position
    for name in ("ann", "bob", "cat", "dan"):
        put(household, user(name), 7, "org.large", {"text": "x" * 5000})
        for number in range(8):
            put(household, user(name), GLOBAL, f"org.{number}", {"text": "x" * 50})
    service = household.account_data
    assert service._size_bytes <= 2500 and len(service._recent) < 4
    assert service._size_bytes == sum(recent.size_bytes for recent in service._recent.values())
    for name in ("ann", "bob", "cat", "dan"):
        found = both_ways(household, user(name), begun)
        assert len(found[0]) == 8 and len(found[7]) == 1
        assert len(both_ways(household, user(name), household.town.hub.position)) == 0


def test_a_closed_account_has_none(household: Household) -> None:
    put(household, ANN, GLOBAL, "org.x", {"a": 1})
    put(household, BOB, GLOBAL, "org.x", {"a": 1})
    household.wait(household.account_data.account_deactivated(ANN, erase=False))
    database = household.town.database
    assert household.wait(database.run(rows.changed, ANN, 0, 10**9)) == []
    assert len(household.wait(database.run(rows.changed, BOB, 0, 10**9))) == 1
