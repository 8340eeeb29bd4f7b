"""User-interactive authentication: prove step by step that you may do this one thing.

    request without auth ──> 401 with flows and a session
                                  │
    the same request with {session, type, …}
                                  ├── the stage is passed, more are needed ──> 401 with `completed`
                                  ├── the stage is not passed ───────────────> 401 with errcode and error
                                  └── a whole flow is passed ────────────────> the thing is done, the session is over

A session is for one operation of one user: it is no good for anything else. Sessions live in memory; who comes back
after a restart, or too late, is given a new one.
Spec: https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from attrs import define, field

from federation.service import service
from homeserver.accounts.credentials import Credentials, parse_attempt
from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, MatrixError

SESSION_MS = 15 * 60 * 1000
MAX_SESSIONS = 10_000

PASSWORD = "m.login.password"
DUMMY = "m.login.dummy"


class AuthenticationNeeded(MatrixError):
    """401 with what the client has to do. The first one of a session is no error, so it has no errcode."""

    def __init__(self, body: Mapping[str, Any], failed: MatrixError | None = None) -> None:
        super().__init__(401, failed.errcode if failed else "", failed.error if failed else "", body)


class Attempt(msgspec.Struct, frozen=True):
    """What a stage has to judge."""

    auth: Mapping[str, Any]
    """The client's `auth`."""
    user_id: str | None
    """Who is asking; None while registering."""
    address: str


class Stage(Protocol):
    """One kind of proof."""

    @property
    def type(self) -> str: ...

    async def judge(self, attempt: Attempt) -> str:
        """What was proven, as a word for whoever asked for it. Raises `MatrixError` if it was not."""


class _Session(msgspec.Struct):
    operation: str
    user_id: str | None
    flows: Sequence[Sequence[str]]
    expires_ms: int
    completed: dict[str, str] = msgspec.field(default_factory=dict)

    def passed(self) -> bool:
        return any(all(stage in self.completed for stage in flow) for flow in self.flows)


@define
class InteractiveAuth:
    """Keeps the sessions and asks the stages."""

    _clock: Clock
    _stages: Mapping[str, Stage]
    _sessions: OrderedDict[str, _Session] = field(factory=OrderedDict, init=False)

    async def require(
        self,
        operation: str,
        flows: Sequence[Sequence[str]],
        auth: Mapping[str, Any] | None,
        *,
        user_id: str | None,
        address: str,
    ) -> Mapping[str, str]:
        """Let through who has passed one of `flows` for `operation`; gives what each stage said.

        `operation` names all that the proof is for: what is to be done, and to what. Raises `AuthenticationNeeded`
        until then, `Forbidden` where the session is for something else.
        """
        self._sweep()
        session_id, session, lost = self._session_of(auth, operation, flows, user_id)
        if lost:
            raise self._needed(session_id, session, MatrixError(401, "M_UNKNOWN", "This session is over: begin anew"))
        if auth:
            await self._try_stage(session_id, session, Attempt(auth, user_id, address))
        if not auth or not session.passed():
            raise self._needed(session_id, session)
        self._sessions.pop(session_id, None)
        return session.completed

    def offers(self, session_id: str, kind: str) -> bool:
        """Whether a session is waiting for this stage: then a page in a browser may pass it, see `pass_stage`."""
        self._sweep()
        session = self._sessions.get(session_id)
        return session is not None and any(kind in flow for flow in session.flows) and kind not in session.completed

    async def pass_stage(self, session_id: str, auth: Mapping[str, Any], address: str) -> None:
        """Pass a stage outside of the request that it is for, which then comes with the session alone.

        `offers` must have said yes. Raises `MatrixError` if the proof is not good.
        """
        session = self._sessions[session_id]
        await self._try_stage(session_id, session, Attempt(auth, session.user_id, address))

    async def _try_stage(self, session_id: str, session: _Session, attempt: Attempt) -> None:
        kind = attempt.auth.get("type")
        if kind is None:
            return  # only asks how far it is
        if not isinstance(kind, str):
            raise BadJson("'auth.type': Expected `str`")
        if kind in session.completed:
            return
        stage = self._stages.get(kind)
        if stage is None or not any(kind in flow for flow in session.flows):
            raise self._needed(session_id, session, MatrixError(401, "M_UNKNOWN", f"{kind} is not offered here"))
        try:
            session.completed[kind] = await stage.judge(attempt)
        except MatrixError as error:
            if error.status in (401, 403) and not isinstance(error, WrongPerson):
                raise self._needed(session_id, session, error) from None
            raise

    def _session_of(
        self, auth: Mapping[str, Any] | None, operation: str, flows: Sequence[Sequence[str]], user_id: str | None
    ) -> tuple[str, _Session, bool]:
        """The session that is meant, or a new one; and whether one was meant that is not there."""
        named = auth.get("session") if auth else None
        if named is not None and not isinstance(named, str):
            raise BadJson("'auth.session': Expected `str`")
        session = self._sessions.get(named) if named is not None else None
        if named is not None and session is not None:
            if (session.operation, session.user_id) != (operation, user_id):
                raise Forbidden("This session was begun for something else")
            return named, session, False
        # COMPAT: many clients (matrix-nio, Complement's) send their proof at once, without having asked for a session.
        session_id = secrets.token_urlsafe(18)
        session = _Session(operation, user_id, flows, self._clock.now_ms() + SESSION_MS)
        self._sessions[session_id] = session
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session_id, session, named is not None

    def _needed(self, session_id: str, session: _Session, failed: MatrixError | None = None) -> AuthenticationNeeded:
        body = {
            "flows": [{"stages": list(flow)} for flow in session.flows],
            "params": {},
            "session": session_id,
            "completed": sorted(session.completed),
        }
        return AuthenticationNeeded(body, failed)

    def _sweep(self) -> None:
        now = self._clock.now_ms()
        while self._sessions and next(iter(self._sessions.values())).expires_ms <= now:
            self._sessions.popitem(last=False)


class WrongPerson(Forbidden):
    """The proof is for somebody else: not a matter of trying again."""


@service
class DummyStage:
    """Passed by anybody. Spec: https://spec.matrix.org/v1.19/client-server-api/#dummy-auth"""

    type = DUMMY

    async def judge(self, attempt: Attempt) -> str:
        return ""


@service
class PasswordStage:
    """Passed by the asking user's own password. Nobody else's is even looked at: this is no place to try them.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#password-based
    """

    _credentials: Credentials
    type = PASSWORD

    async def judge(self, attempt: Attempt) -> str:
        given = parse_attempt(attempt.auth)
        # COMPAT: some clients leave the name out, since the token says it already.
        named = given.named_user() or attempt.user_id
        if named is None or not self._credentials.is_name_of(named, attempt.user_id):
            raise WrongPerson("Confirm this with your own name and password")
        account = await self._credentials.require_account(attempt.user_id, given.password)
        return account.user_id
