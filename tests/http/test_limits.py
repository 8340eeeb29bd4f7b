"""Buckets: how they empty, how they fill, and that strangers cannot fill the memory with them."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock as Timers

from config import RateLimit, RateLimits
from homeserver.clock import Clock
from homeserver.errors import LimitExceeded
from homeserver.http import limits as module
from homeserver.http.limits import RateLimiter, address_key


class Time:
    now = 1_000_000


@pytest.fixture
def time() -> Time:
    return Time()


def limiter(time: Time, **limits: RateLimit) -> RateLimiter:
    settings: dict[str, Any] = dict(limits)
    return RateLimiter.of(RateLimits(**settings), Clock(Timers(), lambda: time.now))


def wait_of(limits: RateLimiter, key: str = "@a:b", name: str = "message") -> int:
    """0 if one more goes through, else how long it has to wait."""
    try:
        limits.charge(name, key)
    except LimitExceeded as refused:
        return refused.retry_after_ms
    return 0


def test_burst_then_rate(time: Time) -> None:
    limits = limiter(time, message=RateLimit(2.0, 3))
    assert [wait_of(limits) for _ in range(3)] == [0, 0, 0]
    assert wait_of(limits) == 501
    assert wait_of(limits) == 501  # a refusal costs nothing
    assert wait_of(limits, "@b:b") == 0
    assert wait_of(limits, name="read") == 0
    time.now += 500
    assert wait_of(limits) == 0
    assert wait_of(limits) == 501
    time.now += 10_000_000
    assert [wait_of(limits) for _ in range(4)] == [0, 0, 0, 501]


def test_check_charges_nothing(time: Time) -> None:
    limits = limiter(time, login_failed=RateLimit(1.0, 1))
    limits.check("login_failed", "a")
    limits.check("login_failed", "a")
    limits.charge("login_failed", "a")
    with pytest.raises(LimitExceeded):
        limits.check("login_failed", "a")
    time.now += 1000
    limits.check("login_failed", "a")


def test_refunds(time: Time) -> None:
    limits = limiter(time, login_failed=RateLimit(1.0, 2))
    for _ in range(10):
        limits.charge("login_failed", "a")
        limits.refund("login_failed", "a")
    assert [wait_of(limits, "a", "login_failed") for _ in range(3)] == [0, 0, 1001]
    limits.refund("login_failed", "a")
    assert [wait_of(limits, "a", "login_failed") for _ in range(2)] == [0, 1001]
    limits.refund("login_failed", "never charged")
    limits.refund("no such class", "a")


def test_off(time: Time) -> None:
    limits = RateLimiter.of(RateLimits(enabled=False), Clock(Timers(), lambda: time.now))
    assert [wait_of(limits) for _ in range(1000)] == [0] * 1000


def test_memory_is_bounded(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 2000)
    limits = limiter(time, message=RateLimit(0.001, 10))
    assert [wait_of(limits, "spammer") for _ in range(11)][-1] > 0
    for number in range(20_000):
        wait_of(limits, f"stranger {number}")
    assert len(limits._full_at) <= 2 * 2000 + 1
    assert wait_of(limits, "spammer") > 0  # the emptiest buckets are the last to go


def test_full_buckets_are_dropped(time: Time) -> None:
    limits = limiter(time, message=RateLimit(1000.0, 10))
    for number in range(20_000):
        wait_of(limits, f"stranger {number}")
        time.now += 1
    assert len(limits._full_at) <= 1025


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("not:an:address", "not:an:address!", False),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    assert (address_key(one) == address_key(other)) is same
