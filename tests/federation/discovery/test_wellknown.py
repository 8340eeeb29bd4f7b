"""`.well-known/matrix/server`: what is believed, and for how long."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from federation.discovery.ports import DiscoveryFailed, Page
from federation.discovery.wellknown import (
    HOUR_MS,
    LONGEST_MS,
    MINUTE_MS,
    SHORTEST_MS,
    USUAL_MS,
    Delegates,
    NoDelegation,
    WellKnown,
    lifetime_ms,
    read_page,
)
from tests.federation.doubles import Calendar, begin, outcome
from tests.strategies import json_text

HOST = "one.example"


def page(name: object = "two.example", status: int = 200, **headers: str) -> Page:
    body = orjson.dumps({"m.server": name, "more": [1]})
    return Page(status, {key.replace("_", "-"): value for key, value in headers.items()}, body)


@pytest.mark.parametrize("name", ["two.example", "two.example:443", "192.0.2.1", "[::1]:8448", "TWO.example"])
def test_valid_names(name: str) -> None:
    assert read_page(page(name)) == Delegates(name, USUAL_MS)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'{"m.server": null}', b'{"m.server": 3}', b'{"m.server": ""}', b"<html>", b"\xff",
        b'{"m.server": "\xff"}', b'{"m.server": "\\ud800"}',
        b'{"m.server": "https://two.example"}', b'{"m.server": "two.example:0"}', b'{"m.server": "two.example:70000"}',
        b'{"m.server": "a b"}', b'{"m.server": "two.example/path"}', b'{"m.homeserver": "two.example"}', b"[" * 50_000,
        b'{"m.server": "two.example\\u0000"}', b'{"m.server": "' + b"a" * 300 + b'"}', b'{"m.server":"x\\r\\ny"}',
    ],
)  # fmt: skip
def test_nonsense(body: bytes) -> None:
    verdict = read_page(Page(200, {}, body))
    assert isinstance(verdict, NoDelegation)
    assert not verdict.passing


@pytest.mark.parametrize(
    ("status", "passing"),
    [(404, False), (204, False), (301, False), (401, False), (429, True), (500, True), (503, True)],
)
def test_other_answers(status: int, passing: bool) -> None:
    verdict = read_page(page(status=status))
    assert isinstance(verdict, NoDelegation)
    assert verdict.passing is passing


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"cache-control": "max-age=600"}, 600),
        ({"cache-control": "public, Max-Age=600, stale-if-error=3"}, 600),
        ({"cache-control": 'max-age="600"', "age": "100"}, 500),
        ({"cache-control": "max-age=5", "age": "100"}, 0),
        ({"cache-control": "no-store"}, 0),
        ({"cache-control": "no-cache, max-age=99"}, 0),
        ({"cache-control": "max-age=x"}, None),
        ({"cache-control": "max-age=-3"}, None),
        ({"cache-control": "max-age=99999999999999999999"}, 999999999),
        ({"expires": "Tue, 01 Jan 2030 01:00:00 GMT", "date": "Tue, 01 Jan 2030 00:00:00 GMT"}, 3600),
        ({"expires": "0", "date": "Tue, 01 Jan 2030 00:00:00 GMT"}, 0),
        ({"expires": "Tue, 01 Jan 2030 00:00:00 GMT", "date": "Tue, 01 Jan 2030 00:00:09 GMT"}, 0),
        ({"expires": "Tue, 01 Jan 2030 00:00:00 GMT"}, None),
    ],
)
def test_lifetimes(headers: dict[str, str], seconds: int | None) -> None:
    assert lifetime_ms(headers) == (None if seconds is None else seconds * 1000)


@pytest.mark.parametrize(
    ("cache_control", "ttl_ms"),
    [
        ("max-age=0", SHORTEST_MS),
        ("no-store", SHORTEST_MS),
        ("max-age=7200", 2 * HOUR_MS),
        ("max-age=9999999", LONGEST_MS),
    ],
)
def test_lifetimes_have_bounds(cache_control: str, ttl_ms: int) -> None:
    assert read_page(page(cache_control=cache_control)) == Delegates("two.example", ttl_ms)


@given(
    st.binary() | json_text.map(str.encode),
    st.dictionaries(st.sampled_from(["cache-control", "expires", "date", "age"]), json_text),
)
def test_no_page_breaks_it(body: bytes, headers: dict[str, str]) -> None:
    read_page(Page(200, headers, body))


@define
class Host:
    """A host that answers what it is told to, and counts how often."""

    says: Any = None
    fetched: int = 0
    calendar: Calendar = field(factory=Calendar)
    gate: Deferred[None] | None = None

    async def fetch(self, host: str) -> Page:
        self.fetched += 1
        says = self.says
        if self.gate is not None:
            await self.gate
        if says is None:
            raise DiscoveryFailed("no answer")
        assert isinstance(says, Page)
        return says

    def cache(self) -> WellKnown:
        return WellKnown(self, self.calendar.now_ms)


def test_a_valid_answer_is_kept_as_long_as_it_says() -> None:
    host = Host(page(cache_control="max-age=3600"))
    cache = host.cache()
    assert outcome(cache.delegation(HOST)) == "two.example"
    host.says = page("three.example")
    host.calendar.pass_ms(HOUR_MS - 1)
    assert outcome(cache.delegation(HOST)) == "two.example"
    host.calendar.pass_ms(1)
    assert outcome(cache.delegation(HOST)) == "three.example"
    assert host.fetched == 2


def test_failures_are_kept_for_longer_and_longer() -> None:
    host = Host()
    cache = host.cache()
    pauses = []
    for _ in range(9):
        assert outcome(cache.delegation(HOST)) is None
        before, started = host.fetched, host.calendar.now_ms()
        while host.fetched == before:
            host.calendar.pass_ms(MINUTE_MS)
            outcome(cache.delegation(HOST))
        pauses.append((host.calendar.now_ms() - started) // MINUTE_MS)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_headers_of_an_error_count_up_to_an_hour() -> None:
    host = Host(page(status=404, cache_control="max-age=999999"))
    cache = host.cache()
    assert outcome(cache.delegation(HOST)) is None
    host.calendar.pass_ms(HOUR_MS - 1)
    outcome(cache.delegation(HOST))
    assert host.fetched == 1
    host.calendar.pass_ms(1)
    outcome(cache.delegation(HOST))
    assert host.fetched == 2


def test_while_a_host_is_down_its_last_word_holds_for_two_days() -> None:
    host = Host(page(cache_control="max-age=3600"))
    cache = host.cache()
    outcome(cache.delegation(HOST))
    host.says = None
    host.calendar.pass_ms(HOUR_MS)
    assert outcome(cache.delegation(HOST)) == "two.example"
    assert outcome(cache.delegation(HOST)) == "two.example"
    assert host.fetched == 2, "it is not asked each time"
    host.calendar.pass_ms(46 * HOUR_MS)
    assert outcome(cache.delegation(HOST)) == "two.example"
    host.calendar.pass_ms(HOUR_MS)
    assert outcome(cache.delegation(HOST)) is None


def test_a_file_that_is_taken_away_is_gone_at_once() -> None:
    host = Host(page(cache_control="max-age=3600"))
    cache = host.cache()
    outcome(cache.delegation(HOST))
    host.says = page(status=404)
    host.calendar.pass_ms(HOUR_MS)
    assert outcome(cache.delegation(HOST)) is None


def test_a_host_is_asked_once_at_a_time() -> None:
    host = Host(page(), gate=Deferred())
    cache = host.cache()
    waiting = [begin(cache.delegation(HOST)) for _ in range(3)]
    assert host.fetched == 1
    assert host.gate is not None
    host.gate.callback(None)
    assert waiting == [["two.example"]] * 3
