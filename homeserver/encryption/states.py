"""What the server has for each device that is here: messages that wait, and how many one-time keys are left.

Read once, when a device first asks, and kept true from then on by what is written: a /sync of a device with nothing
new asks the database nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import orjson
from attrs import define, field

from federation.flight import SingleFlight
from homeserver.streams.hub import Hub
from storage import one_time_keys as key_rows
from storage import to_device as letter_rows
from storage.database import Database
from storage.one_time_keys import KeyStock
from storage.ports import Cursor

MOST_DEVICES = 20_000
ALWAYS_COUNTED = "signed_curve25519"
"""COMPAT Synapse, and clients made for it: the count of these keys is told even where it is zero."""

Device = tuple[str, str]
"""(user id, device id)"""


@define(eq=False)
class DeviceState:
    """One device's."""

    inbox: int
    """Position of the newest message that may wait for it; 0: none does."""
    shown: int
    """Position up to which messages may have been shown to it and not been deleted; 0: none."""
    counts: dict[str, int]
    unused_fallback: tuple[str, ...]
    dry_at: int = 0
    """Serial of when it last ran out of keys of some kind, which it should hear of at once."""
    _json: bytes | None = None

    @property
    def stock_json(self) -> bytes:
        """Members of a `/sync` answer: the counts of one-time keys, and the unused fallback keys.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#e2e-extensions-to-sync
        """
        if self._json is None:
            counts = {ALWAYS_COUNTED: 0, **self.counts}
            self._json = b'"device_one_time_keys_count":%b,"device_unused_fallback_key_types":%b' % (
                orjson.dumps(counts),
                orjson.dumps(self.unused_fallback),
            )
        return self._json

    def restock(self, stock: KeyStock) -> None:
        self.counts, self.unused_fallback, self._json = dict(stock.counts), stock.unused_fallback, None


@define(eq=False)
class DeviceStates:
    """Everybody's that asked lately."""

    _hub: Hub
    _database: Database
    _states: OrderedDict[Device, DeviceState] = field(factory=OrderedDict, init=False)
    _reading: SingleFlight[Device, DeviceState] = field(factory=SingleFlight, init=False)
    _disturbed: set[Device] = field(factory=set, init=False)
    """Devices that are being read, and of which something was written meanwhile: they are read again."""

    async def get(self, user_id: str, device_id: str) -> DeviceState:
        """Waits for the database only where nothing is known of the device."""
        device = (user_id, device_id)
        state = self._states.get(device)
        if state is not None:
            self._states.move_to_end(device)
            return state
        return await self._reading.do(device, lambda: self._read(device))

    def letter_came(self, user_id: str, device_id: str, position: int) -> None:
        """A message for the device was committed."""
        state = self._known((user_id, device_id))
        if state is not None:
            state.inbox = position
        self._hub.wake_user(user_id)

    def inbox_emptied(self, user_id: str, device_id: str, upto: int) -> None:
        """No message up to a position waits for the device any more."""
        state = self._known((user_id, device_id))
        if state is not None and state.inbox <= upto:
            state.inbox = 0

    def restocked(self, user_id: str, device_id: str, stock: KeyStock) -> None:
        """The device brought keys."""
        state = self._known((user_id, device_id))
        if state is not None:
            state.restock(stock)

    def claimed(self, user_id: str, device_id: str, algorithm: str, *, fallback: bool) -> None:
        """A key of the device was given out. It hears of it with its next answer, and at once if it was the last."""
        state = self._known((user_id, device_id))
        if state is None:
            return
        counts, unused = dict(state.counts), state.unused_fallback
        if fallback:
            is_news = algorithm in unused
            unused = tuple(one for one in unused if one != algorithm)
        else:
            counts[algorithm] = counts.get(algorithm, 1) - 1
            is_news = counts[algorithm] <= 0
        state.restock(KeyStock(_positive(counts), unused))
        if is_news:
            state.dry_at = self._hub.wake_user(user_id)

    def forget(self, user_id: str, device_id: str) -> None:
        """The device is no more."""
        self._states.pop((user_id, device_id), None)

    # ----------------------------------------------------------------------------------------------------------

    def _known(self, device: Device) -> DeviceState | None:
        if self._reading.is_going_on(device):
            self._disturbed.add(device)
        return self._states.get(device)

    async def _read(self, device: Device) -> DeviceState:
        while True:
            self._disturbed.discard(device)
            inbox, stock = await self._database.run(_read, *device)
            if device not in self._disturbed:
                break
        state = self._states[device] = DeviceState(inbox, inbox, dict(stock.counts), stock.unused_fallback)
        if len(self._states) > MOST_DEVICES:
            self._states.popitem(last=False)
        return state


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {algorithm: count for algorithm, count in counts.items() if count > 0}


def _read(cursor: Cursor, user_id: str, device_id: str) -> tuple[int, KeyStock]:
    return letter_rows.newest(cursor, user_id, device_id), key_rows.stock_of(cursor, user_id, device_id)
