"""Account data: what a person's clients keep for themselves on the server, global or of one room.

Changes of late are kept in memory for /sync; each person's have a *floor*, the position up to which memory may have
gaps. An older token is answered from the database.

Spec: https://spec.matrix.org/v1.19/client-server-api/#client-config
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson

from homeserver.errors import InvalidParam
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from storage import account_data as rows
from storage.account_data import GLOBAL, AccountDatum
from storage.database import Database
from storage.ports import Cursor

__all__ = ["GLOBAL", "AccountChanges", "AccountData", "AccountDataChanged", "Edit"]

MOST_TYPES = 1_000
"""That somebody keeps of one room, or of none. How large each may be is a matter of the request's size."""
MAX_HELD_BYTES = 2 * 1024 * 1024
"""How much of all people's recent changes is kept in memory."""
MAX_HELD_EACH_BYTES = 64 * 1024
"""And of one person's."""
OVERHEAD_BYTES = 250
"""What a change costs beside its bytes, and a person beside the changes."""

Edit = Callable[[dict[str, Any]], dict[str, Any] | None]
"""Changes a content that it is given afresh ({} if there is none); None: leave it as it is. Called in the writer's
thread, perhaps twice: it may look at nothing but its argument.
"""


class AccountChanges(msgspec.Struct, gc=False):
    """What changed, each as `{"content":…,"type":…}`, those changed first in front."""

    global_events: list[bytes]
    rooms: dict[int, list[bytes]]
    """By the rooms' nids."""


class _Recent(msgspec.Struct, eq=False):
    """One person's changes since `floor`: only the newest of each kind, oldest first."""

    floor: int
    held: dict[tuple[int, str], tuple[int, bytes]] = msgspec.field(default_factory=dict)
    size_bytes: int = 0


class AccountDataChanged:
    """The notice of a change. The write function says whether there was one, before the notice is published."""

    def __init__(self, service: AccountData, user_id: str, position: int) -> None:
        self.position = position
        self.datum: AccountDatum | None = None
        self._service = service
        self._user_id = user_id
        self._taken = position

    def settle(self, datum: AccountDatum | None) -> None:
        """Called where it is written. A position that nothing was written at must not be seen: after a restart it
        would be given to something else.
        """
        self.datum = datum
        self.position = 0 if datum is None else self._taken

    def publish(self, hub: Hub) -> None:
        if self.datum is not None:
            self._service.remember(self._user_id, self.datum)
            for listener in self._service.listeners:
                listener(self._user_id, self.datum)
            hub.mark_account(self._user_id, self.position)


class AccountData:
    """Reads and writes account data; room account data is named by the room's nid, `GLOBAL` is no room."""

    def __init__(self, hub: Hub, database: Database) -> None:
        self._database = database
        self._hub = hub
        self._floor = hub.position
        self.listeners: list[Callable[[str, AccountDatum], None]] = []
        """Told of every change by whose it is, once it is durable: must not wait and must not raise."""
        self.from_birth: dict[str, Callable[[str], bytes]] = {}
        """Global account data that everybody has though nobody has written it: type → its content, by whose it is."""
        self._recent: OrderedDict[str, _Recent] = OrderedDict()
        self._size_bytes = 0

    async def changes(self, user_id: str, after: int, upto: int) -> AccountChanges:
        """What changed after one position and up to another. Waits for the database only where memory has gaps."""
        recent = self._recent.get(user_id)
        if after >= (self._floor if recent is None else recent.floor):
            return _from_memory(recent, after, upto)
        changes = AccountChanges([], {})
        for datum in await self._database.run(rows.changed, user_id, after, upto):
            _add(changes, datum.room_nid, event_json(datum.type, datum.content))
        return changes

    async def everything(self, user_id: str) -> AccountChanges:
        """For a first sync."""
        changes = await self.changes(user_id, 0, self._hub.position)
        for event_type, content in self.from_birth.items():
            end = b',"type":%b}' % orjson.dumps(event_type)
            if not any(event.endswith(end) for event in changes.global_events):
                changes.global_events.insert(0, event_json(event_type, content(user_id)))
        return changes

    async def get(self, user_id: str, room_nid: int, event_type: str) -> bytes | None:
        """The content as JSON; None if it was never set."""
        content = await self._database.run(rows.get, user_id, room_nid, event_type)
        if content is None and room_nid == GLOBAL and event_type in self.from_birth:
            content = self.from_birth[event_type](user_id)
        return content

    async def put(self, user_id: str, room_nid: int, event_type: str, content: Mapping[str, Any]) -> None:
        """Set the content. Durable when it answers. Raises InvalidParam where there are too many types already."""
        json = orjson.dumps(content)
        position = take_position(self._database.counters)
        notice = AccountDataChanged(self, user_id, position)
        datum = AccountDatum(room_nid, event_type, json, position)
        if not await self._database.write_and_tell(notice, _put, notice, user_id, datum):
            raise InvalidParam(f"There can be at most {MOST_TYPES} types of account data in one place", "M_TOO_LARGE")

    async def edit(self, user_id: str, room_nid: int, event_type: str, edit: Edit) -> None:
        """Change the content from what it is, in one transaction. Durable when it answers."""
        position = take_position(self._database.counters)
        notice = AccountDataChanged(self, user_id, position)
        await self._database.write_and_tell(notice, _edit, notice, user_id, room_nid, event_type, edit, position)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has nothing yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: nobody can read its data any more, so they go."""
        await self._database.write(rows.delete_all, user_id)
        recent = self._recent.pop(user_id, None)
        if recent is not None:
            self._size_bytes -= recent.size_bytes

    def remember(self, user_id: str, datum: AccountDatum) -> None:
        """A change was committed: keep it at hand. For notices only, in commit order."""
        recent = self._recent.get(user_id)
        if recent is None:
            recent = self._recent[user_id] = _Recent(self._floor, size_bytes=OVERHEAD_BYTES)
            self._size_bytes += OVERHEAD_BYTES
        else:
            self._recent.move_to_end(user_id)
        json = event_json(datum.type, datum.content)
        key = (datum.room_nid, datum.type)
        if (old := recent.held.pop(key, None)) is not None:
            self._shrink(recent, old[1])
        recent.held[key] = (datum.position, json)
        recent.size_bytes += len(json) + OVERHEAD_BYTES
        self._size_bytes += len(json) + OVERHEAD_BYTES
        while recent.held and recent.size_bytes > MAX_HELD_EACH_BYTES:
            oldest = next(iter(recent.held))
            recent.floor, json = recent.held.pop(oldest)
            self._shrink(recent, json)
        while self._size_bytes > MAX_HELD_BYTES and len(self._recent) > 1:
            self._forget_one()

    def _shrink(self, recent: _Recent, json: bytes) -> None:
        recent.size_bytes -= len(json) + OVERHEAD_BYTES
        self._size_bytes -= len(json) + OVERHEAD_BYTES

    def _forget_one(self) -> None:
        """Drop the person whose last change is the longest ago; who is not held has the common floor."""
        _, leaving = self._recent.popitem(last=False)
        self._size_bytes -= leaving.size_bytes
        newest = max((position for position, _ in leaving.held.values()), default=0)
        self._floor = max(self._floor, leaving.floor, newest)


def event_json(event_type: str, content: bytes) -> bytes:
    """The event as /sync shows it."""
    return b'{"content":%b,"type":%b}' % (content, orjson.dumps(event_type))


def _from_memory(recent: _Recent | None, after: int, upto: int) -> AccountChanges:
    changes = AccountChanges([], {})
    if recent is None:
        return changes
    found: list[tuple[int, bytes]] = []
    for key in reversed(recent.held):
        position, json = recent.held[key]
        if position <= after:
            break
        if position <= upto:
            found.append((key[0], json))
    for room_nid, json in reversed(found):
        _add(changes, room_nid, json)
    return changes


def _add(changes: AccountChanges, room_nid: int, json: bytes) -> None:
    if room_nid == GLOBAL:
        changes.global_events.append(json)
    else:
        changes.rooms.setdefault(room_nid, []).append(json)


def _put(cursor: Cursor, notice: AccountDataChanged, user_id: str, datum: AccountDatum) -> bool:
    """False, and nothing done, if there are too many: an exception would have the whole batch done again."""
    known = rows.get(cursor, user_id, datum.room_nid, datum.type)
    if known is None and rows.count(cursor, user_id, datum.room_nid) >= MOST_TYPES:
        notice.settle(None)
        return False
    notice.settle(datum)
    rows.put(cursor, user_id, datum)
    return True


def _edit(
    cursor: Cursor,
    notice: AccountDataChanged,
    user_id: str,
    room_nid: int,
    event_type: str,
    edit: Edit,
    position: int,
) -> None:
    before = rows.get(cursor, user_id, room_nid, event_type)
    content = edit({} if before is None else orjson.loads(before))
    datum = None if content is None else AccountDatum(room_nid, event_type, orjson.dumps(content), position)
    notice.settle(datum)
    if datum is not None:
        rows.put(cursor, user_id, datum)
