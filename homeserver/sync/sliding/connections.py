"""What each client has been told on its connections, so that it is told only what is new.

    pos of a request ──► the state it names: older ones are forgotten
    answer           ──► a state more, named by the answer's pos

A client may ask again with the same pos (its answer got lost), so the state that it names is kept until a later one
is named. States share nearly all they hold. They live in memory: after a restart, and where there are too many, a
client is told that its pos is unknown, and begins anew, which is cheap here by design.

MSC4186: https://github.com/matrix-org/matrix-spec-proposals/pull/4186
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec
from attrs import define, field
from immutables import Map

from homeserver.errors import UnknownPos
from homeserver.http.route import Requester
from homeserver.push.ledger import Unread
from homeserver.streams.hub import Hub
from homeserver.sync.sliding.asks import ListAsk, RoomConfig

MOST_CONNECTIONS = 8
"""Of one device: the one that was used the longest ago goes first."""
MOST_STATES = 4
"""Of one connection: answers that may have got lost."""
MOST_ROOMS = 500_000
"""Told of on all connections together. An entry takes some 200 bytes."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """What a client knows of a room."""

    upto: int
    """All that happened up to this position, as far as it is asked for."""
    membership: str
    config: RoomConfig
    limit: int
    """How many of the newest events it certainly has."""
    members: frozenset[str]
    """Lazy loading: of whom it has the member events."""
    is_dm: bool
    unread: Unread | None = None
    """As it was told."""


class Seen(msgspec.Struct, frozen=True):
    """A list as it was asked for, and what its filters came to."""

    ask: ListAsk
    allowed: frozenset[str] | None


class State(msgspec.Struct, frozen=True):
    """All that was told, up to one answer."""

    position: int
    serial: int
    rooms: Map[int, Sent]
    behind: frozenset[int]
    """Those of the rooms that changed since without being looked at."""
    lists: Mapping[str, Seen]
    extensions: frozenset[str]


NOTHING = State(0, 0, Map(), frozenset(), {}, frozenset())

Key = tuple[str, str, str]
"""User, device, connection id."""


class Connection(msgspec.Struct, eq=False):
    """One of them. A pos is `ss1_<position>_<number of the connection>_<step>`."""

    key: Key
    number: int
    states: dict[int, State] = msgspec.field(default_factory=dict)
    """By step."""
    steps: int = 0
    weight: int = 0

    def add(self, state: State) -> str:
        """What was told with an answer; its pos."""
        self.steps += 1
        self.states[self.steps] = state
        while len(self.states) > MOST_STATES:
            # The first is the one that the client named; of the answers, the latest have most to say for themselves.
            del self.states[list(self.states)[1]]
        return f"ss1_{state.position}_{self.number}_{self.steps}"


@define(eq=False)
class Connections:
    """Everybody's."""

    _hub: Hub
    _held: OrderedDict[Key, Connection] = field(factory=OrderedDict, init=False)
    _weight: int = field(default=0, init=False)

    def open(self, who: Requester, conn_id: str) -> Connection:
        """A new one, in place of the one of that name."""
        key = (who.user_id, who.device_id, conn_id)
        self._drop(key)
        # A serial is of this run of the server only.
        made = self._held[key] = Connection(key, self._hub.next_serial())
        of_device = [one for one in self._held if one[:2] == key[:2]] if len(self._held) > MOST_CONNECTIONS else []
        for one in of_device[: max(0, len(of_device) - MOST_CONNECTIONS)]:
            self._drop(one)
        return made

    def find(self, who: Requester, conn_id: str, pos: str) -> tuple[Connection, State]:
        """What was told up to a pos of this connection. Raises UnknownPos."""
        key = (who.user_id, who.device_id, conn_id)
        connection = self._held.get(key)
        parts = pos.split("_")
        if connection is None or len(parts) != 4 or parts[0] != "ss1" or not all(map(_is_number, parts[1:])):
            raise UnknownPos()
        step = int(parts[3])
        state = connection.states.get(step) if int(parts[2]) == connection.number else None
        if state is None:
            raise UnknownPos()
        self._held.move_to_end(key)
        for older in [one for one in connection.states if one < step]:
            del connection.states[older]
        return connection, state

    def keep(self, connection: Connection, state: State) -> str:
        """An answer is given: its pos."""
        if self._held.get(connection.key) is connection:
            self._weight += len(state.rooms) - connection.weight
            connection.weight = len(state.rooms)
            while self._weight > MOST_ROOMS and len(self._held) > 1:
                self._drop(next(iter(self._held)))
        return connection.add(state)

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        """These devices are no more (`homeserver.accounts.ports.DeviceListener`)."""
        for key in [one for one in self._held if one[0] == user_id and one[1] in device_ids]:
            self._drop(key)

    def __len__(self) -> int:
        return len(self._held)

    def _drop(self, key: Key) -> None:
        if (gone := self._held.pop(key, None)) is not None:
            self._weight -= gone.weight


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
