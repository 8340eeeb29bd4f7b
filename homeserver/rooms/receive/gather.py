"""Asking peers for what an event rests on: the events before it, the state before those, and what they cite.

A peer may lie, stall, or send a flood, so every question has limits: in number here, in bytes and time in the
transport. What comes back goes through the same checks as what was sent unasked.

Spec: https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import structlog
from attrs import field

from federation.outbound.transport import BadAnswer, PeerError
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.parse import read_pdu
from federation.room.pdu import Pdu
from federation.room.redaction import redact_event
from federation.room.versions import RoomVersion
from federation.service import service
from federation.threads import Inline, Workers
from homeserver.rooms.receive.ports import Peers, StateIds, Verifier

MAX_MISSING = 20
"""Events per question for missing ones, as the specification suggests and peers allow at most."""
MAX_STATES = 10
"""States that are taken on a peer's word for one event."""
MAX_FETCHED = 2_000
"""Events that one event may make this server fetch one by one."""

AT_ONCE = 250
"""Events of a large answer that are taken apart at a time: in a thread, so that others need not wait for all of it."""

log = structlog.get_logger("homeserver.rooms.receive")


class Budget(msgspec.Struct):
    """What one incoming event may cost in questions."""

    states: int = MAX_STATES
    events: int = MAX_FETCHED


class Delivered(msgspec.Struct, frozen=True):
    """Events that a peer gave, by id."""

    events: Mapping[str, Event] = msgspec.field(default_factory=dict)
    spoilt: frozenset[str] = frozenset()
    """Those that are not validly signed, or whose keys can't be had."""

    def with_more(self, more: Delivered) -> Delivered:
        return Delivered({**self.events, **more.events}, self.spoilt | more.spoilt)


_Checked = tuple[Pdu | str, Event | str]
"""What a peer gave, and what became of it; or twice why it is no event."""


@service
class Gatherer:
    """Asks, checks format, signatures and hashes, and gives events or nothing."""

    peers: Peers
    verifier: Verifier
    workers: Workers = field(factory=Inline)

    async def check(self, version: RoomVersion, raws: Sequence[bytes]) -> list[Event | str]:
        """Steps 1 to 3 for each: the event (redacted where its content hash does not match), or why it is dropped."""
        return [outcome for _, outcome in await self._check(version, raws)]

    async def missing_before(
        self,
        server: str,
        version: RoomVersion,
        room_id: str,
        *,
        earliest: Sequence[str],
        latest: Sequence[str],
    ) -> list[Event] | None:
        """Events between `earliest` and `latest`, those that are well formed; None if the peer could not be asked."""
        try:
            raws = await self.peers.get_missing_events(
                server, room_id, earliest=earliest, latest=latest, limit=MAX_MISSING
            )
        except PeerError as error:
            log.info("no missing events", peer=server, room=room_id, why=str(error))
            return [] if isinstance(error, BadAnswer) else None
        return list((await self.sift(version, room_id, raws[:MAX_MISSING])).events.values())

    async def state_ids(self, server: str, room_id: str, event_id: str) -> StateIds | None:
        try:
            return await self.peers.state_ids(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return None

    async def fetch(
        self, server: str, version: RoomVersion, room_id: str, event_ids: Collection[str], budget: Budget
    ) -> Delivered:
        """Single events by id. Those that can't be had, or that are not what was asked for, are left out."""
        found = Delivered()
        for event_id in sorted(event_ids):
            if budget.events <= 0:
                break
            budget.events -= 1
            try:
                raw = await self.peers.event(server, event_id)
            except PeerError as error:
                log.info("no such event", peer=server, event_id=event_id, why=str(error))
                continue
            one = await self.sift(version, room_id, [raw])
            if event_id in one.events or event_id in one.spoilt:
                found = found.with_more(one)
        return found

    async def whole_state(
        self, server: str, version: RoomVersion, room_id: str, event_id: str, known: Collection[str] = ()
    ) -> Delivered:
        """The state before an event and its auth chain, in one answer; nothing if it can't be had. What is `known`
        (a set of ids) is left out.
        """
        try:
            told = await self.peers.state(server, room_id, event_id)
        except PeerError as error:
            log.info("no state", peer=server, room=room_id, event_id=event_id, why=str(error))
            return Delivered()
        return await self.sift(version, room_id, [*told.auth_chain, *told.state], known)

    async def sift(
        self, version: RoomVersion, room_id: str, raws: Sequence[bytes], known: Collection[str] = ()
    ) -> Delivered:
        """What of the events that a peer gave is good, and what is not, by id; without what is `known`.

        An event's id covers its content, so what has the id of a known event need not be looked at again.
        """
        seen = set(known)

        def is_wanted(pdu: Pdu) -> bool:
            is_new = pdu.event.room_id == room_id and pdu.event.event_id not in seen
            seen.add(pdu.event.event_id)
            return is_new

        checked = await self._check(version, raws, is_wanted)
        outcomes = {pdu.event.event_id: outcome for pdu, outcome in checked if isinstance(pdu, Pdu)}
        good = {event_id: outcome for event_id, outcome in outcomes.items() if isinstance(outcome, Event)}
        return Delivered(good, frozenset(outcomes.keys() - good.keys()))

    async def _check(
        self, version: RoomVersion, raws: Sequence[bytes], is_wanted: Callable[[Pdu], bool] = lambda pdu: True
    ) -> list[_Checked]:
        """Take them apart, leave out what is not wanted, check the rest.

        One thread at a time takes events apart: what keeps the interpreter busy gains nothing from others.
        """
        if len(raws) <= AT_ONCE:
            lot = _Lot.of(_read_pdus(version, raws), is_wanted)
            return lot.checked(version, await self.verifier.verify(version, lot.pdus))
        blocks = [raws[start : start + AT_ONCE] for start in range(0, len(raws), AT_ONCE)]
        lots: list[_Lot] = []
        verifying = self.verifier.begin(version)
        reading = self.workers.run(_read_pdus, version, blocks[0])
        for number in range(1, len(blocks) + 1):
            pdus = await reading
            if number < len(blocks):
                reading = self.workers.run(_read_pdus, version, blocks[number])
            lots.append(_Lot.of(pdus, is_wanted))
            verifying.add(lots[-1].pdus)
        faults = await verifying.faults()
        return [one for lot, some in zip(lots, faults, strict=True) for one in lot.checked(version, some)]


class _Lot(msgspec.Struct, frozen=True):
    """Events of an answer that were taken apart: those that are wanted, in their order, and what is none."""

    given: Sequence[Pdu | str]
    pdus: Sequence[Pdu]

    @classmethod
    def of(cls, given: Sequence[Pdu | str], is_wanted: Callable[[Pdu], bool]) -> _Lot:
        wanted = [one for one in given if isinstance(one, str) or is_wanted(one)]
        return cls(wanted, [one for one in wanted if isinstance(one, Pdu)])

    def checked(self, version: RoomVersion, faults: Sequence[str | None]) -> list[_Checked]:
        """With why each event is not validly signed, if it is not."""
        verdicts = iter(faults)
        return [(one, one if isinstance(one, str) else _outcome(version, one, next(verdicts))) for one in self.given]


def _outcome(version: RoomVersion, pdu: Pdu, fault: str | None) -> Event | str:
    return fault or (pdu.event if pdu.is_whole else redact_event(version, pdu.event))


def _read_pdus(version: RoomVersion, raws: Sequence[bytes]) -> list[Pdu | str]:
    """What a thread is given, too."""
    pdus: list[Pdu | str] = []
    for raw in raws:
        try:
            pdus.append(read_pdu(version, raw))
        except BadEvent as error:
            pdus.append(f"not an event: {error}")
    return pdus
