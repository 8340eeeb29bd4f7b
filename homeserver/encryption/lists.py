"""What happens to the devices of people here, written down together with what others are to be told of it.

    login, logout, a new name ──┐                        one transaction
    keys, signatures ───────────┼── DeviceLists.write ── the change itself
    dehydrated devices ─────────┘                        who changed, for /sync (`storage.device_lists`)
                                                         updates for other servers, counted
                                                                    │ committed
                                 clients in the same rooms ◄────────┴────────► listeners: other servers

Spec: https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user
Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from attrs import define, field

from federation.room.canonical import canonical_json
from homeserver.encryption.log import ChangeLog
from homeserver.encryption.rendering import PublicKeys, read_public_keys
from homeserver.encryption.states import DeviceStates
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from storage import device_keys as key_rows
from storage import device_lists as rows
from storage import memberships as membership_rows
from storage import sessions as session_rows
from storage.database import Database
from storage.device_keys import MASTER, SELF_SIGNING, DeviceKeys
from storage.device_lists import DeviceUpdate
from storage.ports import Cursor

T = TypeVar("T")


class ListListener(Protocol):
    """Tells other servers. Must not wait and must not raise."""

    def devices_changed(
        self, user_id: str, room_nids: Collection[int], edus: Sequence[tuple[str, bytes]], position: int
    ) -> None:
        """`edus`: type and canonical JSON of the content, for the servers in these rooms."""


@define(eq=False)
class DeviceChanges:
    """What one write does to the devices of one person. Made afresh each time that the write is tried."""

    cursor: Cursor
    user_id: str
    position: int
    """For what needs a place in the stream itself."""
    _updated: list[str] = field(factory=list, init=False)
    """Devices that other servers are to hear of."""
    _gone: set[str] = field(factory=set, init=False)
    _signed: set[str] = field(factory=set, init=False)
    _is_signing: bool = field(default=False, init=False)
    _is_seen: bool = field(default=False, init=False)

    def added(self, device_id: str) -> None:
        """A device is new. Nobody here has use for one without keys, so nobody is told."""
        self._updated.append(device_id)

    def changed(self, device_id: str) -> None:
        """A device has other keys, signatures, or another name."""
        self._updated.append(device_id)
        self._is_seen = True

    def removed(self, device_ids: Sequence[str]) -> None:
        """Devices are no more: all that belongs to them goes."""
        if key_rows.forget_devices(self.cursor, self.user_id, device_ids):
            self._is_seen = True
        self._updated += device_ids
        self._gone.update(device_ids)

    def signing_changed(self) -> None:
        """The master key or the self-signing key is another one, or has a signature more."""
        self._is_signing = self._is_seen = True

    def private_changed(self) -> None:
        """The user-signing key is another one, which only the person's own devices see."""
        self._is_seen = True

    def signed(self, owner: str) -> None:
        """The person has signed somebody's master key, which nobody else is to know. The signature has `position`."""
        self._signed.add(owner)


class _Told(msgspec.Struct, eq=False):
    """The notice of a write. What it leaves for readers is settled in the transaction."""

    lists: DeviceLists
    user_id: str
    position: int = 0
    """0 where there is nothing to be told: a position that nothing was written at must not be seen."""
    room_nids: frozenset[int] = frozenset()
    is_seen: bool = False
    edus: Sequence[tuple[str, bytes]] = ()
    gone: Collection[str] = ()
    signed: Collection[str] = ()

    def publish(self, hub: Hub) -> None:
        if self.position:
            self.lists.show(self)


class DeviceLists:
    """See the module's docstring. One per process."""

    def __init__(
        self, hub: Hub, database: Database, log: ChangeLog, states: DeviceStates, *, shows_names: bool
    ) -> None:
        """`shows_names`: whether other servers are told what people call their devices."""
        self._hub = hub
        self._database = database
        self._log = log
        self._states = states
        self._shows_names = shows_names
        self.listeners: list[ListListener] = []

    async def write(self, user_id: str, work: Callable[[DeviceChanges], T]) -> T:
        """Call `work` in the writer's thread, and write down in the same transaction what it says that it changed.

        It may be called twice, so it must have no effect but on the database. Answers when all is durable and shown.
        """
        position = take_position(self._database.counters)
        notice = _Told(self, user_id)
        return await self._database.write_and_tell(notice, self._write, notice, user_id, position, work)

    async def write_remote(self, user_id: str, work: Callable[[Cursor, int], bool]) -> None:
        """The same for somebody of another server: `work` says whether those here who share a room with the person are
        to ask for the keys again. It is given the position of that.
        """
        position = take_position(self._database.counters)
        notice = _Told(self, user_id)
        await self._database.write_and_tell(notice, _write_remote, notice, user_id, position, work)

    def show(self, told: _Told) -> None:
        """Make a committed change visible. For its notice only."""
        for device_id in told.gone:
            self._states.forget(told.user_id, device_id)
        if told.is_seen:
            self._log.changed(told.user_id, told.room_nids, told.position)
            self._hub.mark_devices(told.user_id, told.room_nids, told.position)
        if told.signed:
            self._log.signed(told.user_id, told.signed, told.position)
            self._hub.mark_devices(told.user_id, (), told.position)
        if told.edus:
            for listener in self.listeners:
                listener.devices_changed(told.user_id, told.room_nids, told.edus, told.position)

    # -- in the writer's thread --------------------------------------------------------------------------------

    def _write(
        self, cursor: Cursor, notice: _Told, user_id: str, position: int, work: Callable[[DeviceChanges], T]
    ) -> T:
        changes = DeviceChanges(cursor, user_id, position)
        result = work(changes)
        edus = self._edus(changes)
        if changes._is_seen:
            rows.mark(cursor, user_id, position)
        notice.is_seen, notice.edus = changes._is_seen, edus
        notice.gone, notice.signed = frozenset(changes._gone), frozenset(changes._signed)
        notice.position = position if edus or changes._is_seen or changes._signed else 0
        if notice.position:
            notice.room_nids = membership_rows.joined_rooms(cursor, [user_id]).get(user_id, frozenset())
        return result

    def _edus(self, changes: DeviceChanges) -> list[tuple[str, bytes]]:
        """What other servers are to hear of a write."""
        updated = list(dict.fromkeys(changes._updated))
        if not updated and not changes._is_signing:
            return []
        cursor, user_id = changes.cursor, changes.user_id
        public = read_public_keys(cursor, [user_id], None)
        last = rows.last_update(cursor, user_id)
        edus = [signing_update(user_id, public)] if changes._is_signing else []
        for device_id in updated:
            last = DeviceUpdate(1 if last is None else last.stream_id + 1, device_id, changes.position)
            edus.append(device_update(user_id, last, public, cursor, shows_names=self._shows_names))
        if last is not None:
            rows.put_update(cursor, user_id, DeviceUpdate(last.stream_id, last.device_id, changes.position))
        return edus

    def catch_up(self, cursor: Cursor, user_id: str) -> list[tuple[str, bytes]]:
        """For servers that missed something of a person's devices: the newest update.

        It names the one before it, by which they find out whether to ask for the whole list. In a database thread.
        """
        last = rows.last_update(cursor, user_id)
        if last is None:
            return []
        public = read_public_keys(cursor, [user_id], None)
        edus = [device_update(user_id, last, public, cursor, shows_names=self._shows_names)]
        return [signing_update(user_id, public), *edus] if public.cross_signing.get(user_id) else edus


def _write_remote(
    cursor: Cursor, notice: _Told, user_id: str, position: int, work: Callable[[Cursor, int], bool]
) -> None:
    notice.is_seen = work(cursor, position)
    notice.position = position if notice.is_seen else 0
    if notice.is_seen:
        rows.mark(cursor, user_id, position)
        notice.room_nids = membership_rows.joined_rooms(cursor, [user_id]).get(user_id, frozenset())


def edu_json(edu_type: str, content: bytes) -> bytes:
    """An EDU of canonical JSON."""
    return b'{"content":%b,"edu_type":"%b"}' % (content, edu_type.encode())


def signing_update(user_id: str, public: PublicKeys) -> tuple[str, bytes]:
    """An `m.signing_key_update` with the keys as they are."""
    content: dict[str, Any] = {"user_id": user_id}
    for name, usage in (("master_key", MASTER), ("self_signing_key", SELF_SIGNING)):
        if (key := public.key(user_id, usage)) is not None:
            content[name] = key
    return "m.signing_key_update", canonical_json(content)


def device_update(
    user_id: str, update: DeviceUpdate, public: PublicKeys, cursor: Cursor, *, shows_names: bool
) -> tuple[str, bytes]:
    """An `m.device_list_update` with the device as it is."""
    content: dict[str, Any] = {
        "user_id": user_id,
        "device_id": update.device_id,
        "stream_id": update.stream_id,
        "prev_id": [update.stream_id - 1] if update.stream_id > 1 else [],
    }
    device: DeviceKeys | None = next(
        (one for one in public.devices.get(user_id, ()) if one.device_id == update.device_id), None
    )
    if device is not None:
        content["keys"] = public.device_keys(device)
        name = device.display_name
    else:
        row = session_rows.get_device(cursor, user_id, update.device_id)
        name = None if row is None else row.display_name
        if row is None:
            content["deleted"] = True
    if shows_names and name is not None:
        content["device_display_name"] = name
    return "m.device_list_update", canonical_json(content)
