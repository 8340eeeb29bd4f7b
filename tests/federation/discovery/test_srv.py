"""SRV records: order, and how long they are remembered."""

from __future__ import annotations

from collections import Counter
from random import Random

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from federation.discovery.ports import DiscoveryFailed, SrvAnswer, SrvRecord
from federation.discovery.srv import FAILED_S, LONGEST_S, MAX_RECORDS, NOTHING_S, SHORTEST_S, SrvRecords, order_records
from tests.federation.doubles import Calendar, outcome

records = st.builds(SrvRecord, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 65535), st.sampled_from("abcd"))


@given(st.lists(records, max_size=10), st.integers())
def test_order(given_records: list[SrvRecord], seed: int) -> None:
    ordered = order_records(given_records, Random(seed).randrange)
    assert sorted(ordered) == sorted(given_records)
    assert [one.priority for one in ordered] == sorted(one.priority for one in given_records)


def test_weights() -> None:
    """RFC 2782: chosen in proportion to their weight; one of weight 0 hardly ever."""
    group = [SrvRecord(1, 60, 1, "heavy"), SrvRecord(1, 20, 1, "light"), SrvRecord(1, 0, 1, "none")]
    below = Random(1).randrange
    first = Counter(order_records(group, below)[0].target for _ in range(10_000))
    assert 7000 < first["heavy"] < 7800
    assert 2200 < first["light"] < 2800
    assert 50 < first["none"] < 250


@define
class NameServer:
    answers: dict[str, SrvAnswer] = field(factory=dict)
    fails: bool = False
    asked: list[str] = field(factory=list)
    calendar: Calendar = field(factory=Calendar)

    async def lookup(self, name: str) -> SrvAnswer:
        self.asked.append(name)
        if self.fails:
            raise DiscoveryFailed("SERVFAIL")
        return self.answers.get(name, SrvAnswer(()))

    def records(self) -> SrvRecords:
        return SrvRecords(self, self.calendar.now_ms, lambda _: 0)

    def times_until_asked(self, cache: SrvRecords, seconds: int) -> bool:
        """Whether it is asked again after that time, and not a second before."""
        before = len(self.asked)
        self.calendar.advance(seconds - 1)
        outcome(cache.of("h"))
        early = len(self.asked)
        self.calendar.advance(1)
        outcome(cache.of("h"))
        return early == before < len(self.asked)


NEW = "_matrix-fed._tcp.h"
RECORD = SrvRecord(1, 1, 443, "target")


def test_records_are_kept_for_their_time_within_bounds() -> None:
    for ttl_s, kept_s in ((300, 300), (0, SHORTEST_S), (10**6, LONGEST_S)):
        server = NameServer({NEW: SrvAnswer([RECORD], ttl_s)})
        cache = server.records()
        assert outcome(cache.of("h")) == [RECORD]
        assert server.times_until_asked(cache, kept_s)


def test_that_there_are_none_is_kept_too() -> None:
    server = NameServer()
    cache = server.records()
    assert outcome(cache.of("h")) is None
    assert server.asked == [NEW, "_matrix._tcp.h"]
    assert server.times_until_asked(cache, NOTHING_S)


def test_a_failure_is_no_news() -> None:
    server = NameServer({NEW: SrvAnswer([RECORD], 300)})
    cache = server.records()
    outcome(cache.of("h"))
    server.fails = True
    server.calendar.advance(300)
    assert outcome(cache.of("h")) == [RECORD]
    assert server.times_until_asked(cache, FAILED_S)
    server.fails = False
    server.answers = {}
    server.calendar.advance(FAILED_S)
    assert outcome(cache.of("h")) is None


def test_a_failure_at_first_means_none() -> None:
    server = NameServer(fails=True)
    assert outcome(server.records().of("h")) is None


def test_a_flood_of_records_is_cut() -> None:
    server = NameServer({NEW: SrvAnswer([SrvRecord(1, 1, port, "t") for port in range(1, 1000)], 300)})
    found = outcome(server.records().of("h"))
    assert found is not None
    assert len(found) == MAX_RECORDS
