"""Transactions from peers: new events and what passes, taken once however often they are sent.

One transaction of a server at a time; the rooms in it side by side, so that a slow one holds up no other. A room that
takes long, as it is being entered or has a gap that is hard to fill, holds up no other transaction either: the answer
goes out without it, and what comes for that room next stands behind it in a line of its own.

Spec: https://spec.matrix.org/v1.19/server-server-api/#transactions
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from attrs import field
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IReactorTime

from federation.bounded import Bounded
from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import parse_json
from federation.room.format import BadEvent
from federation.room.hashing import event_id_of
from federation.room.parse import parse_pdu
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from federation.service import service
from homeserver.errors import BadJson, MatrixError, Unavailable
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.receive.receiver import Receiver
from homeserver.rooms.registry import Rooms
from homeserver.rooms.remote.outside import OutsideRooms
from homeserver.rooms.serve.access import PeerAccess
from homeserver.rooms.serve.edus import Edus
from homeserver.rooms.serve.later import Later
from homeserver.tasks import Tasks
from homeserver.turns import OneAtATime
from storage.errors import Outage

MOST_PDUS = 50
MOST_EDUS = 100
MOST_QUEUED = 50
"""Transactions of one server that wait for the one before them."""
REMEMBERED = 20
"""Answers kept for each server, for when it did not hear them."""

ANSWER_AFTER_S = 10.0
"""Time after which a transaction is answered, whatever is still going on in some of its rooms."""
MOST_LATE = 20
"""Pieces of transactions of one server that may go on after the answer. With more than that it has to wait."""
MOST_LATE_OF_ALL = 500

GUESSES = (ROOM_VERSIONS["12"], ROOM_VERSIONS["10"])
"""In a room that is not known here: by what rules its events would be called, with and without a hash as its id."""

NOT_KEPT = "Not everything could be kept; send it again"

log = structlog.get_logger("homeserver.rooms.serve")

Result = dict[str, str]
"""Empty, or with an `error`."""


class Edu(msgspec.Struct, frozen=True):
    edu_type: str
    content: dict[str, Any] = {}


class Transaction(msgspec.Struct, frozen=True):
    """The body of a transaction."""

    pdus: list[msgspec.Raw] = []
    edus: list[msgspec.Raw] = []


class _RoomOnly(msgspec.Struct, gc=False):
    room_id: str


_decode_transaction = msgspec.json.Decoder(Transaction).decode
_decode_edu = msgspec.json.Decoder(Edu).decode
_decode_room = msgspec.json.Decoder(_RoomOnly).decode


class _Sender(msgspec.Struct, eq=False):
    """One server's transactions."""

    turn: DeferredLock = msgspec.field(default_factory=DeferredLock)
    answers: OrderedDict[str, dict[str, Any]] = msgspec.field(default_factory=OrderedDict)
    waiting: dict[str, list[Deferred[None]]] = msgspec.field(default_factory=dict)
    """Transactions that are being taken, and who sent them again meanwhile."""


@service
class Inbox:
    """Takes transactions."""

    rooms: Rooms
    access: PeerAccess
    receiver: Receiver
    outside: OutsideRooms
    edus: Edus
    timers: IReactorTime
    tasks: Tasks
    later: Later
    _senders: Bounded[str, _Sender] = field(factory=lambda: Bounded(5_000))
    _lines: OneAtATime = field(factory=OneAtATime)
    """By server and room: what is told about one room is taken in its order."""
    _late: Counter[tuple[str, str]] = field(factory=Counter)
    """How many pieces go on after the answer, by server and room."""

    async def take(self, origin: str, txn_id: str, body: bytes) -> dict[str, Any]:
        """Take a transaction, and tell what became of each event in it.

        Raises BadJson, 429 for a flood, and Unavailable where something that must arrive could not be kept: it is then
        to be sent again.
        """
        transaction = _parse(body)
        sender = self._senders.get(origin)
        if sender is None:
            sender = _Sender()
            self._senders.put(origin, sender)
        if txn_id in sender.answers:
            return sender.answers[txn_id]
        if txn_id in sender.waiting:
            waiter: Deferred[None] = Deferred()
            sender.waiting[txn_id].append(waiter)
            await waiter
            if txn_id not in sender.answers:
                raise Unavailable(NOT_KEPT)
            return sender.answers[txn_id]
        if len(sender.turn.waiting) >= MOST_QUEUED:
            raise MatrixError(429, "M_LIMIT_EXCEEDED", "Your server does not wait for our answers")
        sender.waiting[txn_id] = []
        await sender.turn.acquire()
        try:
            answer = await self._take(origin, transaction)
            sender.answers[txn_id] = answer
            while len(sender.answers) > REMEMBERED:
                sender.answers.popitem(last=False)
            return answer
        finally:
            sender.turn.release()
            for waiter in sender.waiting.pop(txn_id):
                waiter.callback(None)

    async def _take(self, origin: str, transaction: Transaction) -> dict[str, Any]:
        by_room: dict[str, list[bytes]] = {}
        for raw in transaction.pdus:
            try:
                room_id = _decode_room(raw).room_id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue  # it can't even be named in the answer
            by_room.setdefault(room_id, []).append(bytes(raw))
        results: dict[str, Result] = {}
        work = {
            room_id: Deferred.fromCoroutine(
                self._lines.alone((origin, room_id), partial(self._take_room, origin, room_id, raws, results))
            )
            for room_id, raws in by_room.items()
        }
        edus = Deferred.fromCoroutine(self._take_edus(origin, transaction.edus))
        is_taken = await self._in_time(origin, work)
        if not await edus or not is_taken:
            raise Unavailable(NOT_KEPT)
        late = [room_id for room_id, piece in work.items() if not piece.called]
        for room_id in late:  # before the peer is told that all is well: this server may go down
            await self.later.keep(origin, room_id, by_room[room_id])
        answer = dict(results)
        for room_id in late:
            piece = work[room_id]
            if not piece.called:
                version = await self.outside.version_of(room_id) or GUESSES[":" in room_id]
                answer.update({name: {} for raw in by_room[room_id] if (name := _name(version, raw))})
                self._late[origin, room_id] += 1
                self.tasks.spawn("late events", self._finish(origin, room_id, piece))
        return {"pdus": answer}

    async def _in_time(self, origin: str, work: Mapping[str, Deferred[None]]) -> bool:
        """Wait until the rooms are done, but not longer than there is time. False where one of them failed."""
        late = sum(count for (server, _), count in self._late.items() if server == origin)
        is_full = late >= MOST_LATE or self._late.total() >= MOST_LATE_OF_ALL
        awaited = [piece for room_id, piece in work.items() if is_full or not self._late[origin, room_id]]
        outcomes: list[bool] = []
        done: Deferred[None] = Deferred()

        def end(outcome: Any, succeeded: bool) -> Any:
            outcomes.append(succeeded)
            if len(outcomes) == len(awaited) and not done.called:
                done.callback(None)
            return outcome if succeeded else None

        for piece in awaited:
            piece.addCallbacks(end, end, callbackArgs=(True,), errbackArgs=(False,))
        if len(outcomes) < len(awaited):
            timer = None if is_full else self.timers.callLater(ANSWER_AFTER_S, done.callback, None)
            await done
            if timer is not None and timer.active():
                timer.cancel()
        return all(outcomes)

    async def _finish(self, origin: str, room_id: str, piece: Deferred[None]) -> None:
        """See a piece to its end of which the answer did not tell. What fails is tried again (`Later`)."""
        try:
            await piece
        except (Outage, Unavailable):
            pass
        finally:
            self._late[origin, room_id] -= 1
            if not self._late[origin, room_id]:
                del self._late[origin, room_id]

    async def _take_edus(self, origin: str, raws: Sequence[msgspec.Raw]) -> bool:
        """One after the other; they don't wait for the events. False where one that must arrive could not be kept."""
        is_kept = True
        under_way: list[Deferred[None]] = []
        for raw in raws:
            try:
                edu = _decode_edu(raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            taken = Deferred.fromCoroutine(self.edus.take(origin, edu.edu_type, edu.content))
            if edu.edu_type in self.edus.must_arrive:
                under_way.append(taken)
            else:
                await taken
        for succeeded, _ in await DeferredList(under_way, consumeErrors=True):
            is_kept = is_kept and succeeded
        return is_kept

    async def _take_room(self, origin: str, room_id: str, raws: Sequence[bytes], results: dict[str, Result]) -> None:
        """The events of one room in their order. Raises where they could not be looked at."""
        try:
            # Who is let in hears of what follows at once, and it may be here before the room is.
            await self.outside.settled(room_id)
            room = await self.rooms.get(room_id)
            if room is None or not room.local_joined:
                await self._take_outside(origin, room_id, room, raws, results)
                return
            if not await self.access.is_allowed(origin, room):
                names = [_name(room.version, raw) for raw in raws]
                results.update({name: _error("Your server is not allowed in this room") for name in names if name})
                return
            verdicts = await self.receiver.receive(origin, room_id, raws)
            unfounded = [raw for raw, verdict in zip(raws, verdicts, strict=True) if verdict.outcome == "unfounded"]
            if unfounded:
                await self.later.keep(origin, room_id, unfounded)
            for raw, verdict in zip(raws, verdicts, strict=True):
                name = verdict.event_id or _name(room.version, raw)
                if name is not None:
                    # COMPAT Complement, Synapse: what is missing is nothing that this event could be blamed for.
                    # COMPAT Sytest: nor is a rejected one an error. It was dealt with, as it should be.
                    is_well = verdict.outcome in ("accepted", "known", "rejected", "soft-failed", "unfounded")
                    results[name] = {} if is_well else _error(verdict.why or verdict.outcome)
        except CancelledError:
            raise  # this server is going down
        except (Outage, Unavailable) as error:
            log.warning("no events can be taken now", peer=origin, room=room_id, why=str(error))
            raise
        except Exception:
            log.exception("events could not be taken", peer=origin, room=room_id)
            version = GUESSES[":" in room_id]
            results.update({name: _error("Internal server error") for raw in raws if (name := _name(version, raw))})

    async def _take_outside(
        self, origin: str, room_id: str, room: LiveRoom | None, raws: Sequence[bytes], results: dict[str, Result]
    ) -> None:
        """Of rooms that this server is not in it hears one thing: that an invitation or a knock has come to its end."""
        version = await self.outside.version_of(room_id)
        for raw in raws:
            name = _name(version or GUESSES[":" in room_id], raw)
            taken = version is not None and await self.outside.take_end(origin, version, room_id, raw)
            if name is not None:
                results[name] = {} if taken else _error("This server is not in that room")


def _parse(body: bytes) -> Transaction:
    try:
        transaction = _decode_transaction(body)
    except msgspec.ValidationError as error:
        raise BadJson(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadJson("The body is not JSON", "M_NOT_JSON") from None
    if len(transaction.pdus) > MOST_PDUS or len(transaction.edus) > MOST_EDUS:
        raise BadJson(f"A transaction has at most {MOST_PDUS} PDUs and {MOST_EDUS} EDUs")
    return transaction


def _name(version: RoomVersion, raw: bytes) -> str | None:
    """The id of an event, also of one that is not well formed; None where it has none."""
    try:
        return parse_pdu(version, raw).event_id
    except BadEvent:
        pass
    try:
        fields: object = parse_json(raw, exact=not version.strict_json)
        return event_id_of(version, fields) if isinstance(fields, Mapping) else None
    except (NotCanonical, KeyError, TypeError, ValueError, AttributeError):
        return None


def _error(why: str) -> Result:
    return {"error": why}
