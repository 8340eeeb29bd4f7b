"""Messages from device to device: each is kept until its device says, by its next token, that it has it.

    sendToDevice ─────────┐   one transaction                          /sync since=…   answered, not yet deleted
                          ├── letters of devices here ── states, feeds ──────────────► /sync next_batch: deleted
    m.direct_to_device ───┘   EDUs for other servers ─── post (with the transaction id, or the message's, that was used)

A device that does not come to fetch its letters keeps `MOST_LETTERS` of them, and `MOST_BYTES`: beyond that, the oldest
of whoever has left most there go first, so that nobody can push out what others have said.

Spec: https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

import msgspec
import orjson
from attrs import define, field

from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import canonical_json, check_strict
from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from homeserver.clock import Clock
from homeserver.encryption.shapes import is_name
from homeserver.encryption.states import DeviceState, DeviceStates
from homeserver.errors import BadJson, InvalidParam, MatrixError
from homeserver.http.route import Requester
from homeserver.rooms.transactions import TransactionLog
from homeserver.streams.hub import Hub
from homeserver.streams.positions import take_positions
from homeserver.tasks import Tasks
from storage import to_device as rows
from storage import transactions as transaction_rows
from storage.database import Database
from storage.ports import Cursor, Transaction
from storage.to_device import Letter, Weight

LETTERS_AT_A_TIME = 100
"""In one answer, as the specification has it."""
BYTES_AT_A_TIME = 4 * 1024 * 1024
MAX_LETTER_BYTES = 64 * 1024
MOST_LETTERS = 10_000
MOST_BYTES = 32 * 1024 * 1024
LOOK_AFTER = 100
"""So many letters come before a device's box is weighed again."""
EDU_BYTES = 48 * 1024
"""What is for many devices of a server goes in several EDUs of about this size."""
ALL_DEVICES = "*"

SEEN_MS = 30 * 24 * 60 * 60_000
"""How long it is remembered that another server brought a message."""

Messages = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""User id → device id or `*` → content."""
Events = dict[str, dict[str, bytes]]
"""The same with the whole events, as the device will be shown them."""


class LetterPost(Protocol):
    """Brings EDUs to other servers, in order and until they have taken them. Must not wait and must not raise."""

    def send_letter(self, destination: str, edu: bytes, position: int) -> None:
        """It is in the database already, at that position."""


class Letters(msgspec.Struct, frozen=True, gc=False):
    """What waits for a device."""

    events: list[bytes]
    upto: int | None
    """Where to go on, if that is not all."""


NO_LETTERS = Letters([], None)


class _Delivered(msgspec.Struct, eq=False):
    """The notice of letters."""

    letterbox: Letterbox
    letters_at: int
    """Their place in the stream."""
    edus: Sequence[tuple[str, bytes, int]] = ()
    """Destination, EDU, position."""
    letters: Sequence[Letter] = ()
    """Which devices there are is found out in the transaction."""
    position: int = 0

    def settle(self, letters: Sequence[Letter]) -> None:
        """Called where they are written. A position that nothing was written at must not be seen."""
        self.letters = letters
        self.position = self.edus[-1][2] if self.edus else self.letters_at if letters else 0

    def publish(self, hub: Hub) -> None:
        self.letterbox.delivered(self)


class _Emptied(msgspec.Struct, eq=False):
    """The notice of letters that their device has got."""

    states: DeviceStates
    user_id: str
    device_id: str
    upto: int
    position: int = 0

    def publish(self, hub: Hub) -> None:
        self.states.inbox_emptied(self.user_id, self.device_id, self.upto)


@define(eq=False)
class Letterbox:
    """Everybody's."""

    _database: Database
    _states: DeviceStates
    _transactions: TransactionLog
    _clock: Clock
    _tasks: Tasks
    _server_name: str
    post: LetterPost | None = None
    """None for a server that keeps to itself: what is for others is dropped."""
    _new_id: Callable[[], str] = lambda: secrets.token_urlsafe(15)
    _grown: Counter[tuple[str, str]] = field(factory=Counter, init=False)
    """Letters that came for each device since its box was weighed."""

    # -- sending -----------------------------------------------------------------------------------------------

    async def send(self, who: Requester, event_type: str, txn_id: str, messages: Messages) -> None:
        """Send to devices, here and elsewhere; durable when it answers, and done once for each transaction id.

        Devices that do not exist are passed over. Raises MatrixError naming what is wrong; then nothing is sent.
        """
        if not is_name(event_type):
            raise InvalidParam("`eventType` is longer than 255 bytes, or holds NUL")
        here: Events = {}
        there: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for user_id, contents in messages.items():
            server = _server_of(user_id)
            _check(user_id, contents, is_local=server == self._server_name)
            if server == self._server_name:
                here[user_id] = {
                    device: write_event(who.user_id, event_type, content) for device, content in contents.items()
                }
            elif contents and self.post is not None:
                there[server][user_id] = contents
        edus = [
            (server, edu) for server, people in there.items() for edu in self._edus(who.user_id, event_type, people)
        ]
        transaction = Transaction(who.user_id, who.device_id, f"sendToDevice/{event_type}", txn_id)
        await self._transactions.once_only(transaction, lambda: self._send(who.user_id, here, edus, transaction))

    async def _send(
        self, sender: str, here: Events, edus: Sequence[tuple[str, bytes]], transaction: Transaction
    ) -> None:
        first = take_positions(self._database.counters, 1 + len(edus))
        placed = [(server, edu, first + number) for number, (server, edu) in enumerate(edus, start=1)]
        notice = _Delivered(self, first, placed)
        await self._database.write_and_tell(notice, _send, notice, sender, here, transaction, self._clock.now_ms())

    async def receive(self, origin: str, sender: str, event_type: str, message_id: str, messages: Messages) -> None:
        """Take what another server brings, from a person there; once, however often it comes.

        What is too large, or not for people here, is passed over.
        """
        here: Events = {}
        for user_id, contents in messages.items():
            if _belongs_to(user_id, self._server_name):
                events = {device: write_event(sender, event_type, content) for device, content in contents.items()}
                here[user_id] = {device: json for device, json in events.items() if len(json) <= 2 * MAX_LETTER_BYTES}
        notice = _Delivered(self, take_positions(self._database.counters, 1))
        await self._database.write_and_tell(
            notice, _receive, notice, origin, message_id, sender, here, self._clock.now_ms()
        )

    # -- fetching ----------------------------------------------------------------------------------------------

    async def open(self, user_id: str, device_id: str, state: DeviceState, after: int, upto: int) -> Letters:
        """What waits for a device after one position and up to another. What came up to `after` it has: that goes.

        `state` is the device's, and says that there may be something.
        """
        if after and state.shown:
            if after >= state.shown:
                state.shown = 0
            self._tasks.spawn("letters that were read", self.acknowledge(user_id, device_id, after))
        if state.inbox <= after:
            state.inbox = 0
            return NO_LETTERS
        found = await self.read(user_id, device_id, after, upto)
        if found.events:
            state.shown = max(state.shown, found.upto or upto)
        else:
            self._states.inbox_emptied(user_id, device_id, upto)
        return found

    async def read(self, user_id: str, device_id: str, after: int, upto: int) -> Letters:
        """The same without taking anything for read."""
        waiting = await self._database.run(rows.waiting, user_id, device_id, after, upto, LETTERS_AT_A_TIME + 1)
        events: list[bytes] = []
        size = 0
        for one in waiting:
            size += len(one.json)
            if events and (len(events) == LETTERS_AT_A_TIME or size > BYTES_AT_A_TIME):
                return Letters(events, waiting[len(events) - 1].position)
            events.append(one.json)
        return Letters(events, None)

    async def acknowledge(self, user_id: str, device_id: str, upto: int) -> None:
        """A device has its letters up to a position: they go."""
        notice = _Emptied(self._states, user_id, device_id, upto)
        await self._database.write_and_tell(notice, rows.delete, user_id, device_id, upto)

    # -- housekeeping ------------------------------------------------------------------------------------------

    def delivered(self, notice: _Delivered) -> None:
        """Letters were committed. For their notice only."""
        for letter in notice.letters:
            device = (letter.user_id, letter.device_id)
            self._states.letter_came(*device, notice.letters_at)
            self._grown[device] += 1
            if self._grown[device] >= LOOK_AFTER:
                del self._grown[device]
                self._tasks.spawn("letters too many", self._trim(*device))
        if self.post is not None:
            for destination, edu, position in notice.edus:
                self.post.send_letter(destination, edu, position)

    async def forget_old(self) -> None:
        """Forget which messages other servers brought long ago. To be called once a day."""
        self._grown.clear()
        await self._database.write(rows.forget_seen, self._clock.now_ms() - SEEN_MS)

    async def _trim(self, user_id: str, device_id: str) -> None:
        await self._database.write(_trim, user_id, device_id, self._server_name)

    def _edus(self, sender: str, event_type: str, people: Mapping[str, Mapping[str, Any]]) -> Iterator[bytes]:
        """EDUs for one server that bring these contents to people there."""
        part: dict[str, dict[str, Any]] = {}
        size = 0
        for user_id, by_device in people.items():
            for device, content in by_device.items():
                more = len(orjson.dumps(content)) + len(device) + len(user_id)
                if part and size + more > EDU_BYTES:
                    yield self._edu(sender, event_type, part)
                    part, size = {}, 0
                size += more
                part.setdefault(user_id, {})[device] = content
        if part:
            yield self._edu(sender, event_type, part)

    def _edu(self, sender: str, event_type: str, messages: Messages) -> bytes:
        content = {"sender": sender, "type": event_type, "message_id": self._new_id(), "messages": messages}
        return canonical_json({"content": content, "edu_type": "m.direct_to_device"})


def write_event(sender: str, event_type: str, content: Mapping[str, Any]) -> bytes:
    """The event as its device is shown it."""
    return orjson.dumps({"content": content, "sender": sender, "type": event_type})


def surplus(
    box: Sequence[Weight], server_name: str, most: int = MOST_LETTERS, most_bytes: int = MOST_BYTES
) -> list[int]:
    """The positions of what must go from a device's box, in order, so that no more stays than is allowed.

    People of one other server count as one, as it can invent as many as it likes.
    """
    count, size = len(box), sum(one.size_bytes for one in box)
    if count <= most and size <= most_bytes:
        return []
    left: dict[str, deque[Weight]] = defaultdict(deque)
    shares: dict[str, float] = defaultdict(float)
    for one in box:
        server = one.sender.partition(":")[2]
        who = one.sender if server == server_name else server
        left[who].append(one)
        shares[who] += 1 / most + one.size_bytes / most_bytes
    fullest = [(-share, who) for who, share in shares.items()]
    heapify(fullest)
    going: list[int] = []
    # A little more than it must be, so that it is not done again for the next few.
    while count > most * 9 // 10 or size > most_bytes * 9 // 10:
        share, who = heappop(fullest)
        one = left[who].popleft()
        going.append(one.position)
        count, size = count - 1, size - one.size_bytes
        if left[who]:
            heappush(fullest, (share + 1 / most + one.size_bytes / most_bytes, who))
    return sorted(going)


def _server_of(user_id: str) -> str:
    try:
        return server_of(parse_user_id(user_id))
    except InvalidIdentifier as error:
        raise InvalidParam(f"`messages`: {error}") from None


def _belongs_to(user_id: str, server_name: str) -> bool:
    try:
        return server_of(parse_user_id(user_id)) == server_name
    except InvalidIdentifier:
        return False


def _check(user_id: str, contents: Mapping[str, Mapping[str, Any]], *, is_local: bool) -> None:
    """Raises MatrixError for messages to one person that can't be sent."""
    for device, content in contents.items():
        if not is_name(device):
            raise InvalidParam(f"`messages.{user_id}` holds what is no device id")
        if len(orjson.dumps(content)) > MAX_LETTER_BYTES:
            raise MatrixError(413, "M_TOO_LARGE", f"The message to {user_id} is larger than {MAX_LETTER_BYTES} bytes")
        if not is_local:
            # A transaction is signed as a whole: one that another server can't verify would hold up all others.
            try:
                check_strict(content)
            except NotCanonical as error:
                raise BadJson(f"`messages.{user_id}.{device}`: {error}") from None


# -- in the writer's thread ----------------------------------------------------------------------------------------


def _send(cursor: Cursor, notice: _Delivered, sender: str, here: Events, transaction: Transaction, now_ms: int) -> None:
    transaction_rows.record(cursor, transaction, now_ms)
    notice.settle(_put(cursor, sender, here, notice.letters_at))
    for destination, edu, position in notice.edus:
        rows.post(cursor, destination, position, edu)


def _receive(
    cursor: Cursor, notice: _Delivered, origin: str, message_id: str, sender: str, here: Events, now_ms: int
) -> None:
    is_new = rows.see(cursor, origin, message_id, now_ms)
    notice.settle(_put(cursor, sender, here, notice.letters_at) if is_new else [])


def _put(cursor: Cursor, sender: str, here: Events, position: int) -> list[Letter]:
    """Put letters into the boxes of the devices that there are; gives them."""
    letters = []
    for user_id, devices in rows.devices_of(cursor, list(here)).items():
        events = here[user_id]
        for device_id in devices:
            json = events.get(device_id) or events.get(ALL_DEVICES)
            if json is not None:
                letters.append(Letter(user_id, device_id, sender, json))
    rows.put(cursor, letters, position)
    return letters


def _trim(cursor: Cursor, user_id: str, device_id: str, server_name: str) -> None:
    rows.delete_some(cursor, user_id, device_id, surplus(rows.weights(cursor, user_id, device_id), server_name))
