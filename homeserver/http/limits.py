"""How often anybody may do something: one bucket per class of requests and per user, address or account.

A bucket is one number, the moment at which it will be full again (the "generic cell rate algorithm"): charging it
moves that moment onwards by the price of a request, and a request is refused while the moment lies further ahead
than the whole bucket takes to fill. A bucket that is full again is worth nothing and is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv6Address

import attrs
import msgspec
from attrs import define, field

from config.rate_limits import RateLimit, RateLimits
from homeserver.clock import Clock
from homeserver.errors import LimitExceeded

MAX_BUCKETS = 100_000
"""Where a crowd of strangers would make more, those nearest to full are dropped first."""


class _Price(msgspec.Struct, frozen=True):
    each_ms: float
    """Time in which one request's worth flows back."""
    whole_ms: float
    """Time in which an empty bucket fills."""


@define
class RateLimiter:
    """Charges buckets. Without limits (`rate_limits.enabled: false`) it lets everything pass."""

    _prices: Mapping[str, _Price]
    _clock: Clock
    _full_at: dict[tuple[str, str], float] = field(factory=dict, init=False)
    _sweep_at: int = field(default=1024, init=False)

    @classmethod
    def of(cls, settings: RateLimits, clock: Clock) -> RateLimiter:
        limits = attrs.asdict(settings, recurse=False) if settings.enabled else {}
        named = {name: limit for name, limit in limits.items() if isinstance(limit, RateLimit)}
        return cls({name: _price(limit) for name, limit in named.items()}, clock)

    def charge(self, name: str, key: str, cost: float = 1) -> None:
        """Take `cost` out of the bucket of `key` in class `name`. Raises `LimitExceeded` where that is not in it."""
        wait = self._charge(name, key, cost)
        if wait > 0:
            raise LimitExceeded(int(wait) + 1)

    def refund(self, name: str, key: str) -> None:
        """Put back what one `charge` took: for classes that only count what turned out badly.

        Charging first and asking afterwards is what stops a guesser who tries many at the same moment.
        """
        price = self._prices.get(name)
        if price is not None and (name, key) in self._full_at:
            self._full_at[name, key] -= price.each_ms

    def check(self, name: str, key: str) -> None:
        """Raise `LimitExceeded` if a request of this class would be refused now, without charging for one."""
        price = self._prices.get(name)
        if price is not None:
            now = self._clock.now_ms()
            wait = max(self._full_at.get((name, key), 0), now) + price.each_ms - price.whole_ms - now
            if wait > 0:
                raise LimitExceeded(int(wait) + 1)

    def _charge(self, name: str, key: str, cost: float) -> float:
        price = self._prices.get(name)
        if price is None:
            return 0
        now = self._clock.now_ms()
        bucket = (name, key)
        full_at = max(self._full_at.get(bucket, 0), now) + price.each_ms * cost
        wait = full_at - now - price.whole_ms
        if wait > 0:
            return wait
        self._full_at[bucket] = full_at
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)
        return 0

    def _sweep(self, now: float) -> None:
        left = {bucket: full_at for bucket, full_at in self._full_at.items() if full_at > now}
        if len(left) > MAX_BUCKETS:
            emptiest = sorted(left, key=left.__getitem__)[-MAX_BUCKETS // 2 :]
            left = {bucket: left[bucket] for bucket in emptiest}
        self._full_at = left
        self._sweep_at = max(1024, 2 * len(left))


def address_key(address: str) -> str:
    """Whom an address stands for: an IPv6 customer has a whole /64."""
    if ":" not in address:
        return address
    try:
        packed = IPv6Address(address.partition("%")[0]).packed
    except AddressValueError:
        return address
    return packed[:8].hex()


def _price(limit: RateLimit) -> _Price:
    each_ms = 1000 / limit.per_second
    return _Price(each_ms, each_ms * limit.burst)
