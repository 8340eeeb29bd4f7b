"""When and from where each device was last here: noted in memory, written down in one go every few minutes."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from homeserver.clock import Clock
from homeserver.http.route import Requester, RequestInfo
from homeserver.tasks import Tasks
from storage.database import Database
from storage.sessions import Device, DeviceUse, record_uses

EVERY_SECONDS = 300
MAX_NOTED = 50_000


@define
class LastSeen:
    """Notes each device at most once per interval, so that most requests cost one look into a dict."""

    _database: Database
    _clock: Clock
    _tasks: Tasks
    _noted: dict[tuple[str, str], DeviceUse] = field(factory=dict, init=False)
    _next_flush: IDelayedCall | None = field(default=None, init=False)

    def note(self, who: Requester, info: Callable[[], RequestInfo]) -> None:
        """A request of this device is being answered."""
        key = (who.user_id, who.device_id)
        if key in self._noted or len(self._noted) >= MAX_NOTED:
            return
        told = info()
        self._noted[key] = DeviceUse(*key, self._clock.now_ms(), told.address, told.user_agent)
        if self._next_flush is None:
            self._next_flush = self._clock.timers.callLater(EVERY_SECONDS, self._begin_flush)

    def freshen(self, user_id: str, device: Device) -> Device:
        """The device with what is noted and not yet written down."""
        use = self._noted.get((user_id, device.device_id))
        if use is None:
            return device
        return Device(device.device_id, device.display_name, use.ts, use.ip, use.user_agent)

    async def flush(self) -> None:
        """Write down what is noted. At shutdown, await this before the database is closed."""
        if self._next_flush is not None and self._next_flush.active():
            self._next_flush.cancel()
        self._next_flush = None
        uses, self._noted = list(self._noted.values()), {}
        if uses:
            await self._database.write(record_uses, uses)

    def _begin_flush(self) -> None:
        self._next_flush = None
        self._tasks.spawn("write down when devices were last seen", self.flush())
