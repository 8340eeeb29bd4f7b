"""One request and its answer, on a connection that `homeserver.http.site` keeps.

    headers complete ──> judge: path, method, token present, declared size
                             │ fine                       └ refused: take in a small body unread and answer after it,
                             v                              or answer at once and close where the body is large
    body complete ─────> authenticate ─> rate ─> ask ─> handler ─> answer ─> poured out, where it is long

A handler that takes its body as it comes (`homeserver.http.bodies`) begins when the headers are complete: it is
authenticated and judged by rate while the connection is paused, and what it raises is answered as a refusal is.

Twisted's `Request` is the base for its place in `HTTPChannel` and for its producers (large downloads); everything
that costs time on the usual way, which is a small JSON body in and out, is done here instead.
"""

# Most of Twisted's HTTP has no annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ITransport
from twisted.python.failure import Failure

from homeserver.errors import MatrixError, Unavailable, UnknownToken
from homeserver.http.answer import Answer, answer_of, answer_of_error, to_bytes
from homeserver.http.authenticate import MissingToken
from homeserver.http.bodies import IncomingBody, Source, TooLarge
from homeserver.http.limits import address_key
from homeserver.http.outflow import Outflow
from homeserver.http.route import Auth, Requester, RequestInfo, Upgrade
from homeserver.http.table import Match
from homeserver.http.tap import Tap
from homeserver.lean import absent
from homeserver.observe.log import request_id
from storage.errors import Outage

# HTTP/2 is not spoken here.
with absent("h2"):
    from twisted.web.http import Request
    from twisted.web.http_headers import Headers

if TYPE_CHECKING:
    from homeserver.http.site import Channel, Site

SMALL_BODY = 64 * 1024
"""A refused body up to this size is taken in, so that the connection lives on."""
MOST_DISCARDED = 1024 * 1024
"""After an early answer the rest of the body is read up to here: closing at once could cost the client the answer."""

PREFLIGHT = Answer(204, b"", {"Access-Control-Max-Age": "86400"})

INTERRUPTED = answer_of_error(Unavailable("The server is going down; try again in a moment"))
UPGRADED = Answer(101, b"")
"""Never sent either: whoever took the connection answers by itself."""
HUNG_UP = Answer(499, b"")
"""Never sent: the client is gone. For whoever counts answers."""

NO_HEADERS = Headers()

_log = structlog.get_logger("homeserver.http")
_WITH_TOKEN = (Auth.USER, Auth.GUEST, Auth.VISITOR, Auth.ADMIN)


class Exchange(Request):
    """A request from its first header to the last byte of its answer."""

    channel: Channel | None  # type: ignore[assignment]
    transport: ITransport
    site: Site

    def __init__(self, channel: Channel, queued: object = None) -> None:
        # Not calling super() on purpose: it asks the transport for two addresses and makes what is never used here.
        self.channel = channel
        self.site = channel.site
        assert channel.transport is not None
        self.transport = channel.transport
        self.requestHeaders = Headers()

    # A thousand of these may wait at once for something to happen, so what most never need is not made for each.
    queued = False
    cookies: list[bytes] = ()  # type: ignore[assignment]
    notifications: list[Deferred[None]] = ()  # type: ignore[assignment]
    started = 0.0
    request_id = ""
    _method = ""
    _query = b""
    _token: str | None = None
    _visit: tuple[str, str] | None = None
    """Token and server of somebody who has a home elsewhere."""
    _match: Match | None = None
    _early: Answer | None = None
    _chunks: list[bytes] | None = None
    _size = 0
    _running: Deferred[None] | None = None
    incoming: IncomingBody | None = None
    """The body, where the handler takes it as it comes."""
    outflow: Outflow | None = None
    """The answer, while it is poured out."""

    @cached_property
    def responseHeaders(self) -> Headers:  # type: ignore[override]
        """Only for what writes by Twisted's own means."""
        return Headers()

    def notifyFinish(self) -> Deferred[None]:
        self.notifications = [*self.notifications, Deferred()]
        return self.notifications[-1]

    # What HTTPChannel calls, in this order.

    def parseCookies(self) -> None:
        """There are no cookies in Matrix."""

    def gotLength(self, length: int | None) -> None:
        """The headers are complete; `length` is that of the body, None for chunks of unknown number."""
        assert self.channel is not None
        self.started = self.site.reactor.seconds()
        self.site.exchanges.add(self)
        self._method = self.channel._command.decode("ascii")
        self.uri = self.channel._path
        try:
            self._judge(length)
        except MatrixError as error:
            self._refuse(answer_of_error(error), length)
        else:
            if self._match is not None and self._match.endpoint.streams:
                self._open(length)

    def handleContentChunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._early is not None or self.finished:
            if self._size > MOST_DISCARDED:
                self.loseConnection()
            return
        if self.incoming is not None:
            self.incoming.add(data)
            return
        assert self._match is not None
        limit = self._match.endpoint.route.max_body
        if self._size > limit:
            self._chunks = None
            self._refuse(answer_of_error(TooLarge(limit)), None)
        elif self._chunks is None:
            self._chunks = [data]
        else:
            self._chunks.append(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete."""
        self.clientproto = version
        if self.finished:  # an early answer is out, and this was the rest of its body
            if self.channel is not None:
                self.channel.requestDone(self)
        elif self._early is not None:
            self._answer(self._early)
        elif self.incoming is not None:
            self.incoming.end()
        else:
            body = b"".join(self._chunks) if self._chunks is not None else b""
            self._chunks = None
            running = Deferred.fromCoroutine(self._serve(body))
            if not running.called:
                self._running = running

    def connectionLost(self, reason: Failure) -> None:
        """The client went away before it was answered."""
        self._disconnected = True
        self.channel = None
        self._chunks = None
        if self.incoming is not None:
            self.incoming.abandon()
        if self._running is None:
            self.site.exchanges.discard(self)
        elif self._match is not None and self._match.endpoint.interruptible:
            self._running.cancel()
        waiting, self.notifications = self.notifications, []
        for notification in waiting:
            notification.errback(reason)

    def interrupt(self) -> None:
        """End the handler now: its client is told to come again."""
        if self._running is not None:
            self._running.cancel()

    # The way of one request.

    def _judge(self, length: int | None) -> None:
        path, _, self._query = self.uri.partition(b"?")
        if self._method == "OPTIONS":
            self._refuse(PREFLIGHT, length)
            return
        if not path.startswith(b"/"):
            path = _path_of_absolute(path)
        self._match = match = self.site.table.match(self._method, path)
        route = match.endpoint.route
        if route.auth is not Auth.NONE and route.auth is not Auth.FEDERATION:
            self._token = self._find_token()
            if self._token is None and route.auth is Auth.VISITOR:
                self._visit = self._find_visit()
            if self._token is None and self._visit is None and route.auth in _WITH_TOKEN:
                raise MissingToken()
        if length is not None and length > route.max_body and match.endpoint.reads_body:
            raise TooLarge(route.max_body)

    def _open(self, length: int | None) -> None:
        """Begin the handler now, and let it have the body as it comes."""
        assert self._match is not None
        assert self.channel is not None
        expects = self.requestHeaders.getRawHeaders(b"Expect", [b""])[0].lower() == b"100-continue"
        self.requestHeaders.removeHeader(b"Expect")  # the channel would answer at once, and we have not judged yet
        self.channel.pause_reading()
        inlet = _Inlet(self.channel, expects and self.channel._version == b"HTTP/1.1")
        self.incoming = IncomingBody(length, inlet, self._match.endpoint.route.max_body)
        running = Deferred.fromCoroutine(self._serve(b""))
        if not running.called:
            self._running = running

    async def _serve(self, body: bytes) -> None:
        self.request_id = self.site.next_request_id()
        request_id.set(self.request_id)
        assert self._match is not None
        route = self._match.endpoint.route
        try:
            try:
                who: Any = None
                if route.auth is Auth.FEDERATION:
                    who = await self._judge_federation(body)
                elif self._token is not None:
                    who = self.site.authenticate.recall(self._token) or await self._find_requester(self._token)
                elif self._visit is not None:
                    who = await self._find_visitor(*self._visit)
                handling = self._enter(who, body)
                del body, who  # while the handler waits, only it decides what is kept
                result = await handling
                if type(result) is Upgrade:
                    self._hand_over(result)
                    return
                answer = answer_of(result)
            except MatrixError as error:
                answer = answer_of_error(error)
            except CancelledError:
                answer = INTERRUPTED if self.channel is not None else HUNG_UP
            except Outage as error:
                _log.warning("no database", method=self._method, path=route.path, why=str(error))
                answer = answer_of_error(Unavailable("The server can't reach its database; try again later"))
            except Exception:
                _log.exception("handler failed", method=self._method, path=route.path)
                answer = answer_of_error(
                    MatrixError(500, "M_UNKNOWN", f"Internal server error (request {self.request_id})")
                )
            if answer.source is None:
                self._conclude(answer)
            else:
                await self._pour(answer, answer.source)
        except Exception:  # the client must not wait for ever
            _log.exception("answer failed", method=self._method, path=route.path)
            self.site.exchanges.discard(self)
            self.loseConnection()

    def _enter(self, who: Any, body: bytes) -> Awaitable[Any]:
        """Begin the handler, if the requester may, and the ask is one. Raises `MatrixError`."""
        assert self._match is not None
        endpoint, site = self._match.endpoint, self.site
        route = endpoint.route
        if who is not None and route.auth is not Auth.FEDERATION:
            if route.auth is not Auth.OPTIONAL:
                _check_rank(who, route.auth)
            if self._visit is None:
                site.authenticate.note_use(who, self.info)
        if route.rate is not None:
            site.limits.charge(route.rate, _rate_key(who) or address_key(self.address))
        ask = None
        if endpoint.reader is not None:
            if not endpoint.reads_body:
                body = b""
            query = self._query.decode("latin-1")
            if route.headers:
                ask = endpoint.reader.read(self._match.values, query, body, self._headers_for(route.headers))
            else:
                ask = endpoint.reader.read(self._match.values, query, body)
        elif body and endpoint.reads_body:
            site.check_body(body)
        info = self.info() if endpoint.wants_info else None
        self.requestHeaders = NO_HEADERS
        self._token = None
        if endpoint.streams:
            return endpoint.call(who, ask, info, self.incoming)
        return endpoint.call(who, ask, info)

    def _hand_over(self, upgrade: Upgrade) -> None:
        """Give the connection away. Nothing of it is watched over here any more."""
        channel, self.channel = self.channel, None
        self._count(HUNG_UP if channel is None else UPGRADED)
        self.finished = True
        if channel is not None:
            channel.hand_over(upgrade)

    async def _find_requester(self, token: str) -> Requester:
        try:
            return await self.site.authenticate.find(token)
        except UnknownToken:
            # Guessing costs a look-up in the database each.
            self.site.limits.charge("anonymous", address_key(self.address))
            raise

    async def _find_visitor(self, token: str, server: str) -> Requester:
        if self.site.visitors is None:
            raise UnknownToken("This server does not federate")
        # Each has another server asked.
        self.site.limits.charge("anonymous", address_key(self.address))
        return await self.site.visitors(token, server)

    async def _judge_federation(self, body: bytes) -> object:
        gate = self.site.federation
        if gate is None:
            raise MatrixError(404, "M_UNRECOGNIZED", "This server does not federate")
        header = self.requestHeaders.getRawHeaders(b"Authorization", [b""])[0].decode("latin-1")
        return await gate(self._method, self.uri, header, body)

    def _refuse(self, answer: Answer, length: int | None) -> None:
        """Answer without having read the body."""
        self.requestHeaders.removeHeader(b"Expect")  # or "100 Continue" would follow our answer
        self._size = 0
        if self.incoming is not None and self.channel is not None:
            self.channel.resume_reading()
        if length is not None and length <= SMALL_BODY:
            self._early = answer
            return
        assert self.channel is not None
        self.channel.persistent = False
        self._write(answer, close=True)
        self._count(answer)
        self.finished = True

    def _conclude(self, answer: Answer) -> None:
        """Answer, and if the handler left some of its body where it was, as a refusal does."""
        body = self.incoming
        if body is None or body.complete or self.channel is None:
            self._answer(answer)
        else:
            self._running = None
            self._refuse(answer, None if body.length is None or body.torn else body.length - body.received)

    async def _pour(self, answer: Answer, source: Source) -> None:
        """Answer with what comes out of `source`, and close it."""
        channel = self.channel
        try:
            if channel is None:
                self._count(HUNG_UP)
                return
            chunked = source.length is None and self.clientproto == b"HTTP/1.1"
            if self.site.closing or (source.length is None and not chunked):
                channel.persistent = False
            self._write(answer, close=not channel.persistent, chunked=chunked)
            if self._method != "HEAD":
                self.outflow = Outflow(self.transport, self.site.reactor.seconds)
                channel.registerProducer(self.outflow, True)
                try:
                    await self.outflow.pour(source, chunked=chunked)
                finally:
                    self.outflow = None
                    channel.unregisterProducer()
            self.finished = True
            self._count(answer)
        except Exception as error:
            # Half of an answer is out: all that is left is to end the connection before its time.
            if not isinstance(error, CancelledError):
                _log.warning("an answer broke off", path=self._pattern, why=str(error))
            self._count(HUNG_UP)
            if self.channel is not None:
                self.channel.forceAbortClient()
            return
        finally:
            source.close()
        if self.channel is not None:
            self.channel.requestDone(self)

    def _answer(self, answer: Answer) -> None:
        channel = self.channel
        self._count(answer)
        if channel is None:
            return
        if self.site.closing:
            channel.persistent = False
        self._write(answer, close=not channel.persistent)
        self.finished = True
        channel.requestDone(self)

    def _write(self, answer: Answer, close: bool, *, chunked: bool = False) -> None:
        date, head = self.site.date(), self._method == "HEAD"
        self.transport.write(to_bytes(answer, date=date, close=close, head=head, chunked=chunked))

    def _count(self, answer: Answer) -> None:
        self._running = None
        self.site.exchanges.discard(self)
        if self.site.on_answer is not None:
            seconds = self.site.reactor.seconds() - self.started
            self.site.on_answer(self._method, self._pattern, answer.status, seconds)

    @property
    def _pattern(self) -> str:
        return self._match.endpoint.route.path if self._match is not None else ""

    # What handlers and others may want to know.

    @property
    def address(self) -> str:
        """The client's IP address; behind a trusted proxy, the one that the proxy saw."""
        peer = self.channel.peer if self.channel is not None else "unknown"
        if self.site.proxies is None:
            return peer
        return self.site.proxies.client(peer, self.requestHeaders.getRawHeaders(b"X-Forwarded-For", ()))

    def info(self) -> RequestInfo:
        agent = self.requestHeaders.getRawHeaders(b"User-Agent")
        text = agent[0].decode("utf-8", "replace")[:512].replace("\0", "") if agent else ""
        header = self.requestHeaders.getRawHeaders(b"Authorization")
        authorization = header[0].decode("latin-1") if header else ""
        is_direct = not (self.site.proxies is not None or self.requestHeaders.hasHeader(b"X-Forwarded-For"))
        return RequestInfo(self.address, text, self.request_id, authorization, is_direct)

    def _headers_for(self, names: Sequence[str]) -> dict[str, str]:
        """Those of the named headers that came, each line of one after the other."""
        found = {name: self.requestHeaders.getRawHeaders(name.encode("ascii")) for name in names}
        return {name: b", ".join(lines).decode("utf-8", "replace") for name, lines in found.items() if lines}

    def _find_visit(self) -> tuple[str, str] | None:
        header = self.requestHeaders.getRawHeaders(b"Authorization", [b""])[0].decode("latin-1")
        match header.split():
            case [scheme, token, server] if scheme.lower() == "matrixopenid":
                return token, server
        return None

    def _find_token(self) -> str | None:
        header = self.requestHeaders.getRawHeaders(b"Authorization")
        if header is not None:
            scheme, _, token = header[0].decode("latin-1").partition(" ")
            return token.strip() or None if scheme.lower() == "bearer" else None
        if b"access_token=" in self._query:
            # Deprecated in v1.11, and gone from the specification's next release; older clients still do it.
            from homeserver.http.asks import parse_query

            return parse_query(self._query.decode("latin-1")).get("access_token", [""])[0] or None
        return None


@frozen
class _Inlet:
    """Implements `homeserver.http.bodies.Inlet` on a connection."""

    _channel: Channel
    _expects: bool
    """Whether the client waits to be told to send."""

    def pause(self) -> None:
        self._channel.pause_reading()

    def resume(self) -> None:
        self._channel.resume_reading()

    def welcome(self) -> None:
        if self._expects:
            self._channel._send100Continue()

    def tap(self, most: int) -> Tap | None:
        return self._channel.tap(most)

    def drawn(self, size: int) -> None:
        self._channel.drawn(size)


def _check_rank(who: Requester, auth: Auth) -> None:
    if auth is Auth.ADMIN and not who.is_admin:
        raise MatrixError(403, "M_FORBIDDEN", "Only administrators of this server may do this")
    if who.is_guest and auth is not Auth.GUEST:
        raise MatrixError(403, "M_GUEST_ACCESS_FORBIDDEN", "Guests may not do this")


def _rate_key(who: object) -> str | None:
    if who is None:
        return None
    return who.user_id if isinstance(who, Requester) else str(getattr(who, "server_name", who))


def _path_of_absolute(target: bytes) -> bytes:
    """The path in `http://host/path`, which HTTP/1.1 servers must take too; anything else matches nothing."""
    scheme, separator, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2] if separator and scheme.lower() in (b"http", b"https") else b"/\0"
