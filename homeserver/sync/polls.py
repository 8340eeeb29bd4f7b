"""Requests that wait for news, by the device that asks: so that they end when it is logged out."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred

from homeserver.errors import UnknownToken
from homeserver.streams.hub import Feed, Hub


@define(eq=False)
class Polls:
    """All that wait now. One per process."""

    _hub: Hub
    _waiting: dict[tuple[str, str], set[Deferred[None]]] = field(factory=dict, init=False)

    async def wait(self, feed: Feed, device_id: str, timeout_ms: int) -> None:
        """Until something was marked on the feed, or the time is over. Raises UnknownToken if the device goes."""
        device = (feed.user_id, device_id)
        waiter = self._hub.wait(feed, timeout_ms)
        self._waiting.setdefault(device, set()).add(waiter)
        try:
            await waiter
        finally:
            waiters = self._waiting[device]
            waiters.discard(waiter)
            if not waiters:
                del self._waiting[device]

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        """These devices are logged out: what they wait for is over (`homeserver.accounts.ports.DeviceListener`)."""
        for device_id in device_ids:
            for waiter in list(self._waiting.get((user_id, device_id), ())):
                if not waiter.called:
                    waiter.errback(UnknownToken())
