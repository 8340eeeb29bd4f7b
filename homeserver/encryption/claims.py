"""`keys/claim`: one-time keys given out, each to one asker only.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import orjson
from attrs import define

from homeserver.clock import Clock
from homeserver.encryption.shapes import is_name
from homeserver.encryption.states import DeviceStates
from homeserver.streams.hub import Hub
from storage import one_time_keys as rows
from storage.database import Database
from storage.ports import Cursor

Wanted = Mapping[str, Mapping[str, str]]
"""User id → device id → algorithm."""
Claimed = dict[str, dict[str, dict[str, orjson.Fragment]]]
"""User id → device id → full name of the key → the key; without those who had none."""


class _Given(msgspec.Struct, eq=False):
    """The notice of keys that were given out."""

    states: DeviceStates
    position: int = 0
    keys: list[tuple[str, str, str, bool]] = msgspec.field(default_factory=list)
    """User, device, algorithm, and whether it was the fallback key."""

    def publish(self, hub: Hub) -> None:
        for user_id, device_id, algorithm, fallback in self.keys:
            self.states.claimed(user_id, device_id, algorithm, fallback=fallback)


@define(eq=False)
class KeyClaims:
    """Gives out keys of people here."""

    _database: Database
    _states: DeviceStates
    _clock: Clock

    async def claim(self, wanted: Wanted) -> Claimed:
        """One key of each device that has one. It is durable that they are gone when this answers."""
        notice = _Given(self._states)
        return await self._database.write_and_tell(notice, _claim, notice, wanted, self._clock.now_ms())


def _claim(cursor: Cursor, notice: _Given, wanted: Wanted, now_ms: int) -> Claimed:
    notice.keys.clear()
    found: Claimed = {}
    for user_id, devices in wanted.items():
        for device_id, algorithm in devices.items():
            if not (is_name(device_id) and is_name(algorithm)):
                continue
            given = rows.claim(cursor, user_id, device_id, algorithm, now_ms)
            if given is not None:
                key, fallback = given
                notice.keys.append((user_id, device_id, algorithm, fallback))
                found.setdefault(user_id, {})[device_id] = {key.name: orjson.Fragment(key.json)}
    return found
