"""Who is asking: from a token to a `Requester`, in memory for whoever was here lately.

    Authorization: Bearer … ──sha256──> recently seen? ──yes──────────────────────────> Requester
                                             └──no──> the token's record in the database ──┘

Tokens live in memory and in the database as hashes only. Whoever ends a session says so here (`forget`,
`forget_device`, `forget_user`) after the database has it, so an ended token is refused at once.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from attrs import define, field

from homeserver.clock import Clock
from homeserver.errors import MatrixError, UnknownToken
from homeserver.http.route import Requester, RequestInfo

MAX_REMEMBERED = 50_000
MAX_TOKEN = 512
"""Characters; whatever is longer is no token of ours and not worth hashing."""


class MissingToken(MatrixError):
    def __init__(self) -> None:
        super().__init__(401, "M_MISSING_TOKEN", "Missing access token")


class Session(msgspec.Struct, frozen=True):
    """What the database knows of an access token."""

    requester: Requester
    expires_ms: int | None = None
    refreshable: bool = False
    """Whether a refresh token came with it: then its expiry is a soft logout."""


class SessionSource(Protocol):
    """Where sessions are kept; `homeserver.accounts` answers it from the database."""

    async def find_session(self, token_hash: bytes) -> Session | None: ...


class Authenticate(Protocol):
    """What the edge asks."""

    def recall(self, token: str) -> Requester | None:
        """Who this token is, if memory knows; None says nothing."""

    async def find(self, token: str) -> Requester:
        """Who this token is. Raises `UnknownToken`."""

    def note_use(self, who: Requester, info: Callable[[], RequestInfo]) -> None:
        """A request of this requester is being answered; `info` is asked only when it is wanted."""


_Meant = Callable[[Requester], bool]


def hash_token(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


@define
class TokenAuthenticate:
    """The sessions of this server's accounts, the recently used ones in memory."""

    _source: SessionSource
    _clock: Clock
    _on_use: Callable[[Requester, Callable[[], RequestInfo]], None] | None = None
    _capacity: int = MAX_REMEMBERED
    _known: OrderedDict[bytes, Session] = field(factory=OrderedDict, init=False)
    _tokens_of: dict[str, set[bytes]] = field(factory=dict, init=False)
    """The keys of `_known` by user."""
    _looking_up: list[list[_Meant]] = field(factory=list, init=False)
    """For each look-up that is going on: what was forgotten meanwhile, and must not be remembered after all."""

    def recall(self, token: str) -> Requester | None:
        if len(token) > MAX_TOKEN:
            return None
        key = hash_token(token)
        session = self._known.get(key)
        if session is None or (session.expires_ms is not None and session.expires_ms <= self._clock.now_ms()):
            return None
        self._known.move_to_end(key)
        return session.requester

    async def find(self, token: str) -> Requester:
        if len(token) > MAX_TOKEN:
            raise UnknownToken()
        key = hash_token(token)
        session = self._known.get(key) or await self._look_up(key)
        if session is None:
            raise UnknownToken()
        if session.expires_ms is not None and session.expires_ms <= self._clock.now_ms():
            raise UnknownToken("The access token has expired", soft_logout=session.refreshable)
        return session.requester

    def note_use(self, who: Requester, info: Callable[[], RequestInfo]) -> None:
        if self._on_use is not None:
            self._on_use(who, info)

    def forget(self, token_hash: bytes) -> None:
        """This token is no longer what it was."""
        for stale in self._looking_up:
            stale.append(lambda who: who.token_hash == token_hash)
        self._drop(token_hash)

    def forget_device(self, user_id: str, device_id: str) -> None:
        self._forget_of_user(user_id, lambda who: who.user_id == user_id and who.device_id == device_id)

    def forget_user(self, user_id: str) -> None:
        self._forget_of_user(user_id, lambda who: who.user_id == user_id)

    def _forget_of_user(self, user_id: str, meant: _Meant) -> None:
        for stale in self._looking_up:
            stale.append(meant)
        for key in list(self._tokens_of.get(user_id, ())):
            if meant(self._known[key].requester):
                self._drop(key)

    async def _look_up(self, key: bytes) -> Session | None:
        stale: list[_Meant] = []
        self._looking_up.append(stale)
        try:
            session = await self._source.find_session(key)
        finally:
            self._looking_up = [other for other in self._looking_up if other is not stale]
        if session is not None and not any(meant(session.requester) for meant in stale):
            self._known[key] = session
            self._tokens_of.setdefault(session.requester.user_id, set()).add(key)
            if len(self._known) > self._capacity:
                self._drop(next(iter(self._known)))
        return session

    def _drop(self, key: bytes) -> None:
        session = self._known.pop(key, None)
        if session is not None:
            user_id = session.requester.user_id
            tokens = self._tokens_of[user_id]
            tokens.discard(key)
            if not tokens:
                del self._tokens_of[user_id]


class VisitorGate(Protocol):
    """Finds out who shows an OpenID token of another server. Raises `MatrixError`."""

    async def __call__(self, token: str, server: str) -> Requester: ...


class FederationGate(Protocol):
    """Judges a request that a homeserver signed: gives the handler's `who`, or raises `MatrixError`."""

    def __call__(self, method: str, uri: bytes, authorization: str, body: bytes) -> Awaitable[object]: ...
