"""The route table: every route of the house bound to its collaborator, and the way from a path to one of them.

Paths are matched as they came over the wire, one segment between two slashes at a time, and percent-decoded only
afterwards, so that an alias or a state key with a slash in it is one segment. A literal segment wins over a
`{parameter}`; where it leads nowhere, the parameter is tried. Nothing is merged or redirected: `//` is an empty
segment, which no parameter matches.

Why this is not `werkzeug.routing`: docs/decisions/0001-route-matching.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from homeserver.errors import InvalidParam, MatrixError
from homeserver.http.asks import AskReader, is_ask
from homeserver.http.bodies import IncomingBody
from homeserver.http.route import Auth, Requester, RequestInfo, Route, routes_of

Call = Callable[..., Awaitable[Any]]
"""A handler with its collaborators already in place: takes who, ask and info, whether it wants them or not, and its
body where `Endpoint.streams`."""


Detour = Callable[[Route, Call], Call]
"""Given a route and its handler ready to be called: what is called in its place, mostly just that."""


class BadRoute(TypeError):
    """A route that cannot be served as it is written: found when the table is built, so the server does not start."""

    def __init__(self, route: Route, why: str) -> None:
        super().__init__(f"{route.method} {route.path} ({route.handler.__module__}.{_name(route)}): {why}")


class Endpoint(msgspec.Struct, frozen=True, eq=False):
    """A route ready to be called."""

    route: Route
    call: Call
    reader: AskReader | None
    """How to make the handler's ask; None where it takes none."""
    wants_info: bool
    reads_body: bool
    interruptible: bool
    """Whether the handler is cancelled when its client hangs up."""
    streams: bool = False
    """Whether the handler takes its body as it comes, an `IncomingBody`."""


class _Node(msgspec.Struct, eq=False):
    literal: dict[str, _Node] = msgspec.field(default_factory=dict)
    parameter: _Node | None = None
    endpoints: dict[str, Endpoint] = msgspec.field(default_factory=dict)

    def below(self, segments: Iterable[str]) -> _Node:
        """What a path leads to from here, made where it is not there yet."""
        node = self
        for segment in segments:
            following = node.parameter if segment.startswith("{") else node.literal.get(segment)
            if following is None:
                following = _Node()
                if segment.startswith("{"):
                    node.parameter = following
                else:
                    node.literal[segment] = following
            node = following
        return node


class Match(msgspec.Struct, frozen=True):
    endpoint: Endpoint
    values: tuple[str, ...]
    """The path's parameters, decoded, in their order."""


class RouteTable:
    """All routes of `modules`, with the one instance of each collaborator's type. Raises `BadRoute`.

    `detour` may put something in front of handlers that take no body in pieces.
    Modules may be any objects with marked handlers as attributes: tests hand over a class or a namespace.
    """

    def __init__(
        self, modules: Iterable[object], collaborators: Mapping[type[Any], object], detour: Detour | None = None
    ) -> None:
        self._root = _Node()
        self._detour = detour
        self.endpoints: list[Endpoint] = []
        for module in modules:
            for route in routes_of(module):
                self._add(route, collaborators)

    def match(self, method: str, path: bytes) -> Match:
        """Find what answers `method` on `path` (undecoded, without the query). HEAD is answered by what answers GET.

        Raises `MatrixError`: 404 or 405 `M_UNRECOGNIZED`, or `M_INVALID_PARAM` if the path is not UTF-8.
        """
        try:
            text = path.decode()
        except UnicodeDecodeError:
            raise InvalidParam("The path is not UTF-8") from None
        values: list[str] = []
        node = _find(self._root, text.split("/"), 1, values)
        if node is None:
            raise MatrixError(404, "M_UNRECOGNIZED", "Unrecognized request: there is nothing at this path")
        endpoint = node.endpoints.get(method)
        if endpoint is None:
            raise WrongMethod(node.endpoints)
        if "%" in text:
            return Match(endpoint, tuple([_decode(value) for value in values]))
        return Match(endpoint, tuple(values))

    def _add(self, route: Route, collaborators: Mapping[type[Any], object]) -> None:
        if not route.path.startswith("/"):
            raise BadRoute(route, "the path does not begin with a slash")
        # All of its paths have the same parameters.
        names = tuple(part[1:-1] for part in route.path.split("/") if part.startswith("{"))
        endpoint = bind(route, names, collaborators)
        if self._detour is not None and not endpoint.streams:
            call = self._detour(route, endpoint.call)
            if call is not endpoint.call:
                endpoint = msgspec.structs.replace(endpoint, call=call)
        methods = (route.method, "HEAD") if route.method == "GET" else (route.method,)
        for path in _aliases(route.path):
            node = self._root.below(path.split("/")[1:])
            for method in methods:
                if method in node.endpoints:
                    raise BadRoute(route, f"{_name(node.endpoints[method].route)} answers this already")
                node.endpoints[method] = endpoint
        self.endpoints.append(endpoint)


class WrongMethod(MatrixError):
    """405: the path exists, but not for this method."""

    def __init__(self, methods: Iterable[str]) -> None:
        allow = ", ".join(sorted({*methods, "OPTIONS"}))
        error = f"Unrecognized request: this path answers {allow} only"
        super().__init__(405, "M_UNRECOGNIZED", error, headers={"Allow": allow})


def bind(route: Route, names: tuple[str, ...], collaborators: Mapping[type[Any], object]) -> Endpoint:
    """Fit a handler's parameters by their types: collaborators, `Requester`, `RequestInfo`, and a Struct as the ask.

    Raises `BadRoute` where something cannot be handed over.
    """
    slots: list[tuple[str, object]] = []
    reader: AskReader | None = None
    for name, kind in _parameters(route.handler).items():
        if kind is None:
            raise BadRoute(route, f"parameter {name!r} has no type")
        if kind is RequestInfo:
            slots.append(("info", None))
        elif kind is IncomingBody:
            slots.append(("stream", None))
        elif kind in collaborators:
            slots.append(("collaborator", collaborators[kind]))
        elif is_ask(kind):
            try:
                reader = _reader(kind, names, tuple(route.query), route.body, tuple(route.headers))
            except TypeError as error:
                raise BadRoute(route, str(error)) from error
            slots.append(("ask", None))
        elif name == "who":
            if route.auth is Auth.NONE:
                raise BadRoute(route, "there is no `who` on a route without auth")
            if (kind == Requester | None) != (route.auth is Auth.OPTIONAL) and route.auth is not Auth.FEDERATION:
                raise BadRoute(route, "`who` is `Requester | None` with optional auth and `Requester` with any other")
            slots.append(("who", None))
        else:
            raise BadRoute(route, f"nothing of the type of {name!r} ({kind}) was handed to the table")
    if reader is None and (names or route.query or route.body or route.headers):
        raise BadRoute(route, "the handler takes no ask for what the path, query or body holds")
    kinds = [kind for kind, _ in slots]
    reads_body = route.method not in ("GET", "HEAD", "OPTIONS")
    if "stream" in kinds and (not reads_body or route.auth is Auth.FEDERATION):
        raise BadRoute(route, "a body that comes in pieces needs a method that has one, and nobody's signature over it")
    if "stream" in kinds and reader is not None and reader.reads_members:
        raise BadRoute(route, "the ask wants JSON from a body that the handler takes in pieces")
    return Endpoint(
        route=route,
        call=_caller(route.handler, slots),
        reader=reader,
        wants_info="info" in kinds,
        reads_body=reads_body,
        interruptible=route.method == "GET" if route.interruptible is None else route.interruptible,
        streams="stream" in kinds,
    )


# What is found out about a handler holds for all of its paths, and for every table of a process: half of the time that
# it takes to build one.


@cache
def _parameters(handler: Callable[..., Awaitable[Any]]) -> Mapping[str, Any]:
    """A handler's parameters with their types; None where there is none."""
    hints = get_type_hints(handler)
    return {name: hints.get(name) for name in inspect.signature(handler).parameters}


@cache
def _reader(
    kind: type[msgspec.Struct],
    path: tuple[str, ...],
    query: tuple[str, ...],
    body: str | None,
    headers: tuple[str, ...],
) -> AskReader:
    return AskReader(kind, path=path, query=query, body=body, headers=headers)


def _caller(handler: Callable[..., Awaitable[Any]], slots: Sequence[tuple[str, object]]) -> Call:
    kinds = [kind for kind, _ in slots]
    fixed = [value for kind, value in slots if kind == "collaborator"]
    # The usual shapes get a closure of their own: this runs once per request.
    match kinds:
        case ["collaborator", "who", "ask"]:
            (one,) = fixed
            return lambda who, ask, info: handler(one, who, ask)
        case ["collaborator", "who"]:
            (one,) = fixed
            return lambda who, ask, info: handler(one, who)
        case ["collaborator", "ask"]:
            (one,) = fixed
            return lambda who, ask, info: handler(one, ask)

    def call(who: object, ask: object, info: RequestInfo | None, stream: object = None) -> Awaitable[Any]:
        given = {"who": who, "ask": ask, "info": info, "stream": stream}
        return handler(*[value if kind == "collaborator" else given[kind] for kind, value in slots])

    return call


def _find(node: _Node, segments: list[str], index: int, values: list[str]) -> _Node | None:
    if index == len(segments):
        return node if node.endpoints else None
    segment = segments[index]
    below = node.literal.get(segment)
    if below is not None and (found := _find(below, segments, index + 1, values)) is not None:
        return found
    if node.parameter is not None and segment:
        values.append(segment)
        if (found := _find(node.parameter, segments, index + 1, values)) is not None:
            return found
        values.pop()
    return None


def _decode(value: str) -> str:
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise InvalidParam("The path is not UTF-8 after percent-decoding") from None


def _aliases(path: str) -> Iterable[str]:
    yield path
    if path.startswith(("/_matrix/client/v3/", "/_matrix/media/v3/")):
        yield path.replace("/v3/", "/r0/", 1)
    if path.startswith("/_matrix/media/v3/"):
        yield path.replace("/v3/", "/v1/", 1)


def _name(route: Route) -> str:
    return getattr(route.handler, "__qualname__", repr(route.handler))
