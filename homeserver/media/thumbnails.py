"""Pictures made smaller, once, when somebody first asks.

    asked for ──> the rung above ──> small enough as it is? ──yes──> the picture itself
                                          │ no, or not known
                                          v
                                     made already? ──no──> the workshop ──> kept
                                          └──yes─────────────────────────────┴──> sent

Spec: https://spec.matrix.org/v1.19/client-server-api/#thumbnails
"""

from __future__ import annotations

from typing import Literal, Protocol

from attrs import define, field, frozen
from msgspec.structs import replace

from config import Media as Settings
from federation.flight import SingleFlight
from homeserver.errors import InvalidParam, LimitExceeded, MatrixError, NotFound
from homeserver.http.route import Reply
from homeserver.media.downloads import Downloads, Manner, Stored, Wanted, etag_of
from homeserver.media.facts import Facts, Fault, facts_of, is_recent, learn
from homeserver.media.headers import headers_of_file
from homeserver.media.library import Library
from homeserver.media.store.port import NotStored
from homeserver.media.turns import AGAIN_MS, Turns
from homeserver.media.workshop.jobs import Failure, MakeThumbnail, Picture, Thumbnailed, WorkFailed
from homeserver.media.workshop.ladder import rung, will_do
from homeserver.media.workshop.pool import Workshop
from storage import thumbnails as rows
from storage.media import MediaKey, Medium
from storage.ports import Cursor
from storage.thumbnails import Size, Thumbnail

MOST_SIDE = 1_000_000
AS_THEY_ARE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""What may be given out as a thumbnail of itself, where it is small enough."""
ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp", "image/apng": "png"}


class CannotThumbnail(MatrixError):
    """400. Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid"""

    def __init__(self) -> None:
        super().__init__(400, "M_UNKNOWN", "Cannot generate thumbnails for the requested content")


class TooLargeToThumbnail(MatrixError):
    """413 for our own, 502 for what is another server's."""

    def __init__(self, is_ours: bool) -> None:
        super().__init__(413 if is_ours else 502, "M_TOO_LARGE", "Content is too large to thumbnail")


@frozen
class Shape:
    """What somebody wants a picture to be like. Raises InvalidParam where no picture is."""

    width: int
    height: int
    method: Literal["crop", "scale"] = "scale"
    animated: bool = False

    def __attrs_post_init__(self) -> None:
        for name, value in (("width", self.width), ("height", self.height)):
            if not 0 < value <= MOST_SIDE:
                raise InvalidParam(f"Query parameter '{name}': must be from 1 to {MOST_SIDE}")


class ElsewhereMade(Protocol):
    """Fetches thumbnails that other servers have made."""

    async def fetch_thumbnail(self, origin: str, media_id: str, size: Size, timeout_ms: int) -> Thumbnail | None:
        """Have one here; None where the file itself has to be fetched. Raises as `Elsewhere.fetch`."""


class NothingMade:
    """For a server that asks no others for thumbnails."""

    async def fetch_thumbnail(self, origin: str, media_id: str, size: Size, timeout_ms: int) -> Thumbnail | None:
        return None


@define(eq=False)
class Thumbnails:
    """Answers with pictures that are as small as somebody wants them. `made` counts since the start."""

    _library: Library
    _downloads: Downloads
    _workshop: Workshop
    _elsewhere: ElsewhereMade
    _settings: Settings
    _flight: SingleFlight[tuple[MediaKey, Size], tuple[Picture, Thumbnail | None]] = field(
        factory=SingleFlight, init=False
    )
    _turns: Turns = field(factory=Turns, init=False)
    made: int = field(default=0, init=False)

    async def answer(self, wanted: Wanted, shape: Shape, manner: Manner) -> Reply:
        """Raises as `find` and `Downloads.send`."""
        stored = await self.find(wanted, shape)
        try:
            return await self._downloads.send(stored, manner)
        except NotStored:
            await self._lost(wanted, stored)
        try:
            return await self._downloads.send(await self.find(wanted, shape), manner)
        except NotStored:
            raise NotFound("There is no such file any more") from None

    async def find(self, wanted: Wanted, shape: Shape) -> Stored:
        """What to send: the picture itself, or one that is made of it.

        Raises CannotThumbnail, TooLargeToThumbnail, LimitExceeded where too much waits, and as `Downloads.find`.
        """
        side = rung(shape.width, shape.height, shape.method)
        size = Size(*side, shape.method, shape.animated)
        ready = await self._find_elsewhere(wanted, size)
        if ready is not None:
            return _stored(ready)
        medium = await self._downloads.find(wanted)
        facts = self._check(medium)
        if facts.picture is not None:
            size = Size(*side, shape.method, shape.animated and facts.picture.animated)
            if _will_do(facts.picture, size):
                return self._itself(medium, facts.picture)
        found = await self._library.database.run(rows.find, medium.key, size)
        if found is not None:
            return _stored(found)
        picture, made = await self._flight.do((medium.key, size), lambda: self._make(medium, size))
        return self._itself(medium, picture) if made is None else _stored(made)

    def _itself(self, medium: Medium, picture: Picture) -> Stored:
        """The picture as a thumbnail of itself: as what it is, whatever was said of it."""
        return self._downloads.stored(replace(medium, type=picture.type))

    async def _lost(self, wanted: Wanted, stored: Stored) -> None:
        """Forget a thumbnail that is not where it should be: it can be made anew. Backups leave them out."""
        key = (wanted.origin, wanted.media_id)
        await self._library.database.write(rows.delete_file, key, stored.file, self._library.clock.now_ms())

    async def _find_elsewhere(self, wanted: Wanted, size: Size) -> Thumbnail | None:
        """A thumbnail of another server's file that is not here itself: small pictures of large files come faster so.

        None where the file itself is here, or must come. Raises as `Elsewhere.fetch`.
        """
        if wanted.origin == self._library.server_name or not wanted.may_fetch or wanted.only_open:
            return None
        medium = await self._library.find(wanted.origin, wanted.media_id)
        if medium is not None and (medium.file is not None or medium.quarantined_by is not None):
            return None
        found = await self._library.database.run(rows.find, (wanted.origin, wanted.media_id), size)
        if found is not None:
            return found
        return await self._elsewhere.fetch_thumbnail(wanted.origin, wanted.media_id, size, wanted.timeout_ms)

    def _check(self, medium: Medium) -> Facts:
        """What is known of a file. Raises where it is known that nothing will come of it."""
        facts = facts_of(medium)
        fault = facts.no_picture
        if fault is not None and is_recent(fault, self._library.clock.now_ms()):
            raise self._error(medium, fault.failure)
        return facts

    async def _make(self, medium: Medium, size: Size) -> tuple[Picture, Thumbnail | None]:
        """Make one and keep it, unless the picture itself will do."""
        assert medium.file is not None
        owner = medium.user_id or medium.origin
        async with self._turns.of(owner), self._library.scratch() as out:
            try:
                async with self._library.as_file(medium.file) as path:
                    job = MakeThumbnail(
                        str(path), str(out), size.width, size.height, size.method, size.animated,
                        self._settings.max_pixels,
                    )  # fmt: skip
                    result = await self._workshop.do(job, Thumbnailed)
            except NotStored:
                await self._downloads.lost(medium)
                raise NotFound("There is no such file any more") from None
            except WorkFailed as error:
                await self._note_fault(medium, error)
                raise self._error(medium, error.failure) from None
            if result.made is None:
                await self._library.database.write(learn, medium.key, picture=result.picture)
                return result.picture, None
            self.made += 1
            size_bytes = out.stat().st_size
            name = await self._library.shelve_made(out, "thumbnails")
            moves = size.animated and result.picture.animated
            made = Thumbnail(Size(size.width, size.height, size.method, moves), result.made, size_bytes, name)
            await self._library.database.write(_enter, medium.key, result.picture, made)
            return result.picture, made

    async def _note_fault(self, medium: Medium, error: WorkFailed) -> None:
        if error.failure is not Failure.BUSY:
            fault = Fault(error.failure, self._library.clock.now_ms())
            await self._library.database.write(learn, medium.key, picture=fault)

    def _error(self, medium: Medium, failure: Failure) -> MatrixError:
        match failure:
            case Failure.TOO_LARGE:
                return TooLargeToThumbnail(medium.origin == self._library.server_name)
            case Failure.BUSY:
                return LimitExceeded(AGAIN_MS)
            case _:
                return CannotThumbnail()


def _will_do(picture: Picture, size: Size) -> bool:
    small = will_do(picture.width, picture.height, (size.width, size.height))
    return small and picture.type in AS_THEY_ARE and (size.animated or not picture.animated)


def _stored(found: Thumbnail) -> Stored:
    etag = etag_of(found.file)
    headers = headers_of_file(found.type, f"thumbnail.{ENDINGS[found.type]}", etag=etag, inline=True)
    return Stored(found.file, found.size_bytes, etag, headers)


def _enter(cursor: Cursor, key: MediaKey, picture: Picture, made: Thumbnail) -> None:
    learn(cursor, key, picture=picture)
    rows.add(cursor, key, [made])
