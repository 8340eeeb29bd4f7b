"""Has sounds written down: on request, and as they are sent where a guild wants that. Work waits in the database.

asked for ──► waits ──► at work, a piece at a time ──► done: text, and words in the search index
                ▲             │ engine away, three times at most
                └─────────────┘ a restart: it goes on where it was
"""

from __future__ import annotations

import structlog
from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from config import Transcription
from federation.room.identifiers import server_of
from homeserver.clock import Clock
from homeserver.errors import Forbidden, LimitExceeded, MatrixError, NotFound
from homeserver.guilds.rights import RoomRights
from homeserver.media.downloads import Downloads, Wanted
from homeserver.media.library import Library
from homeserver.media.store.port import NotStored
from homeserver.rooms.accept import Accepted
from homeserver.rooms.live import LiveRoom
from homeserver.search.indexer import Indexer
from homeserver.search.texts import file_in
from homeserver.tasks import Tasks
from homeserver.transcripts.engines import CannotTranscribe, Engine, EngineAway
from storage import transcripts as rows
from storage.media import MediaKey, Medium
from storage.transcripts import WAITS, Transcript

OFF, UPLOAD = "off", "upload"
"""What a guild may say of it; on request otherwise."""
FORGIVE_MS = 24 * 3_600_000
"""What failed longer ago than that may be tried again."""
MOST_ATTEMPTS = 3
RETRY_MS = 30_000
AGAIN_MS = 60_000
LONGEST_NAP_S = 3_600.0

log = structlog.get_logger("homeserver.transcripts")


@define(eq=False)
class Scribe:
    """See the module's docstring. One per process; an observer of the door."""

    engine: Engine | None
    """None: nothing is written down here."""
    settings: Transcription
    library: Library
    downloads: Downloads
    rights: RoomRights
    indexer: Indexer
    tasks: Tasks
    clock: Clock
    _running: int = field(default=0, init=False)
    _is_more: bool = field(default=False, init=False)
    """Something came while all were busy."""
    _timer: IDelayedCall | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)

    async def ask(self, user_id: str, wanted: Wanted) -> Transcript:
        """What is said in a sound, as far as it is known; the work is begun where nobody has asked before.

        Raises as `Downloads.find`, Forbidden where a guild does not want it, LimitExceeded where too much waits.
        """
        medium = await self.downloads.find(wanted)
        database = self.library.database
        known = await database.run(rows.get, *medium.key)
        now = self.clock.now_ms()
        if known is not None and (known.state != rows.FAILED or now - known.due_ts < FORGIVE_MS):
            return known
        if self.engine is None:
            raise NotFound("This server does not write down what is said")
        await self._check_wanted(medium)
        return await self._enter(user_id, medium)

    async def start(self) -> None:
        """Take up what a restart interrupted."""
        if self.engine is not None:
            await self.library.database.write(rows.resume)
            self._wake()

    def accepted(self, accepted: Accepted) -> None:
        """Somebody sent a message: perhaps a sound, in a guild that wants all of them written down."""
        if self.engine is None:
            return
        for new in accepted.events:
            event = new.stored.event
            if event.type != "m.room.message" or new.stored.position <= 0:
                continue
            key = file_in(event.content)
            own = self.library.server_name
            # Each server has only its own people's sounds written down unasked: so every one is once.
            if key is not None and key[0] == own and str(server_of(event.sender)) == own:
                self.tasks.spawn("transcripts.sent", self._sent(accepted.room, event.sender, key))

    async def close(self) -> None:
        """Let go. What was at work goes on at the next start."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.engine is not None:
            await self.engine.close()

    # ----------------------------------------------------------------------------------------------------------

    async def _sent(self, room: LiveRoom, sender: str, key: MediaKey) -> None:
        place = await self.rights.place_of(room)
        if place is None or place[0].settings.transcription != UPLOAD:
            return
        try:
            medium = await self.downloads.find(Wanted(*key, timeout_ms=0, may_fetch=False))
            await self._enter(sender, medium)
        except MatrixError as error:
            log.info("a sound is not written down", why=str(error))

    async def _check_wanted(self, medium: Medium) -> None:
        """Raises Forbidden for a file of this server that was sent only where it is not wanted."""
        if medium.origin != self.library.server_name:
            return
        room_ids = await self.library.database.run(rows.rooms_with, medium.media_id)
        wishes = []
        for room_id in room_ids:
            room = await self.rights.rooms.get(room_id)
            place = None if room is None else await self.rights.place_of(room)
            wishes.append(None if place is None else place[0].settings.transcription)
        if wishes and all(wish == OFF for wish in wishes):
            raise Forbidden("This guild does not want sounds to be written down")

    async def _enter(self, user_id: str, medium: Medium) -> Transcript:
        database, now = self.library.database, self.clock.now_ms()
        wanted = Transcript(medium.origin, medium.media_id, user_id, WAITS, now)
        made = await database.write(rows.add, wanted, self.settings.max_waiting, now - FORGIVE_MS)
        if made is None:
            raise LimitExceeded(AGAIN_MS)
        self._wake()
        return made

    def _wake(self) -> None:
        """There is something to do."""
        if self._running >= self.settings.concurrency:
            self._is_more = True
        elif not self._is_closed:
            self._running += 1
            self.tasks.spawn("transcripts.work", self._work())

    async def _work(self) -> None:
        """Do what is due, one after the other."""
        database = self.library.database
        try:
            while not self._is_closed:
                job = await database.write(rows.claim, self.clock.now_ms())
                if job is None:
                    break
                await self._do(job)
            due_ts = await database.run(rows.next_due)
        finally:
            self._running -= 1
        if self._is_more:  # it came while this one was about to go
            self._is_more = False
            self._wake()
        elif due_ts is not None and not self._is_closed:
            self._wind((due_ts - self.clock.now_ms()) / 1000)

    def _wind(self, delay_s: float) -> None:
        """Set the timer for what was put off."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.clock.timers.callLater(min(max(delay_s, 0.1), LONGEST_NAP_S), self._strike)

    def _strike(self) -> None:
        self._timer = None
        self._wake()

    async def _do(self, job: Transcript) -> None:
        database, key = self.library.database, job.key
        try:
            await self._listen(job)
        except CannotTranscribe as error:
            await database.write(rows.fail, key, str(error), self.clock.now_ms())
        except EngineAway as error:
            log.warning("a sound can't be written down now", why=str(error), attempts=job.attempts + 1)
            now, attempts = self.clock.now_ms(), job.attempts + 1
            if attempts >= MOST_ATTEMPTS:
                await database.write(rows.fail, key, "what listens could not be reached", now)
            else:
                await database.write(rows.put_off, key, now + RETRY_MS * 2**job.attempts, attempts)

    async def _listen(self, job: Transcript) -> None:
        assert self.engine is not None
        database, key = self.library.database, job.key
        medium = await self.library.find(*key)
        if medium is None or medium.file is None or medium.quarantined_by is not None:
            raise CannotTranscribe("the file is not there any more")
        if medium.size_bytes > self.settings.max_bytes:
            raise CannotTranscribe("the file is too large")
        text, heard_ms = job.text, job.heard_ms
        try:
            async with self.library.as_file(medium.file) as path:
                while True:
                    piece = await self.engine.hear(path, medium, heard_ms)
                    text = f"{text} {piece.text}".strip()
                    if piece.is_end:
                        break
                    heard_ms = piece.end_ms
                    await database.write(rows.heard, key, text, heard_ms, piece.duration_ms)
        except NotStored:
            raise CannotTranscribe("the file is not there any more") from None
        text = text.replace("\0", "")
        await database.write(rows.finish, key, text, piece.duration_ms, piece.language, self.clock.now_ms())
        await self.indexer.catch_up()
