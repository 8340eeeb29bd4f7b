"""One request and its answer, over a connection that waits or over a new one.

an idle connection to there? ──yes──> ask ──> answer, and the connection waits again
             └──no──> connect ─────────┘
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from federation.discovery.address import Address
from federation.outbound.answer import BadHttp
from federation.outbound.connection import ConnectionEnded, PeerConnection, Question
from federation.outbound.dial import Dialer
from federation.outbound.pool import Pool
from federation.outbound.transport import BadAnswer, Response, Unreachable

_REPEATABLE = frozenset({"GET", "PUT"})
"""May be sent twice without harm: PUT carries a transaction id, or is idempotent otherwise."""


@define(eq=False)
class Exchange:
    """Connects, asks, and keeps connections open for a while."""

    _dialer: Dialer
    _clock: IReactorTime
    _pool: Pool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = Pool(self._clock)

    @property
    def idle_connections(self) -> int:
        return len(self._pool)

    async def ask(
        self, destination: str, addresses: Sequence[Address], question: Question, *, encrypted: bool = True
    ) -> Response:
        """The answer from one of the addresses, which are of one server. Raises `Unreachable`, `BadAnswer`, both with
        the name `destination`, and what the question's sink raises.
        """
        key = (frozenset(addresses), encrypted)
        waiting = self._pool.take(key)
        if waiting is not None:
            try:
                return await self._ask(waiting, destination, key, question)
            except ConnectionEnded as ended:
                # It was closed for being idle just as we began to write: that is nobody's fault.
                if ended.begun or question.method not in _REPEATABLE:
                    raise Unreachable(destination, str(ended)) from None
        connection = await self._dialer.connect_any(destination, addresses, encrypted=encrypted)
        try:
            return await self._ask(connection, destination, key, question)
        except ConnectionEnded as ended:
            raise Unreachable(destination, str(ended)) from None

    def close(self) -> None:
        """Hang up wherever nothing is under way."""
        self._pool.close()

    async def _ask(self, connection: PeerConnection, destination: str, key: Hashable, question: Question) -> Response:
        try:
            response = await connection.ask(question)
        except BadHttp as error:
            raise BadAnswer(destination, str(error)) from None
        self._pool.put(key, connection)
        return response
