"""Transaction ids: a client that repeats a request because it heard no answer gets the first one's answer.

Unique per device and path, and kept over restarts: the id commits together with the event. What a device has used is
read once, when it first sends something; from then on no SQL is needed to tell a new request from a repeated one.
Which event a repeated one stands for is then looked up, as that is rare.

Spec: https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from homeserver.clock import Clock
from homeserver.errors import MatrixError
from storage import transactions as rows
from storage.database import Database, DuplicateRow
from storage.ports import Cursor, Transaction

KEPT_MS = 24 * 60 * 60_000
"""How long an id is remembered at least: a client that comes back later than that means something new by it."""

MAX_DEVICES = 2_000

Device = tuple[str, str]
"""(user id, device id)"""

Used = set[int]
"""Hashes of (path, transaction id): a device that says a lot has many, and needs to know no more of them."""


class TransactionLog:
    """Which transaction ids were used, by device."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._devices: OrderedDict[Device, Used] = OrderedDict()
        self._reading: dict[Device, list[Deferred[Used]]] = {}
        self._running: dict[Transaction, list[Deferred[None]]] = {}

    async def once(self, transaction: Transaction, send: Callable[[], Awaitable[str]]) -> str:
        """The event id that this transaction stands for: `send` makes it if this is the first time."""
        return await self._once(transaction, send, rows.event_of)

    async def _once(
        self,
        transaction: Transaction,
        send: Callable[[], Awaitable[str]],
        outcome: Callable[[Cursor, Transaction], str | None],
    ) -> str:
        device = (transaction.user_id, transaction.device_id)
        mark = hash((transaction.path, transaction.txn_id))
        while True:
            used = self._peek(device)
            if used is None:
                used = await self._read(device)
            if mark in used:
                event_id = await self._database.run(outcome, transaction)
                if event_id is not None:
                    return event_id
            waiting = self._running.get(transaction)
            if waiting is None:
                break
            before_us: Deferred[None] = Deferred()
            waiting.append(before_us)
            await before_us
        self._running[transaction] = []
        try:
            event_id = await send()
            used = self._peek(device)
            if used is None:
                used = await self._read(device)
            used.add(mark)
            return event_id
        except MatrixError:
            raise
        except Exception:
            self.forget_device(*device)  # it may have been written all the same (`CommitUnknown`): look again
            raise
        finally:
            for waiter in self._running.pop(transaction):
                waiter.callback(None)

    async def once_only(self, transaction: Transaction, work: Callable[[], Awaitable[None]]) -> None:
        """The same for work that makes no event. It must write down the transaction itself (`storage.transactions`)."""

        async def done() -> str:
            with suppress(DuplicateRow):  # it was written before, though nobody could be told (`CommitUnknown`)
                await work()
            return ""

        await self._once(transaction, done, _made_nothing)

    def forget_device(self, user_id: str, device_id: str) -> None:
        """Let go of what is in memory of a device that is gone."""
        self._devices.pop((user_id, device_id), None)

    async def forget_old(self) -> None:
        """Drop what is older than `KEPT_MS`. To be called once a day."""
        await self._database.write(rows.forget_transactions, self._clock.now_ms() - KEPT_MS)
        self._devices.clear()

    def _peek(self, device: Device) -> Used | None:
        used = self._devices.get(device)
        if used is not None:
            self._devices.move_to_end(device)
        return used

    async def _read(self, device: Device) -> Used:
        """Read what a device has used; once, however many of its requests wait for that.

        So no reading that began before another one ended can bring back what was true before.
        """
        waiter: Deferred[Used] = Deferred()
        if device in self._reading:
            self._reading[device].append(waiter)
        else:
            self._reading[device] = [waiter]
            self._database.run(_marks, *device).addBoth(self._was_read, device)
        return await waiter

    def _was_read(self, outcome: Used | Failure, device: Device) -> None:
        waiting = self._reading.pop(device)
        if isinstance(outcome, Failure):
            for waiter in waiting:
                waiter.errback(outcome)
            return
        self._devices[device] = outcome
        while len(self._devices) > MAX_DEVICES:
            self._devices.popitem(last=False)
        for waiter in waiting:
            waiter.callback(outcome)


def _made_nothing(cursor: Cursor, transaction: Transaction) -> str | None:
    return "" if rows.is_recorded(cursor, transaction) else None


def _marks(cursor: Cursor, user_id: str, device_id: str) -> Used:
    return set(map(hash, rows.used_by_device(cursor, user_id, device_id)))
