"""How long sounds are, and how loud where: what clients draw for voice messages."""

from __future__ import annotations

from attrs import define, field

from federation.flight import SingleFlight
from homeserver.errors import LimitExceeded, MatrixError, NotFound
from homeserver.media.downloads import Downloads, Wanted
from homeserver.media.facts import Fault, facts_of, is_recent, learn
from homeserver.media.library import Library
from homeserver.media.store.port import NotStored
from homeserver.media.turns import AGAIN_MS, Turns
from homeserver.media.workshop.jobs import Failure, Listen, Sound, WorkFailed
from homeserver.media.workshop.pool import Workshop
from storage.media import MediaKey, Medium


class CannotListen(MatrixError):
    def __init__(self) -> None:
        super().__init__(400, "M_UNKNOWN", "There is nothing in this file that can be listened to")


@define(eq=False)
class Sounds:
    """Listens to files, once each."""

    _library: Library
    _downloads: Downloads
    _workshop: Workshop
    _flight: SingleFlight[MediaKey, Sound] = field(factory=SingleFlight, init=False)
    _turns: Turns = field(factory=Turns, init=False)

    async def hear(self, wanted: Wanted) -> Sound:
        """Raises CannotListen, LimitExceeded where too much waits, and as `Downloads.find`."""
        medium = await self._downloads.find(wanted)
        facts = facts_of(medium)
        if facts.sound is not None:
            return facts.sound
        if is_recent(facts.no_sound, self._library.clock.now_ms()):
            raise CannotListen()
        return await self._flight.do(medium.key, lambda: self._listen(medium))

    async def _listen(self, medium: Medium) -> Sound:
        assert medium.file is not None
        async with self._turns.of(medium.user_id or medium.origin):
            try:
                async with self._library.as_file(medium.file) as path:
                    sound = await self._workshop.do(Listen(str(path)), Sound)
            except NotStored:
                await self._downloads.lost(medium)
                raise NotFound("There is no such file any more") from None
            except WorkFailed as error:
                if error.failure is Failure.BUSY:
                    raise LimitExceeded(AGAIN_MS) from None
                fault = Fault(error.failure, self._library.clock.now_ms())
                await self._library.database.write(learn, medium.key, sound=fault)
                raise CannotListen() from None
            await self._library.database.write(learn, medium.key, sound=sound)
            return sound
