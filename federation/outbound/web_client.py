"""The real way to the web: any URL, and still nobody can make this server ask the network that it stands in.

    URL ── its host's turn ── look up, judge ── connect ── ask ──> answer
     ▲                                                                │
     └──────────────────────────── a redirect ────────────────────────┘

What a name is looked up as is judged before anything connects, for each redirect anew. Size, time, redirects and what
a packed body unpacks to are limited.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from federation.discovery.address import Address
from federation.outbound.connection import Question
from federation.outbound.dial import Dialer
from federation.outbound.exchange import Exchange
from federation.outbound.transport import BadAnswer, Response, Sink, Unreachable
from federation.outbound.turns import Turns
from federation.outbound.web import BadUrl, Url, WebRequest, WebResponse, next_url, parse_url

PIECE_BYTES = 64 * 1024
"""What a sink is given at once."""

_CREDENTIALS = frozenset({"authorization", "cookie"})
_PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})


@define(eq=False)
class WebClient:
    """Implements `Web`."""

    _dialer: Dialer
    _clock: IReactorTime
    _user_agent: str
    _on_close: Callable[[], object] = lambda: None
    _turns: Turns = field(init=False)
    _exchange: Exchange = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._turns = Turns(self._clock)
        self._exchange = Exchange(self._dialer, self._clock)

    @property
    def idle_connections(self) -> int:
        return self._exchange.idle_connections

    async def fetch(self, request: WebRequest) -> WebResponse:
        try:
            url = parse_url(request.url)
        except BadUrl as error:
            raise Unreachable(request.url[:100], str(error), retryable=False) from None
        if not url.encrypted and not request.plain:
            raise Unreachable(url.host, "only https will do", retryable=False)
        return await self._turns.run(url.host, partial(self._follow, url, request), request.timeout_s)

    async def close(self) -> None:
        self._turns.close()
        self._exchange.close()
        self._on_close()

    async def _follow(self, url: Url, request: WebRequest) -> WebResponse:
        """What the last of the pages says; a redirect that leads nowhere is such a page itself."""
        seen = {url.text}
        while True:
            response = await self._ask(url, request)
            target = next_url(url, response.status, response.headers)
            if target is None or target.text in seen or len(seen) > request.max_redirects:
                return WebResponse(url.text, response.status, response.headers, response.body)
            seen.add(target.text)
            request = _redirected(request, response.status, stranger=target.origin != url.origin)
            url = target

    async def _ask(self, url: Url, request: WebRequest) -> Response:
        address = Address(url.host, url.port, tls_name=url.host, host_header=url.host_header)
        sink = None if request.sink is None else _Unpacking(url.host, request.sink, request.max_bytes)
        question = Question(
            method=request.method,
            target=url.target,
            host=url.host_header,
            headers={"User-Agent": self._user_agent, "Accept-Encoding": "gzip", **request.headers},
            body=request.body,
            max_bytes=request.max_bytes,
            sink=sink,
        )
        response = await self._exchange.ask(url.host, [address], question, encrypted=url.encrypted)
        if sink is not None and sink.begun:
            sink.end()
            return response
        return msgspec.structs.replace(response, body=unpack(url.host, response, request.max_bytes))


def _redirected(request: WebRequest, status: int, *, stranger: bool) -> WebRequest:
    """The request as it goes where a redirect leads. Spec: RFC 9110, section 15.4"""
    if stranger:
        kept = {name: text for name, text in request.headers.items() if name.lower() not in _CREDENTIALS}
        request = msgspec.structs.replace(request, headers=kept)
    if status == 303 or (status in (301, 302) and request.method == "POST"):
        return msgspec.structs.replace(request, method="GET", body=None)
    return request


def unpack(host: str, response: Response, max_bytes: int) -> bytes:
    """The body as it was before it was packed for the way. Raises `BadAnswer`."""
    unpacker = _unpacker(host, response.headers)
    if unpacker is None or not response.body:
        return response.body
    try:
        body = unpacker.decompress(response.body, max_bytes + 1)
    except zlib.error as error:
        raise BadAnswer(host, f"its body cannot be unpacked: {error}") from None
    if len(body) > max_bytes:
        raise BadAnswer(host, f"the answer is larger than {max_bytes} bytes")
    if not unpacker.eof:
        raise BadAnswer(host, "its body ends too early")
    return body


def _unpacker(host: str, headers: Mapping[str, str]) -> zlib._Decompress | None:
    packing = headers.get("content-encoding", "identity").strip().lower()
    if packing in ("identity", ""):
        return None
    if packing not in _PACKINGS:
        raise BadAnswer(host, f"its body is packed in a way that is not known here: {packing[:50]}")
    return zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is


@define(eq=False)
class _Unpacking:
    """A sink before another that unpacks what came packed."""

    _host: str
    _sink: Sink
    _left: int
    begun: bool = field(default=False, init=False)
    _empty: bool = field(default=True, init=False)
    _unpacker: zlib._Decompress | None = field(default=None, init=False)

    def begin(self, headers: Mapping[str, str]) -> None:
        self.begun = True
        self._unpacker = _unpacker(self._host, headers)
        self._sink.begin(headers)

    async def write(self, data: bytes) -> None:
        unpacker = self._unpacker
        if unpacker is None:
            await self._sink.write(data)
            return
        self._empty = False
        more = True
        while more:
            try:
                piece = unpacker.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise BadAnswer(self._host, f"its body cannot be unpacked: {error}") from None
            data = unpacker.unconsumed_tail
            more = bool(data) or len(piece) == PIECE_BYTES  # a full piece may leave some behind in zlib
            self._left -= len(piece)
            if self._left < 0:
                raise BadAnswer(self._host, "its body unpacks to more than is wanted")
            if piece:
                await self._sink.write(piece)

    def end(self) -> None:
        """The body is complete. Raises `BadAnswer`."""
        if self._unpacker is not None and not self._unpacker.eof and not self._empty:
            raise BadAnswer(self._host, "its body ends too early")
