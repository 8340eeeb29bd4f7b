"""Paths to handlers: what matches, what does not, and which routes are refused before the server starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from homeserver.errors import MatrixError
from homeserver.http.route import NONE, OPTIONAL, USER, Reply, Requester, RequestInfo, Route, route, routes_of
from homeserver.http.table import BadRoute, RouteTable

V3 = "/_matrix/client/v3"


class OneRoom(msgspec.Struct):
    room_id: str


class OneKey(msgspec.Struct):
    room_id: str
    kind: str
    key: str = ""


class Names:
    """Handlers that only matter by their routes."""

    @staticmethod
    @route("GET", f"{V3}/sync", auth=NONE, rate=None)
    async def sync() -> None: ...

    @staticmethod
    @route("GET", f"{V3}/rooms/{{room_id}}/members", auth=NONE, rate=None)
    async def members(ask: OneRoom) -> None: ...

    @staticmethod
    @route("GET", f"{V3}/rooms/special/state", auth=NONE, rate=None)
    async def special() -> None: ...

    @staticmethod
    @route(
        "GET",
        f"{V3}/rooms/{{room_id}}/state/{{kind}}/{{key}}",
        f"{V3}/rooms/{{room_id}}/state/{{kind}}/",
        f"{V3}/rooms/{{room_id}}/state/{{kind}}",
        auth=NONE,
        rate=None,
    )
    async def state(ask: OneKey) -> None: ...

    @staticmethod
    @route("PUT", f"{V3}/rooms/{{room_id}}/state/{{kind}}/{{key}}", auth=NONE, rate=None)
    async def set_state(ask: OneKey) -> None: ...

    @staticmethod
    @route("GET", "/", auth=NONE, rate=None)
    async def root() -> None: ...


TABLE = RouteTable([Names], {})


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("/", "root", ()),
        (f"{V3}/sync", "sync", ()),
        ("/_matrix/client/r0/sync", "sync", ()),
        (f"{V3}/rooms/!a:b.c/members", "members", ("!a:b.c",)),
        (f"{V3}/rooms/%21a%3Ab.c/members", "members", ("!a:b.c",)),
        (f"{V3}/rooms/special/members", "members", ("special",)),  # the literal leads nowhere
        (f"{V3}/rooms/special/state", "special", ()),
        (f"{V3}/rooms/special/state/m.room.name", "state", ("special", "m.room.name")),
        (f"{V3}/rooms/!a/state/m.x/a%2Fb", "state", ("!a", "m.x", "a/b")),
        (f"{V3}/rooms/!a/state/m.x/", "state", ("!a", "m.x")),
        (f"{V3}/rooms/!a/state/m.x/%252F+%20", "state", ("!a", "m.x", "%2F+ ")),
        (f"{V3}/rooms/%F0%9F%90%88/members", "members", ("🐈",)),
        (f"{V3}/rooms/\N{CAT}/members", "members", ("🐈",)),
    ],
)
def test_match(path: str, name: str, values: tuple[str, ...]) -> None:
    match = TABLE.match("GET", path.encode())
    assert match.endpoint.route.handler.__name__ == name
    assert match.values == values
    assert TABLE.match("HEAD", path.encode()).endpoint is match.endpoint


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/_matrix",
        f"{V3}/sync/",
        f"{V3}//sync",
        f"/{V3}/sync",
        f"{V3}/%73ync",  # literal segments are compared as they came
        f"{V3}/rooms//members",
        f"{V3}/rooms/!a/members/",
        f"{V3}/rooms/a/b/members",
        "/_matrix/client/r1/sync",
        "/" * 5000,
        f"{V3}/" + "rooms/" * 2000,
    ],
)
def test_nothing_there(path: str) -> None:
    with pytest.raises(MatrixError) as caught:
        TABLE.match("GET", path.encode())
    assert (caught.value.status, caught.value.errcode) == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize("path", [b"\xff/members", b"%ff/members", b"%C3%28/members"])
def test_not_utf8(path: bytes) -> None:
    with pytest.raises(MatrixError) as caught:
        TABLE.match("GET", f"{V3}/rooms/".encode() + path)
    assert (caught.value.status, caught.value.errcode) == (400, "M_INVALID_PARAM")


def test_wrong_method() -> None:
    with pytest.raises(MatrixError) as caught:
        TABLE.match("DELETE", f"{V3}/rooms/!a/state/m.x/k".encode())
    assert (caught.value.status, caught.value.errcode) == (405, "M_UNRECOGNIZED")
    assert caught.value.headers == {"Allow": "GET, HEAD, OPTIONS, PUT"}


class Friend: ...


def bind(handler: Any) -> RouteTable:
    return RouteTable([SimpleNamespace(handler=handler)], {Friend: Friend()})


def test_handlers_may_take_what_they_like() -> None:
    @route("GET", "/{room_id}", auth=USER, rate=None)
    async def everything(info: RequestInfo, ask: OneRoom, who: Requester, friend: Friend) -> Reply:
        return Reply(200, (info, ask, who, friend))

    (endpoint,) = bind(everything).endpoints
    assert endpoint.wants_info
    who, info = Requester("@a:b", "D", b""), RequestInfo("::1", "", "")
    coroutine = endpoint.call(who, OneRoom("!a"), info)
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)  # type: ignore[attr-defined]
    assert stopped.value.value.body[:3] == (info, OneRoom("!a"), who)


def no_type(friend) -> None: ...  # type: ignore[no-untyped-def]


async def stranger(who: Requester, stranger: int) -> None: ...


async def takes_room(ask: OneRoom) -> None: ...


async def takes_nothing() -> None: ...


async def wants_who(who: Requester) -> None: ...


@pytest.mark.parametrize(
    ("handler", "options", "why"),
    [
        (no_type, {"auth": USER}, "has no type"),
        (stranger, {"auth": USER}, "nothing of the type of 'stranger'"),
        (takes_room, {"auth": NONE, "path": "/{alias}"}, "has no field 'alias'"),
        (takes_room, {"auth": NONE, "query": ["limit"]}, "has no field 'limit'"),
        (takes_room, {"auth": NONE, "body": "content"}, "has no field 'content'"),
        (takes_nothing, {"auth": NONE, "path": "/{room_id}"}, "takes no ask"),
        (wants_who, {"auth": NONE}, "without auth"),
        (wants_who, {"auth": OPTIONAL}, "with optional auth"),
        (takes_nothing, {"auth": NONE, "path": "no/slash"}, "does not begin with a slash"),
    ],
)
def test_bad_routes_do_not_start(handler: Any, options: dict[str, Any], why: str) -> None:
    path = options.pop("path", "/x")
    handler.routes = []
    route("POST", path, rate=None, **options)(handler)
    with pytest.raises(BadRoute, match=why):
        bind(handler)


def test_two_of_a_kind() -> None:
    @route("GET", "/a/{room_id}", auth=NONE, rate=None)
    async def one(ask: OneRoom) -> None: ...

    @route("GET", "/a/{room_id}", auth=NONE, rate=None)
    async def other(ask: OneRoom) -> None: ...

    with pytest.raises(BadRoute, match="answers this already"):
        RouteTable([SimpleNamespace(one=one, other=other)], {})


def test_routes_of_a_module() -> None:
    assert [type(row) for row in routes_of(Names)] == [Route] * 8
