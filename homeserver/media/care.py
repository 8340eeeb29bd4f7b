"""Whose files stay, whose go, and which nobody may have: what is due by itself, and what administrators do.

    await app.media.care.quarantine([("example.org", "abc")], by="@admin:example.org")      in `homeserver shell`
    python -m homeserver media quarantine mxc://example.org/abc                             the same

Why a file goes when the last event that named it is redacted: docs/decisions/0006-media-and-what-names-it.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice

import structlog
from attrs import define, field

from config import Media as Settings
from homeserver.errors import NotFound
from homeserver.media.library import Library
from storage import events as event_rows
from storage import loose_files, media_refs
from storage import media as rows
from storage import rooms as room_rows
from storage.media import MediaKey, Medium
from storage.ports import Cursor

EVERY_MS = 60 * 60 * 1000
SPARE_MS = 24 * 60 * 60 * 1000
"""For so long after its time a place is kept that nobody put a file in: an upload may be under way."""
PAGE = 500

_log = structlog.get_logger("homeserver.media")


@define(eq=False)
class Care:
    """Listens to accounts (`homeserver.accounts.ports`), too."""

    _library: Library
    _settings: Settings
    _next_round: int = field(default=0, init=False)

    # What is due by itself

    async def tidy(self) -> None:
        """Once an hour, whenever it is called: forget what is too old, and what is too much."""
        now = self._library.clock.now_ms()
        if now < self._next_round:
            return
        self._next_round = now + EVERY_MS
        await self._library.database.write(rows.delete_expired, now - SPARE_MS)
        if self._settings.remote_keep_ms is not None:
            await self._forget_remote(now - self._settings.remote_keep_ms, None)
        if self._settings.remote_cache_bytes is not None:
            most = self._settings.remote_cache_bytes
            too_much = await self._library.database.run(rows.cached_bytes, self._library.server_name) - most
            if too_much > 0:
                await self._forget_remote(now, too_much)
        if self._settings.local_keep_ms is not None:
            await self._forget_local(now - self._settings.local_keep_ms)

    async def _forget_remote(self, before_ts: int, most_bytes: int | None) -> None:
        """Copies that nobody asked for since, until so many bytes are free."""
        left = most_bytes
        while left is None or left > 0:
            page = await self._library.database.run(rows.unused_remote, self._library.server_name, before_ts, PAGE)
            if not page:
                return
            if left is not None:
                freed = accumulate(medium.size_bytes for medium in page)
                page = page[: 1 + sum(1 for size in freed if size < left)]
                left -= sum(medium.size_bytes for medium in page)
            await self._forget(page, "copies of other servers' files are forgotten")

    async def _forget_local(self, before_ts: int) -> None:
        while page := await self._library.database.run(rows.unused_local, before_ts, PAGE):
            await self._forget(page, "files that nobody asked for are forgotten")

    async def _forget(self, page: Sequence[Medium], why: str) -> None:
        await self._library.forget([medium.key for medium in page])
        _log.info(why, files=len(page), size_bytes=sum(medium.size_bytes for medium in page))

    # What administrators do

    async def quarantine(self, keys: Sequence[MediaKey], by: str) -> int:
        """Nobody may have these files from now on, nor others with the same bytes. How many are or become known.

        Another server's file that was never fetched can't be fetched then.
        """
        return await self._library.database.write(_quarantine, keys, by, self._library.clock.now_ms())

    async def release(self, keys: Sequence[MediaKey]) -> int:
        """They may be had again. How many there are."""
        return await self._library.database.write(rows.quarantine, keys, None)

    async def quarantine_user(self, user_id: str, by: str) -> int:
        """All that somebody uploaded here."""
        return await self.quarantine(await self._keys_of(user_id), by)

    async def quarantine_room(self, room_id: str, by: str) -> int:
        """All that is named in a room's unencrypted events. Raises NotFound where the room is not known."""
        room_nid = await self._library.database.run(room_rows.find_nid, room_id)
        if room_nid is None:
            raise NotFound("There is no such room here")
        found = 0
        after: int | None = event_rows.FIRST
        while after is not None:
            keys, after = await self._library.database.run(media_refs.named_in_room, room_nid, after)
            found += await self.quarantine(sorted(keys), by)
        return found

    async def delete(self, keys: Sequence[MediaKey]) -> int:
        """Be rid of files for good. How many there were."""
        found = await self._library.forget(keys)
        await self._library.tidy()
        return found

    async def delete_user(self, user_id: str) -> int:
        """All that somebody uploaded here."""
        return await self.delete(await self._keys_of(user_id))

    async def usage(self, user_id: str) -> tuple[int, int]:
        """How many bytes and files somebody has here."""
        return await self._library.database.run(rows.usage, user_id)

    async def sweep(self) -> int:
        """Be rid of what is in the store and belongs to nothing, as after a restore: a backup takes files after the
        database, so it may have some that the database does not know. How many there were.
        """
        found = 0
        names = self._library.store.names()
        while page := await self._library.workers.run(_next, names):
            strangers = await self._library.database.run(loose_files.unknown, page)
            if strangers:
                await self._library.database.write(loose_files.put, strangers, 0)
            found += len(strangers)
        await self._library.tidy()
        return found

    async def _keys_of(self, user_id: str) -> list[MediaKey]:
        found: list[MediaKey] = []
        while page := await self._library.database.run(rows.of_user, user_id, found[-1][1] if found else ""):
            found += [medium.key for medium in page]
        return found

    # What accounts do

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nothing to do for those who come."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """Whoever wants to be forgotten takes their files along, but for what others go on showing."""
        if erase:
            media_ids = [media_id for _, media_id in await self._keys_of(user_id)]
            await self._library.database.write(media_refs.delete_unheld, media_ids, self._library.clock.now_ms())


def _next(names: Iterator[str]) -> list[str]:
    return list(islice(names, PAGE))


def _quarantine(cursor: Cursor, keys: Sequence[MediaKey], by: str, now: int) -> int:
    own = cursor.shared.server_name
    for origin, media_id in keys:
        if origin != own:
            rows.note_remote(cursor, placeholder(origin, media_id, now))
    return rows.quarantine(cursor, keys, by)


def placeholder(origin: str, media_id: str, now: int) -> Medium:
    """Another server's file of which only something is known."""
    return Medium(
        origin=origin,
        media_id=media_id,
        user_id=None,
        created_ts=now,
        expires_ts=None,
        used_ts=now,
        size_bytes=0,
        type="",
        name=None,
        sha256=None,
        file=None,
        is_open=False,
    )
