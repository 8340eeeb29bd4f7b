"""What is told of the profiles of those whom one shares a room with: of the fields that a client asks for.

    a first look          all of them, of everybody of this server who is in one of the user's rooms
    somebody changed one  its value, or null where it was removed
    somebody came         all of theirs
    somebody went         null in place of the fields, unless they share another room

Only of this server's people: no server tells others when its people's profiles change. Who comes and who goes is known
from what is told of lists of devices (`homeserver.encryption.news`), which go by the same rule.

In /sync, MSC4429: https://github.com/matrix-org/matrix-spec-proposals/pull/4429
In sliding sync, MSC4262: https://github.com/matrix-org/matrix-spec-proposals/pull/4262
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import orjson

from federation.service import service
from homeserver.encryption.news import DeviceNews
from homeserver.streams.hub import Feed
from storage import profiles as rows
from storage.database import Database
from storage.profiles import Keys

USERS = "org.matrix.msc4429.users"

Updates = dict[str, dict[str, bytes | None] | None]
"""Fields as JSON by whose they are; None: removed. None for somebody: there is no room with them any more."""


@service
class ProfileNews:
    """Looks for it."""

    server_name: str
    database: Database
    devices: DeviceNews

    async def everything(self, feed: Feed, keys: Keys, room_nids: Collection[int] | None = None) -> Updates:
        """All there is now: of the user's own, and of all in the user's rooms, or in some of them."""
        rooms = sorted(feed.joined if room_nids is None else room_nids)
        return _by_person(await self.database.run(rows.fields_around, feed.user_id, rooms, keys, self.server_name))

    async def changes(self, feed: Feed, keys: Keys, after: int, upto: int) -> Updates:
        """What is new after one position and up to another, of which the second is not long ago."""
        news = await self.devices.between(feed, after, upto)
        came = [user_id for user_id in self._local(news.changed) if user_id != feed.user_id]
        found = _by_person(await self.database.run(rows.fields_of, came, keys)) if came else {}
        if feed.profiles > after or after < feed.floor:
            changed = await self.database.run(rows.changed_for, feed.user_id, sorted(feed.joined), keys, after, upto)
            merge(found, _by_person(changed))
        found.update((user_id, None) for user_id in self._local(news.left))
        return found

    def _local(self, user_ids: Iterable[str]) -> list[str]:
        return [user_id for user_id in user_ids if user_id.endswith(":" + self.server_name)]


def merge(found: Updates, more: Updates) -> None:
    """Add what is newer to what was found."""
    for user_id, fields in more.items():
        found[user_id] = None if fields is None else {**(found.get(user_id) or {}), **fields}


def users_section(updates: Updates, ignored: frozenset[str]) -> dict[str, bytes]:
    """The section of an answer of /sync, without those whom the reader ignores; empty where that is nothing."""
    told = {
        user_id: {"profile_updates": None if fields is None else _fragments(fields)}
        for user_id, fields in updates.items()
        if fields is None or user_id not in ignored
    }
    return {USERS: orjson.dumps(told)} if told else {}


def _fragments(fields: Mapping[str, bytes | None]) -> dict[str, orjson.Fragment | None]:
    return {key: None if value is None else orjson.Fragment(value) for key, value in fields.items()}


def _by_person(fields: Iterable[rows.Field]) -> Updates:
    found: dict[str, dict[str, bytes | None]] = {}
    for user_id, key, value in fields:
        found.setdefault(user_id, {})[key] = value
    return {**found}
