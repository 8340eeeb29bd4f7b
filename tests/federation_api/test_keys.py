"""The key server and the notary over HTTP, the version, and the gate for signed requests."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from attrs import define

from config import RateLimits
from federation.inbound.x_matrix import Origin, XMatrix
from federation.keys.notary import Notary
from federation.keys.own import OwnKeys
from federation.keys.response import read_key_response
from federation.outbound.client import FederationClient
from federation.room.canonical import canonical_json
from federation.room.signing import verify_signed_json
from homeserver.clock import Clock
from homeserver.federation_api import keys, version
from homeserver.federation_api.gate import Gate
from homeserver.http.authenticate import TokenAuthenticate
from homeserver.http.limits import RateLimiter
from homeserver.http.route import FEDERATION, NONE, route, routes_of
from homeserver.http.site import Site
from homeserver.http.table import RouteTable
from tests.federation.keys.signers import DAY_MS, US, Bench, Signer, bench
from tests.http.wire import Connection, Response, request

PEER = "peer.example"
KEY_PATH = "/_matrix/key/v2"


class Content(msgspec.Struct):
    content: dict[str, Any]


class Signed:
    """A route for servers."""

    @staticmethod
    @route("PUT", "/_matrix/federation/v1/whoami", auth=FEDERATION, rate="federation", body="content")
    async def whoami(who: Origin, ask: Content) -> Any:
        return {"server_name": who.server_name, **ask.content}


class NoSessions:
    async def find_session(self, token_hash: bytes) -> None:
        return None


@define
class Office:
    """A site with the routes for servers, and the network behind it."""

    one: Bench
    site: Site
    gate: Gate

    def ask(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Response:
        connection = Connection(self.site)
        connection.send(request(method, path, body, headers=headers))
        (response,) = connection.responses()
        return response

    def keys(self, method: str, path: str, body: object = None) -> list[Any]:
        response = self.ask(method, KEY_PATH + path, body)
        assert response.status == 200, response.body
        found: list[Any] = response.json["server_keys"]
        return found


@pytest.fixture
def office() -> Office:
    one = bench()
    clock = Clock(one.calendar, one.calendar.now_ms)
    collaborators: dict[type[Any], object] = {OwnKeys: one.own, Notary: one.notary, Clock: clock}
    gate = Gate(XMatrix(US, one.ring, one.calendar.now_ms))
    site = Site(
        RouteTable([keys, version, Signed], collaborators),
        TokenAuthenticate(NoSessions(), clock),
        RateLimiter.of(RateLimits(), clock),
        reactor=one.calendar,
        federation=gate,
    )
    return Office(one, site, gate)


@pytest.mark.parametrize("path", ["/server", "/server/ed25519:ours", "/server/ed25519%3Aother"])
def test_our_keys(office: Office, path: str) -> None:
    response = office.ask("GET", KEY_PATH + path)
    assert response.status == 200
    read = read_key_response(orjson.loads(response.body), US, office.one.calendar.now_ms())
    assert [key.key_id for key in read.keys] == ["ed25519:ours"]
    assert read.valid_until_ts > office.one.calendar.now_ms() + 3_600_000


def test_the_version(office: Office) -> None:
    answer = office.ask("GET", "/_matrix/federation/v1/version").json
    assert answer["server"]["name"] == "Guildhall"
    assert answer["server"]["version"]


def test_nobody_has_to_sign_for_keys() -> None:
    assert all(row.auth is NONE for module in (keys, version) for row in routes_of(module))


@pytest.mark.parametrize(
    "path",
    [
        f"/query/{PEER}",
        f"/query/{PEER}?minimum_valid_until_ts=5",
        f"/query/{PEER}/ed25519:1",
        f"/query/{PEER}/ed25519:1?minimum_valid_until_ts=1700000000000",
    ],
)
def test_one_server_s_keys(office: Office, path: str) -> None:
    peer = office.one.add(PEER)
    (value,) = office.keys("GET", path)
    assert verify_signed_json(value, PEER, "ed25519:1", peer.key.verify_key)
    assert verify_signed_json(value, US, "ed25519:ours", office.one.own.signing_key.verify_key)


def test_several_servers_keys(office: Office) -> None:
    office.one.add(PEER)
    office.one.add("other.example")
    asked = {
        PEER: {"ed25519:1": {"minimum_valid_until_ts": 5}, "rsa:1": {}},
        "other.example": {},
        "dead.example": {"ed25519:1": {}},
        US: {"ed25519:ours": {}},
    }
    found = office.keys("POST", "/query", {"server_keys": asked})
    assert [value["server_name"] for value in found] == ["other.example", PEER, US]
    assert office.keys("POST", "/query", {"server_keys": {}}) == []


def test_the_wished_time_counts(office: Office) -> None:
    office.one.add(PEER)
    office.keys("GET", f"/query/{PEER}")
    office.one.calendar.pass_ms(60_000)
    until = office.one.calendar.now_ms() + DAY_MS
    (value,) = office.keys("GET", f"/query/{PEER}?minimum_valid_until_ts={until}")
    assert value["valid_until_ts"] == until


@pytest.mark.parametrize(
    ("method", "path", "body", "errcode"),
    [
        ("GET", "/query/not%20a%20name", None, "M_INVALID_PARAM"),
        ("GET", f"/query/{PEER}?minimum_valid_until_ts=soon", None, "M_INVALID_PARAM"),
        ("GET", f"/query/{PEER}?minimum_valid_until_ts=99999999999999999999", None, "M_INVALID_PARAM"),
        ("POST", "/query", {}, "M_MISSING_PARAM"),
        ("POST", "/query", {"server_keys": []}, "M_BAD_JSON"),
        ("POST", "/query", {"server_keys": {PEER: []}}, "M_BAD_JSON"),
        ("POST", "/query", {"server_keys": {PEER: {"ed25519:1": 5}}}, "M_BAD_JSON"),
        ("POST", "/query", {"server_keys": {PEER: {"ed25519:1": {"minimum_valid_until_ts": "5"}}}}, "M_BAD_JSON"),
        ("POST", "/query", {"server_keys": {"a b": {}}}, "M_INVALID_PARAM"),
        ("POST", "/query", {"server_keys": {f"{number}.example": {} for number in range(101)}}, "M_INVALID_PARAM"),
        ("POST", "/query", {"server_keys": {PEER: {f"ed25519:{n}": {} for n in range(51)}}}, "M_INVALID_PARAM"),
        ("PUT", "/query", {}, "M_UNRECOGNIZED"),
        ("POST", "/server", {}, "M_UNRECOGNIZED"),
        ("GET", "/", None, "M_UNRECOGNIZED"),
    ],
)
def test_bad_questions(office: Office, method: str, path: str, body: Any, errcode: str) -> None:
    response = office.ask(method, KEY_PATH + path, body)
    assert (response.status in (400, 404, 405), response.errcode) == (True, errcode)
    assert office.one.network.asked() == []


def test_a_flood_of_questions_is_limited(office: Office) -> None:
    answers = [office.ask("GET", f"{KEY_PATH}/query/{number}.example") for number in range(80)]
    assert {answer.status for answer in answers} == {200, 429}
    assert len(office.one.network.asked()) < 60


# Signed requests


def _sign(office: Office, body: object, path: str = "/_matrix/federation/v1/whoami", **more: str) -> dict[str, str]:
    peer = office.one.network.servers[PEER]
    assert isinstance(peer, Signer)
    client = FederationClient(PEER, peer.key, office.one.network)
    return {"Authorization": client.authorization("PUT", more.get("destination", US), path, canonical_json(body))}


def test_a_signed_request(office: Office) -> None:
    office.one.add(PEER)
    alive: list[str] = []
    office.gate.observers.append(alive.append)
    body = {"b": 1, "a": "ä"}
    response = office.ask("PUT", "/_matrix/federation/v1/whoami", body, _sign(office, body))
    assert response.json == {"server_name": PEER, **body}
    assert alive == [PEER]


def test_requests_that_are_not_signed_right(office: Office) -> None:
    office.one.add(PEER)
    alive: list[str] = []
    office.gate.observers.append(alive.append)
    path, good = "/_matrix/federation/v1/whoami", _sign(office, {})
    cases: list[tuple[str, object, dict[str, str]]] = [
        (path, {}, {}),
        (path, {}, {"Authorization": "Bearer token"}),
        (path, {"a": 1}, good),
        (path + "?a=b", {}, good),
        (path, {}, _sign(office, {}, destination="other.example")),
        (path, {}, {"Authorization": good["Authorization"].replace(PEER, "dead.example")}),
    ]
    for where, body, headers in cases:
        response = office.ask("PUT", where, body, headers)
        assert (response.status, response.errcode) == (401, "M_UNAUTHORIZED"), headers
    assert alive == []
