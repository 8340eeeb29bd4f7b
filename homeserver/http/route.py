"""How a feature says which HTTP requests it answers: the `route` decorator and the values it deals in.

A handler is a plain coroutine function, so a test calls it without HTTP:

    class SetTyping(msgspec.Struct, frozen=True):
        room_id: str                       # from the path
        user_id: str                       # from the path
        typing: bool                       # from the JSON body
        timeout: int = 30_000              # from the JSON body, in ms

    @route("PUT", "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}", auth=USER, rate="typing")
    async def set_typing(board: TypingBoard, who: Requester, ask: SetTyping) -> None: ...

Parameters are told apart by their types: a collaborator (`homeserver.app` hands the one instance of each type to the
table of routes; there may be several), `who: Requester`, a Struct as the ask, `info: RequestInfo`. Each may be absent.
Path parameters are text, already percent-decoded; names listed in `query` come from the query string and are
converted to the field's type (a list takes every occurrence); every other field of the ask comes from the JSON object
in the body. With `body="content"` the whole body is handed over as that field: as a `dict` for events' content, in any
other type after conversion, or unparsed where the field is `bytes`. Names listed in `headers` are fields that come from
the header of that name (`content-type` is the field `content_type`). A handler that takes an `IncomingBody`
(`homeserver.http.bodies`) gets the body as it comes, and begins before it is there. `homeserver.http.asks` tells it in
full.
The answer may be None (`{}`), a mapping, a msgspec Struct, or a `Reply` where status or headers matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec
from attrs import field, frozen
from twisted.internet.interfaces import IProtocol

from homeserver.http.bodies import Source


class Auth(Enum):
    """Who may call. No route is without a stated policy."""

    NONE = "none"
    OPTIONAL = "optional"
    """`who` is None where no token was sent; a wrong token is still an error."""
    USER = "user"
    GUEST = "guest"
    """As USER, and guests too."""
    VISITOR = "visitor"
    """As USER, and people of other servers who show an OpenID token of theirs: `MatrixOpenID TOKEN SERVER`."""
    ADMIN = "admin"
    FEDERATION = "federation"
    """X-Matrix signed by a homeserver: `who` is the `Origin`."""


NONE, OPTIONAL, USER, GUEST, VISITOR, ADMIN, FEDERATION = Auth


@frozen
class Requester:
    """The account and device behind an access token."""

    user_id: str
    device_id: str
    token_hash: bytes
    is_guest: bool = False
    is_admin: bool = False


@frozen
class RequestInfo:
    """What a handler may want to know of the request itself: it asks for it by a parameter of this type."""

    address: str
    """The client's IP address, after trusted proxies."""
    user_agent: str
    request_id: str
    authorization: str = field(default="", repr=False)
    """The header as it came, for routes that have tokens of their own."""
    is_direct: bool = True
    """Whether the client itself is at the other end of the connection, and no proxy."""


@frozen
class Reply:
    """An answer that needs more than a JSON body with 200."""

    status: int = 200
    body: Any = None
    """JSON-able value (or Struct); `bytes` go out as they are with the headers' content type."""
    headers: Mapping[str, str] = field(factory=dict)
    source: Source | None = None
    """Where the body comes from, in place of `body`, if it is too long to stand in memory."""


@frozen
class Upgrade:
    """A handler's result that is no answer: from now on the connection speaks another protocol."""

    protocol: IProtocol
    """What takes it over; it answers the request itself."""
    head: bytes
    """What the protocol is to read first: the request, as far as it matters."""


Handler = Callable[..., Awaitable[Any]]
HandlerT = TypeVar("HandlerT", bound=Handler)


class Route(msgspec.Struct, frozen=True):
    """One row of the route table. `auth`, `rate` and `max_body` have no default on purpose: a test walks the table."""

    method: str
    path: str
    handler: Handler
    auth: Auth
    rate: str | None
    """Name of a limit in `config.rate_limits`; None only where the route is harmless, with a reason beside it."""
    max_body: int
    """In bytes; judged before the body is read."""
    query: Sequence[str] = ()
    body: str | None = None
    headers: Sequence[str] = ()
    interruptible: bool | None = None
    """Whether the handler is cancelled (`CancelledError` where it waits) when its client hangs up. By default a GET
    is, and anything that changes something runs to its end, unheard; a POST that only waits says True."""


JSON_BODY = 256 * 1024
"""The usual `max_body`: an event of 64 KiB, even where every character of it is written as an escape."""


def route(
    method: str,
    *paths: str,
    auth: Auth,
    rate: str | None,
    max_body: int = JSON_BODY,
    query: Sequence[str] = (),
    body: str | None = None,
    headers: Sequence[str] = (),
    interruptible: bool | None = None,
) -> Callable[[HandlerT], HandlerT]:
    """Mark a handler as the answer to `method` on each of `paths` (`{name}` stands for one undecoded segment).

    A path under `/_matrix/client/v3/` is served under `/_matrix/client/r0/` too, where older clients call it, and one
    under `/_matrix/media/v3/` under `r0` and `v1`.
    """

    def mark(handler: HandlerT) -> HandlerT:
        rows: list[Route] = getattr(handler, "routes", [])
        rows += [
            Route(method, path, handler, auth, rate, max_body, tuple(query), body, tuple(headers), interruptible)
            for path in paths
        ]
        handler.routes = rows  # type: ignore[attr-defined]
        return handler

    return mark


def routes_of(module: object) -> list[Route]:
    """Every route that a module's functions are marked with, in the order of their definition."""
    values = [value.__func__ if isinstance(value, staticmethod) else value for value in vars(module).values()]
    return [row for value in values for row in getattr(value, "routes", ()) if row.handler is value]
