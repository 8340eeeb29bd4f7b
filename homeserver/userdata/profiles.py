"""Profiles: what people tell everybody about themselves, as named fields.

Spec: https://spec.matrix.org/v1.19/client-server-api/#profiles
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import orjson

from homeserver.errors import BadJson, InvalidParam, MatrixError, NotFound
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_position
from storage import profiles as rows
from storage.accounts import get_account
from storage.database import Database
from storage.ports import Cursor

DISPLAYNAME = "displayname"
AVATAR_URL = "avatar_url"

MAX_PROFILE_BYTES = 64 * 1024
MAX_KEY_BYTES = 255
MAX_DISPLAYNAME_CHARACTERS = 256
MAX_AVATAR_URL_CHARACTERS = 1000
MAX_TIME_ZONE_CHARACTERS = 100
DESCRIPTION = "chat.guildhall.description"
BANNER = "chat.guildhall.banner"
"""A picture, as `avatar_url` is."""
MAX_DESCRIPTION_CHARACTERS = 2000
MAX_HELD = 5000
"""Names and pictures that are kept in memory, for member events."""

_KEY = re.compile(r"[a-z][a-z0-9_.-]*")
_SOMEWHERE = re.compile(r"[:/\\]")
"""What a URL that leads somewhere, with a scheme or without, can't do without."""

Names = tuple[str | None, str | None]
"""Display name and avatar URL."""


class ProfileListener(Protocol):
    """Wants to know of changes: the room engine says them again in member events, presence passes them on."""

    async def profile_changed(self, user_id: str, field: str) -> None:
        """A field was set, changed or removed; awaited before the client is answered."""


class Whereabouts(Protocol):
    """Knows the rooms that people are in."""

    async def of(self, user_ids: Collection[str]) -> Mapping[str, frozenset[int]]: ...


class RemoteProfiles(Protocol):
    """Asks other servers for their people's profiles."""

    async def get(self, user_id: str) -> dict[str, Any] | None:
        """All fields. None where there is no such profile, and for people of this server.

        Raises MatrixError where the user's server can't be asked, or does not tell.
        """


class NoRemoteProfiles:
    """For a server that does not federate: nobody else is known."""

    async def get(self, user_id: str) -> dict[str, Any] | None:
        return None


class ProfileChanged:
    """The notice of a change, for the readers of those who share a room with the person."""

    def __init__(self, user_id: str, room_nids: Collection[int], position: int) -> None:
        self.position = position
        self._user_id = user_id
        self._room_nids = room_nids
        self._taken = position

    def settle(self, is_written: bool) -> None:
        """Called where it is written, perhaps twice: a position that nothing was written at must not be seen."""
        self.position = self._taken if is_written else 0

    def publish(self, hub: Hub) -> None:
        if self.position:
            hub.mark_profile(self._user_id, self._room_nids, self.position)


class Profiles:
    """Reads the profiles of everybody, and writes those of local users."""

    def __init__(self, database: Database, whereabouts: Whereabouts, remote: RemoteProfiles | None = None) -> None:
        self._database = database
        self._whereabouts = whereabouts
        self._remote = remote or NoRemoteProfiles()
        self._held: OrderedDict[str, Names] = OrderedDict()
        self._writes = 0
        """How many writes have begun or ended: what was read meanwhile may be old and is not kept."""
        self.listeners: list[ProfileListener] = []
        """To be added to when the house is built."""

    async def displayname_and_avatar(self, user_id: str) -> Names:
        """What member events of the user carry. (None, None) also for who is not known here."""
        held = self._held.get(user_id)
        if held is not None:
            self._held.move_to_end(user_id)
            return held
        writes = self._writes
        names = _names(await self._database.run(rows.read, user_id))
        if writes == self._writes:
            self._held[user_id] = names
            if len(self._held) > MAX_HELD:
                self._held.popitem(last=False)
        return names

    def peek(self, user_id: str) -> Names | None:
        """`displayname_and_avatar` if it is in memory. Never waits."""
        return self._held.get(user_id)

    async def get(self, user_id: str) -> dict[str, Any]:
        """All fields. Raises NotFound for who has no account, or a closed one that left nothing.

        For people of other servers also whatever their server's silence or refusal raises.
        """
        fields = await self._database.run(_read_of_account, user_id)
        if fields is not None:
            return {key: orjson.loads(value) for key, value in fields.items()}
        asked = await self._remote.get(user_id)
        if asked is None:
            raise NotFound("There is no profile of this user")
        return asked

    async def get_field(self, user_id: str, key: str) -> Any:
        """One field's value. Raises as `get` does, and NotFound for one that is not set."""
        fields = await self._database.run(_read_of_account, user_id)
        if fields is not None and key in fields:
            return orjson.loads(fields[key])
        asked = await self._remote.get(user_id) if fields is None else None
        if asked is None or key not in asked:
            raise NotFound("There is no such field in a profile of this user")
        return asked[key]

    async def set_field(self, user_id: str, key: str, value: Any) -> None:
        """Set a field; an empty name or picture is none. Durable when it answers, and those who listen know.

        Raises InvalidParam or BadJson for what the field can't hold, and for a profile of more than 64 KiB.
        """
        check_key(key)
        _check_value(key, value)
        if key in (DISPLAYNAME, AVATAR_URL) and value == "":
            await self.delete_field(user_id, key)
            return
        json = orjson.dumps(value)
        if not await self._change(user_id, key, lambda cursor: rows.put(cursor, user_id, key, json, MAX_PROFILE_BYTES)):
            raise MatrixError(400, "M_PROFILE_TOO_LARGE", f"A profile has at most {MAX_PROFILE_BYTES} bytes")
        await self._tell(user_id, key)

    async def delete_field(self, user_id: str, key: str) -> None:
        """Remove a field, if it is there."""
        check_key(key)
        await self._change(user_id, key, lambda cursor: rows.delete(cursor, user_id, key))
        await self._tell(user_id, key)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account (`homeserver.accounts.ports.AccountListener`), in no room yet: nobody need be told."""
        if displayname:
            self._begin(user_id)
            json = orjson.dumps(displayname[:MAX_DISPLAYNAME_CHARACTERS])
            try:
                await self._database.write(rows.put, user_id, DISPLAYNAME, json, MAX_PROFILE_BYTES)
            finally:
                self._begin(user_id)

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed. Its name stays beside what it said, unless that is to be wiped out too."""
        if erase:
            self._begin(user_id)
            try:
                await self._database.write(rows.delete_all, user_id)
            finally:
                self._begin(user_id)

    async def _change(self, user_id: str, key: str, write: Callable[[Cursor], bool]) -> bool:
        """Call `write` in the writer's thread, and note that the field changed unless it says False."""
        where = await self._whereabouts.of([user_id])
        position = take_position(self._database.counters)
        notice = ProfileChanged(user_id, where[user_id], position)
        self._begin(user_id)
        try:
            return await self._database.write_and_tell(notice, _write, notice, write, user_id, key, position)
        finally:
            self._begin(user_id)

    def _begin(self, user_id: str) -> None:
        """A write begins or has ended: forget what it may have made old, and what others are reading."""
        self._writes += 1
        self._held.pop(user_id, None)

    async def _tell(self, user_id: str, key: str) -> None:
        for listener in self.listeners:
            await listener.profile_changed(user_id, key)


def check_key(key: str) -> None:
    """Whether a field may be called so. Raises InvalidParam.

    Spec: https://spec.matrix.org/v1.19/appendices/#common-namespaced-identifier-grammar
    """
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidParam(f"A profile field's name has at most {MAX_KEY_BYTES} bytes", "M_KEY_TOO_LARGE")
    if not _KEY.fullmatch(key):
        raise InvalidParam("A profile field's name begins with a-z and holds only a-z, 0-9, `_`, `-` and `.`")


def keys_among(names: Iterable[str]) -> tuple[str, ...]:
    """Each once of those by which there can be a field."""
    return tuple(name for name in dict.fromkeys(names) if len(name) <= MAX_KEY_BYTES and _KEY.fullmatch(name))


def is_value(key: str, value: Any) -> bool:
    """Whether a field may hold a value, by this server's rules."""
    try:
        _check_value(key, value)
    except MatrixError:
        return False
    return True


def _check_value(key: str, value: Any) -> None:
    if key == DISPLAYNAME:
        _text(key, value, MAX_DISPLAYNAME_CHARACTERS)
    elif key == AVATAR_URL:
        url = _text(key, value, MAX_AVATAR_URL_CHARACTERS)
        # COMPAT Complement, as Synapse has it: text that is no URI at all is kept. What readers' clients might follow
        # to somewhere else is not.
        if not url.startswith("mxc://") and _SOMEWHERE.search(url):
            raise InvalidParam("`avatar_url` must be an mxc:// URI")
    elif key == DESCRIPTION:
        _text(key, value, MAX_DESCRIPTION_CHARACTERS)
    elif key == BANNER:
        if not _text(key, value, MAX_AVATAR_URL_CHARACTERS).startswith("mxc://"):
            raise InvalidParam(f"`{BANNER}` must be an mxc:// URI")
    elif key == "m.tz":
        _text(key, value, MAX_TIME_ZONE_CHARACTERS)


def _text(key: str, value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise BadJson(f"`{key}` must be a string")
    if len(value) > most:
        raise InvalidParam(f"`{key}` has at most {most} characters")
    return value


def _write(
    cursor: Cursor, notice: ProfileChanged, write: Callable[[Cursor], bool], user_id: str, key: str, position: int
) -> bool:
    is_written = write(cursor)
    if is_written:
        rows.mark(cursor, user_id, key, position)
    notice.settle(is_written)
    return is_written


def _read_of_account(cursor: Cursor, user_id: str) -> dict[str, bytes] | None:
    """None for who has no account here. Someone who has set nothing has an empty profile, which is one."""
    fields = rows.read(cursor, user_id)
    if not fields:
        account = get_account(cursor, user_id)
        if account is None or account.deactivated:
            return None
    return fields


def _names(fields: dict[str, bytes]) -> Names:
    displayname, avatar_url = fields.get(DISPLAYNAME), fields.get(AVATAR_URL)
    return (
        None if displayname is None else orjson.loads(displayname),
        None if avatar_url is None else orjson.loads(avatar_url),
    )
