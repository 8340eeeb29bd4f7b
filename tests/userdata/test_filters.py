"""Stored filters: kept as sent, compiled once, each person's own."""

from __future__ import annotations

import orjson
import pytest

from homeserver.errors import BadJson, InvalidParam, NotFound
from homeserver.sync.filters import NO_FILTER
from homeserver.userdata.filters import FilterService
from storage import filters as rows
from tests.fixtures_userdata import Household, user

ANN, BOB = user("ann"), user("bob")


def test_a_filter_is_kept_and_named(household: Household) -> None:
    json = {"room": {"timeline": {"limit": 3}}, "org.unknown": {"nul": "\0"}}
    filter_id = household.wait(household.filters.create(ANN, json))
    assert not filter_id.startswith("{")
    assert household.wait(household.filters.create(ANN, dict(reversed(json.items())))) == filter_id
    assert household.wait(household.filters.create(ANN, {})) != filter_id
    assert orjson.loads(household.wait(household.filters.get(ANN, filter_id))) == json
    for service in (household.filters, FilterService(household.town.database)):
        first = household.wait(service.resolve(ANN, filter_id))
        assert first.room.timeline.limit == 3
        assert household.wait(service.resolve(ANN, filter_id)) is first


def test_nothing_inline_and_wrong_ones(household: Household) -> None:
    def resolve(text: str | None) -> object:
        return household.wait(household.filters.resolve(ANN, text))

    assert resolve(None) is resolve("") is NO_FILTER
    assert resolve('{"room":{"include_leave":true}}') is resolve('{"room":{"include_leave":true}}')
    with pytest.raises(BadJson):
        resolve("{")
    for text in ("1", "0", "-1", "x", "1" * 30, "\u0661", "[]"):
        with pytest.raises(InvalidParam):
            resolve(text)


def test_each_has_their_own(household: Household) -> None:
    filter_id = household.wait(household.filters.create(ANN, {"room": {}}))
    for filter_id_of_nobody in (filter_id, "x", "-1", "99999999999999999999"):
        with pytest.raises(NotFound):
            household.wait(household.filters.get(BOB, filter_id_of_nobody))
    with pytest.raises(InvalidParam):
        household.wait(household.filters.resolve(BOB, filter_id))


def test_what_is_no_filter_is_not_kept(household: Household) -> None:
    with pytest.raises(BadJson):
        household.wait(household.filters.create(ANN, {"room": 1}))
    with pytest.raises(NotFound):
        household.wait(household.filters.get(ANN, "1"))


def test_a_closed_account_has_none(household: Household) -> None:
    household.wait(household.filters.create(ANN, {"room": {}}))
    household.wait(household.filters.account_deactivated(ANN, erase=False))
    assert household.wait(household.town.database.run(rows.get, ANN, 1)) is None
