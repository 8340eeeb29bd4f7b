"""The whole ladder, step by step, each with the Host header and the name that the certificate must have.

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from federation.discovery.address import Address
from federation.discovery.ladder import Ladder
from federation.discovery.ports import DiscoveryFailed, Page, SrvAnswer, SrvRecord
from federation.discovery.srv import SrvRecords
from federation.discovery.wellknown import WellKnown
from federation.outbound.transport import Unreachable
from tests.federation.doubles import START_MS, outcome
from tests.strategies import json_text, server_names


@define
class World:
    """What the network says. Hosts without a page do not answer; names without records do not exist."""

    pages: Mapping[str, Any] = field(factory=dict)
    records: Mapping[str, Sequence[SrvRecord]] = field(factory=dict)
    asked: list[str] = field(factory=list)

    async def fetch(self, host: str) -> Page:
        self.asked.append(f"https {host}")
        page = self.pages.get(host)
        if page is None:
            raise DiscoveryFailed("connection refused")
        return page if isinstance(page, Page) else Page(200, {}, orjson.dumps(page))

    async def lookup(self, name: str) -> SrvAnswer:
        self.asked.append(f"SRV {name}")
        return SrvAnswer(self.records.get(name, ()), 300)

    def ladder(self) -> Ladder:
        return Ladder(WellKnown(self, lambda: START_MS), SrvRecords(self, lambda: START_MS, lambda _: 0))


def srv(host: str, port: int, priority: int = 10, weight: int = 0) -> SrvRecord:
    return SrvRecord(priority, weight, port, host)


ONE = "one.example"
TWO = "two.example"

# What the server is called, its .well-known, SRV records by name → the addresses.
STEPS: list[tuple[str, str, object, dict[str, Any], list[tuple[str, int, str, str]]]] = [
    ("1, no port", "192.0.2.1", None, {}, [("192.0.2.1", 8448, "192.0.2.1", "192.0.2.1")]),
    ("1, port", "[::1]:443", None, {}, [("::1", 443, "::1", "[::1]:443")]),
    ("2", "one.example:9", {"m.server": TWO}, {}, [(ONE, 9, ONE, "one.example:9")]),
    ("3.1, no port", ONE, {"m.server": "192.0.2.9"}, {}, [("192.0.2.9", 8448, "192.0.2.9", "192.0.2.9")]),
    ("3.1, port", ONE, {"m.server": "[::2]:1"}, {}, [("::2", 1, "::2", "[::2]:1")]),
    ("3.2", ONE, {"m.server": "two.example:1"}, {}, [(TWO, 1, TWO, "two.example:1")]),
    (
        "3.3",
        ONE,
        {"m.server": TWO},
        {"_matrix-fed._tcp.two.example": [srv("a.two", 1)], "_matrix._tcp.two.example": [srv("b.two", 2)]},
        [("a.two", 1, TWO, TWO)],
    ),
    ("3.4", ONE, {"m.server": TWO}, {"_matrix._tcp.two.example": [srv("b.two", 2)]}, [("b.two", 2, TWO, TWO)]),
    (
        "3.5: records of the delegating name do not count",
        ONE,
        {"m.server": TWO},
        {"_matrix-fed._tcp.one.example": [srv("a.one", 1)]},
        [(TWO, 8448, TWO, TWO)],
    ),
    (
        "4",
        ONE,
        None,
        {"_matrix-fed._tcp.one.example": [srv("a.one", 1)], "_matrix._tcp.one.example": [srv("b.one", 2)]},
        [("a.one", 1, ONE, ONE)],
    ),
    (
        "4, several",
        ONE,
        None,
        {"_matrix-fed._tcp.one.example": [srv("c.one", 3, 20), srv("a.one", 1, 5), srv("b.one", 2, 10)]},
        [("a.one", 1, ONE, ONE), ("b.one", 2, ONE, ONE), ("c.one", 3, ONE, ONE)],
    ),
    ("5", ONE, None, {"_matrix._tcp.one.example": [srv("b.one", 2)]}, [("b.one", 2, ONE, ONE)]),
    ("6", ONE, None, {}, [(ONE, 8448, ONE, ONE)]),
    ("6, as the file is nonsense", ONE, {"m.server": "not a name"}, {}, [(ONE, 8448, ONE, ONE)]),
    ("6, as there is no file", ONE, Page(404, {}, b""), {}, [(ONE, 8448, ONE, ONE)]),
]


@pytest.mark.parametrize(("name", "page", "records", "expected"), [row[1:] for row in STEPS], ids=[r[0] for r in STEPS])
def test_the_ladder(
    name: str, page: object, records: dict[str, Any], expected: list[tuple[str, int, str, str]]
) -> None:
    world = World({ONE: page}, records)
    assert outcome(world.ladder().resolve(name)) == [Address(*one) for one in expected]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("192.0.2.1", []),
        ("[::1]:1", []),
        ("one.example:8448", []),
        (ONE, ["https one.example", "SRV _matrix-fed._tcp.one.example", "SRV _matrix._tcp.one.example"]),
        ("three.example", ["https three.example"]),
    ],
)
def test_no_more_is_asked_than_needed(name: str, asked: list[str]) -> None:
    world = World({"three.example": {"m.server": "two.example:1"}})
    ladder = world.ladder()
    outcome(ladder.resolve(name))
    assert world.asked == asked
    outcome(ladder.resolve(name))
    assert world.asked == asked, "the second time everything is known"


def test_a_delegation_is_followed_once() -> None:
    """`.well-known` of the server named there is not asked for."""
    world = World({ONE: {"m.server": TWO}, TWO: {"m.server": "three.example"}})
    assert outcome(world.ladder().resolve(ONE)) == [Address(TWO, 8448, TWO, TWO)]
    assert "https two.example" not in world.asked


def test_a_service_that_is_not_to_be_had() -> None:
    world = World(records={"_matrix-fed._tcp.one.example": [srv("", 0)]})
    with pytest.raises(Unreachable, match="SRV record says"):
        outcome(world.ladder().resolve(ONE))


@pytest.mark.parametrize("name", ["", "a b", "one.example:0", "one.example:99999", "@a:one.example", "[::1", "a/b"])
def test_what_is_no_server_name(name: str) -> None:
    with pytest.raises(Unreachable) as caught:
        outcome(World().ladder().resolve(name))
    assert not caught.value.retryable


@given(server_names | json_text, st.none() | server_names | json_text)
def test_whatever_the_names_there_is_an_address_or_an_error(name: str, delegation: str | None) -> None:
    host = name.partition(":")[0]
    world = World({host: {"m.server": delegation}} if delegation is not None else {})
    try:
        addresses = outcome(world.ladder().resolve(name))
    except Unreachable:
        return
    for address in addresses:
        assert 0 < address.port < 65536
        assert address.tls_name
        assert "\r" not in address.host_header
        assert "\n" not in address.host_header
