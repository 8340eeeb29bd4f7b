"""Whose address a request counts for, behind proxies and without them."""

from __future__ import annotations

import pytest

from config import Listener, SettingsError, make_settings
from homeserver.http.forwarded import TrustedProxies
from homeserver.http.route import NONE, RequestInfo, route
from tests.fixtures_server import StartServer
from tests.http.wire import Wire, request

ROUTER, PROXY, INNER, CLIENT = "192.0.2.66", "10.0.0.1", "10.0.0.2", "203.0.113.5"


def _trusted(*proxies: str) -> TrustedProxies:
    trusted = TrustedProxies.of(Listener(forwarded=True, trusted_proxies=proxies))
    assert trusted is not None
    return trusted


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        (PROXY, [], PROXY),
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"10.1.1.1, {CLIENT}"], CLIENT),  # the first is what the client claims
        (PROXY, [f"{CLIENT}, {INNER}"], CLIENT),  # two proxies of ours, one behind the other
        (PROXY, [CLIENT, INNER], CLIENT),  # the same, in two headers
        (PROXY, [f"10.0.0.77, {CLIENT}, {INNER}"], CLIENT),  # a client that claims to be a proxy of ours
        (PROXY, [INNER], INNER),  # a request that a proxy makes itself
        (PROXY, [f"{INNER}, {INNER}"], INNER),
        (PROXY, ["unknown"], PROXY),
        (PROXY, [f"unknown, {INNER}"], INNER),
        (PROXY, [""], PROXY),
        (PROXY, [f"{CLIENT}:4711"], CLIENT),
        (PROXY, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, ["2001:DB8:0::1"], "2001:db8::1"),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),  # as IPv4 connections look on a socket for both
        ("2001:db8:2::9", [CLIENT], CLIENT),
        (ROUTER, [CLIENT], ROUTER),
        (ROUTER, [f"{CLIENT}, {PROXY}"], ROUTER),
        ("2001:db8:3::9", [CLIENT], "2001:db8:3::9"),
        ("unknown", [CLIENT], "unknown"),
    ],
)
def test_clients(peer: str, headers: list[str], client: str) -> None:
    trusted = _trusted("10.0.0.0/24", "2001:db8:2::/64")
    assert trusted.client(peer, [header.encode() for header in headers]) == client


def test_only_loopback_is_trusted_by_itself() -> None:
    assert TrustedProxies.of(Listener()) is None
    trusted = TrustedProxies.of(Listener(forwarded=True))
    assert trusted is not None
    header = [CLIENT.encode()]
    assert [trusted.client(peer, header) for peer in ("127.0.0.1", "127.9.9.9", "::1")] == [CLIENT] * 3
    assert trusted.client("192.168.0.1", header) == "192.168.0.1"
    assert _trusted().client("127.0.0.1", header) == "127.0.0.1", "an empty list trusts nobody"


def test_a_range_that_is_none() -> None:
    with pytest.raises(SettingsError, match=r"'10\.0\.0' is not an IP address or range"):
        make_settings({"server": {"name": "a"}, "listeners": [{"trusted_proxies": ["10.0.0"]}]})


class House:
    @staticmethod
    @route("GET", "/info", auth=NONE, rate=None)
    async def info(info: RequestInfo) -> dict[str, str | bool]:
        return {"address": info.address, "is_direct": info.is_direct}


@pytest.mark.parametrize(
    ("proxies", "header", "address", "is_direct"),
    [
        (None, None, "192.0.2.7", True),
        (None, CLIENT, "192.0.2.7", False),
        (_trusted("192.0.2.7"), None, "192.0.2.7", False),
        (_trusted("192.0.2.7"), CLIENT, CLIENT, False),
        (_trusted("192.0.2.8"), CLIENT, "192.0.2.7", False),
    ],
)
def test_requests(proxies: TrustedProxies | None, header: str | None, address: str, is_direct: bool) -> None:
    connection = Wire.to([House], proxies=proxies).connect()
    connection.send(request("GET", "/info", headers={"X-Forwarded-For": header} if header else {}))
    assert connection.responses()[0].json == {"address": address, "is_direct": is_direct}


def test_a_whole_server_believes_its_proxies_only(start_server: StartServer) -> None:
    """Told by rate limits, which count for an address: whoever is believed to be many has many buckets."""
    for trusted, statuses in (("127.0.0.0/8", {403}), ("192.0.2.0/24", {403, 429})):
        server = start_server(
            listeners=f"[{{forwarded: true, trusted_proxies: [{trusted}]}}]",
            rate_limits__enabled="true",
            rate_limits__login_address="{per_second: 0.01, burst: 2}",
        )
        body = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "nobody"}, "password": "x"}
        answers = [
            server.request("POST", "/_matrix/client/v3/login", body, headers={"X-Forwarded-For": f"203.0.113.{last}"})
            for last in range(5)
        ]
        assert {answer.status for answer in answers} == statuses
