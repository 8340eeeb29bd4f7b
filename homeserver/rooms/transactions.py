"""Transaction ids: a client that repeats a request because it heard no answer gets the first one's answer.

Unique per device and path, and kept over restarts: the id commits together with the event. A device's recent ids are
read once, when it first sends something; from then on no SQL is needed to tell a new request from a repeated one.

Spec: https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from homeserver.clock import Clock
from storage import transactions as transaction_rows
from storage.database import Database
from storage.ports import Transaction

KEPT_MS = 24 * 60 * 60_000
"""How long an id is remembered: a client that comes back later than that means something new by it."""

MAX_DEVICES = 2_000

Key = tuple[str, str]
"""(path, transaction id)"""


class TransactionLog:
    """Which transaction ids were used, by device."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._devices: OrderedDict[tuple[str, str], dict[Key, str]] = OrderedDict()
        self._running: dict[Transaction, list[Deferred[None]]] = {}

    async def once(self, transaction: Transaction, send: Callable[[], Awaitable[str]]) -> str:
        """The event id that this transaction stands for: `send` makes it if this is the first time."""
        while True:
            known = await self._known(transaction.user_id, transaction.device_id)
            key = (transaction.path, transaction.txn_id)
            if key in known:
                return known[key]
            waiting = self._running.get(transaction)
            if waiting is None:
                break
            before_us: Deferred[None] = Deferred()
            waiting.append(before_us)
            await before_us
        self._running[transaction] = []
        try:
            event_id = await send()
            (await self._known(transaction.user_id, transaction.device_id))[key] = event_id
            return event_id
        finally:
            for waiter in self._running.pop(transaction):
                waiter.callback(None)

    def forget_device(self, user_id: str, device_id: str) -> None:
        self._devices.pop((user_id, device_id), None)

    async def _known(self, user_id: str, device_id: str) -> dict[Key, str]:
        device = (user_id, device_id)
        known = self._devices.get(device)
        if known is None:
            read = await self._database.run(
                transaction_rows.load_transactions, user_id, device_id, self._clock.now_ms() - KEPT_MS
            )
            known = self._devices.setdefault(device, read)
            while len(self._devices) > MAX_DEVICES:
                self._devices.popitem(last=False)
        else:
            self._devices.move_to_end(device)
        return known
