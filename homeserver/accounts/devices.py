"""The devices of a user, as their owner sees them.

Spec: https://spec.matrix.org/v1.19/client-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.service import service
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.ports import DeviceBook, DeviceChanges
from homeserver.accounts.sessions import MAX_DEVICE_NAME
from homeserver.errors import InvalidParam, NotFound
from storage import sessions as stored
from storage.database import Database
from storage.sessions import Device


@service
class Devices:
    """Lists and names devices. Ending them is a matter of `AccountChanges`."""

    _database: Database
    _last_seen: LastSeen
    _book: DeviceBook

    async def all_of(self, user_id: str) -> Sequence[Device]:
        devices = await self._database.run(stored.list_devices, user_id)
        return [self._last_seen.freshen(user_id, device) for device in devices]

    async def last_seen(self, user_id: str) -> int:
        """When somebody was last here with any of them, in ms since 1970; 0 if never."""
        return max((device.last_seen_ts or 0 for device in await self.all_of(user_id)), default=0)

    async def require(self, user_id: str, device_id: str) -> Device:
        """Raises `NotFound`."""
        device = await self._database.run(stored.get_device, user_id, device_id) if "\0" not in device_id else None
        if device is None:
            raise NotFound("There is no such device")
        return self._last_seen.freshen(user_id, device)

    async def rename(self, user_id: str, device_id: str, display_name: str | None) -> None:
        """None leaves the name as it is. Raises `NotFound`, and `InvalidParam` for a name that cannot be."""
        if display_name is None:
            await self.require(user_id, device_id)
            return
        if len(display_name) > MAX_DEVICE_NAME or "\0" in display_name:
            raise InvalidParam(f"A device's name has at most {MAX_DEVICE_NAME} characters, none of them NUL")
        found = "\0" not in device_id and await self._book.write(
            user_id, lambda changes: _rename(changes, user_id, device_id, display_name)
        )
        if not found:
            raise NotFound("There is no such device")


def _rename(changes: DeviceChanges, user_id: str, device_id: str, display_name: str) -> bool:
    found = stored.rename_device(changes.cursor, user_id, device_id, display_name)
    if found:
        changes.changed(device_id)
    return found
