"""The files that are here: their rows in the database, and their bytes in the store, kept together.

    draft ──> shelve: told loose, put in the store ──> enter ──> read, as often as somebody wants ──> forget
                                                                                                        │
    tidy, every minute: what is loose and due is deleted from the store  <──────────────────────────────┘

Between the steps a crash may come: then a file is loose, and `tidy` finds it (`storage.loose_files`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import structlog
from attrs import Factory, define, field
from msgspec.structs import replace

from federation.threads import Workers
from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.http.bodies import Source
from homeserver.http.tap import Tap
from homeserver.media.draft import Draft, clear_abandoned
from homeserver.media.names import Folder, LooseNames
from homeserver.media.store.port import INCOMING, NotStored, Store, StoreFailed
from homeserver.media.store.reading import open_source
from storage import loose_files
from storage import media as rows
from storage.database import Database
from storage.media import Added, MediaKey, Medium
from storage.ports import Cursor

NOTED_MS = 60 * 60 * 1000
"""A file's last use is written down when it is so much newer than what is written."""
MOST_NOTED = 20_000

_log = structlog.get_logger("homeserver.media")


@define(eq=False)
class Library:
    """Everything else about files goes through here."""

    server_name: str
    clock: Clock
    database: Database
    store: Store
    workers: Workers
    """For reading and writing files."""
    folder: Path
    _names: LooseNames = field(
        default=Factory(lambda self: LooseNames(self.database, self.clock), takes_self=True), init=False
    )
    _uses: dict[MediaKey, int] = field(factory=dict, init=False)

    @property
    def incoming(self) -> Path:
        """The folder for what is on its way."""
        return self.folder / INCOMING

    def prepare(self) -> None:
        """Clear what crashes left. Blocks; raises OSError."""
        if left := clear_abandoned(self.incoming):
            _log.info("uploads that never ended were deleted", files=left)

    # In

    @asynccontextmanager
    async def draft(self) -> AsyncIterator[Draft]:
        """A file to write to, which is gone in the end unless it was kept."""
        draft = Draft.new(self.incoming)
        try:
            yield draft
        finally:
            if not draft.shelved:
                # Not waited for: whoever was writing may have been cancelled while a thread is still at it.
                self.workers.run(draft.discard)

    async def write(self, draft: Draft, pieces: Sequence[bytes], tap: Tap | None = None) -> None:
        """Add to a draft, and what comes by the tap. Raises Unavailable."""
        try:
            if tap is None:
                await self.workers.run(draft.write, pieces)
            else:
                await self.workers.run(draft.draw, pieces, tap)
        except OSError as error:
            raise _full(error) from None

    async def shelve(self, draft: Draft, folder: Folder, last: Sequence[bytes] = ()) -> str:
        """Put a draft in the store, with these bytes at its end; the name that it has got there.

        It is loose: `enter` must follow. Raises Unavailable.
        """
        name = await self._names.take(folder)
        try:
            await self.workers.run(_shelve, self.store, name, draft, last)
        except OSError as error:
            raise _full(error) from None
        return name

    async def shelve_made(self, path: Path, folder: Folder) -> str:
        """Put a file that a worker made in the store, as `shelve` does a draft."""
        name = await self._names.take(folder)
        try:
            await self.workers.run(self.store.put, name, path)
        except OSError as error:
            raise _full(error) from None
        return name

    async def enter(self, medium: Medium, enter: Callable[[Cursor, Medium], Added]) -> Added:
        """Enter what was shelved, in the writer's transaction. What `enter` does not call DONE is not kept.

        Raises Unavailable.
        """
        file = medium.file
        assert file is not None
        verdict = await self.database.write(enter, medium)
        lost: set[MediaKey] = set()
        while verdict is Added.ALIKE:
            for other in await self.database.run(rows.undigested, medium.size_bytes):
                assert other.file is not None
                try:
                    await self.database.write(rows.set_digest, other.key, await self._digest(other.file))
                except NotStored:
                    lost.add(other.key)
            if medium.sha256 is None:
                medium = replace(medium, sha256=await self._digest(file))
            verdict = await self.database.write(_enter_known, medium, enter, lost)
        if verdict is not Added.DONE:
            await self.database.write(loose_files.put, [file], 0)
        return verdict

    # Out

    async def find(self, origin: str, media_id: str) -> Medium | None:
        """What is known of a file, whether it is here or not."""
        return await self.database.run(rows.get, origin, media_id)

    async def read(self, file: str, start: int, length: int) -> Source:
        """A piece of a stored file. Raises NotStored, and Unavailable where the store does not answer."""
        try:
            return await open_source(self.workers, self.store, file, start, length)
        except NotStored:
            raise
        except StoreFailed as error:
            raise _silent(error) from None

    @asynccontextmanager
    async def as_file(self, file: str) -> AsyncIterator[Path]:
        """A stored file as one that a worker can open. Raises NotStored, and Unavailable as `read` does."""
        opened = ExitStack()
        try:
            try:
                path = await self.workers.run(opened.enter_context, self.store.as_file(file))
            except NotStored:
                raise
            except StoreFailed as error:
                raise _silent(error) from None
            yield path
        finally:
            self.workers.run(opened.close)

    async def _digest(self, file: str) -> bytes:
        async with self.as_file(file) as path:
            return await self.workers.run(_sha256, path)

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """Where a worker can write something; gone in the end, unless it is somewhere else by then."""
        path = self.incoming / secrets.token_hex(16)
        await self.workers.run(self.incoming.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            yield path
        finally:
            self.workers.run(path.unlink, missing_ok=True)

    def note_use(self, medium: Medium) -> None:
        """Somebody asked for a file."""
        now = self.clock.now_ms()
        if now - medium.used_ts > NOTED_MS and len(self._uses) < MOST_NOTED:
            self._uses[medium.key] = now

    async def forget(self, keys: Sequence[MediaKey]) -> int:
        """Forget files and what was made of them. How many there were; they leave the store with the next `tidy`."""
        return await self.database.write(rows.delete, keys, self.clock.now_ms())

    # Now and then

    async def write_uses(self) -> None:
        """Write down what was asked for."""
        uses, self._uses = list(self._uses.items()), {}
        if uses:
            await self.database.write(rows.touch, uses)

    async def tidy(self) -> None:
        """Delete what is loose from the store."""
        while names := await self.database.run(loose_files.due, self.clock.now_ms()):
            try:
                await self.workers.run(self.store.delete, names)
            except OSError as error:
                _log.error("files could not be deleted; it is tried again", why=str(error))
                return
            await self.database.write(loose_files.drop, names)


def _enter_known(
    cursor: Cursor, medium: Medium, enter: Callable[[Cursor, Medium], Added], lost: Collection[MediaKey]
) -> Added:
    """Enter a file with its digest, unless another of its length came into quarantine while it was made."""
    if any(other.key not in lost for other in rows.undigested(cursor, medium.size_bytes)):
        return Added.ALIKE
    return enter(cursor, medium)


def _shelve(store: Store, name: str, draft: Draft, last: Sequence[bytes]) -> None:
    """In a thread."""
    draft.write(last)
    draft.finish()
    store.put(name, draft.path)
    draft.shelved = True


def _sha256(path: Path) -> bytes:
    """In a thread."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _silent(error: StoreFailed) -> Unavailable:
    _log.error("the store of files failed", why=str(error))
    return Unavailable("The store of files does not answer; try again in a moment")


def _full(error: OSError) -> Unavailable:
    _log.error("a file could not be written", why=str(error))
    return Unavailable("The server can't keep files just now; try again later")
