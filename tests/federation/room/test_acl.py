"""Server ACLs: one row for each thing that the specification says of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from federation.room.acl import ServerAcl

EVERYBODY: dict[str, Any] = {"allow": ["*"]}


@pytest.mark.parametrize(
    ("content", "server", "allowed"),
    [
        ({}, "a.example", False),  # nobody is on an empty list
        (EVERYBODY, "a.example", True),
        (EVERYBODY | {"deny": ["evil.example"]}, "evil.example", False),
        (EVERYBODY | {"deny": ["evil.example"]}, "Evil.Example:8448", False),
        (EVERYBODY | {"deny": ["EVIL.example"]}, "evil.example", False),
        (EVERYBODY | {"deny": ["evil.example"]}, "not-evil.example", True),
        (EVERYBODY | {"deny": ["*.evil.example"]}, "a.b.evil.example", False),
        (EVERYBODY | {"deny": ["*.evil.example"]}, "evil.example", True),
        (EVERYBODY | {"deny": ["evi?.example"]}, "evil.example", False),
        (EVERYBODY | {"deny": ["evi?.example"]}, "evi.example", True),
        (EVERYBODY | {"deny": ["*a*b*"]}, "xxaxxbxx", False),
        (EVERYBODY | {"deny": ["*a*b"]}, "xbxa", True),
        ({"allow": ["*.good.example", "good.example"]}, "good.example", True),
        ({"allow": ["*.good.example"]}, "bad.example", False),
        (EVERYBODY | {"allow_ip_literals": False}, "1.2.3.4", False),
        (EVERYBODY | {"allow_ip_literals": False}, "1.2.3.4:8448", False),
        (EVERYBODY | {"allow_ip_literals": False}, "[::1]", False),
        (EVERYBODY | {"allow_ip_literals": False}, "[2001:db8::1]:8448", False),
        (EVERYBODY | {"allow_ip_literals": False}, "1.2.3.4.example", True),
        (EVERYBODY | {"allow_ip_literals": "no"}, "1.2.3.4", True),
        (EVERYBODY | {"allow_ip_literals": 0}, "1.2.3.4", True),
        (EVERYBODY | {"deny": "evil.example"}, "evil.example", True),
        (EVERYBODY | {"deny": [1, None, ["evil.example"]]}, "evil.example", True),
        ({"allow": "*"}, "a.example", False),
        (EVERYBODY | {"deny": ["a.example]", "[a.example", "(.*"]}, "a.example", True),
    ],
)
def test_who_may_take_part(content: dict[str, Any], server: str, allowed: bool) -> None:
    assert ServerAcl.parse(content).allows(server) is allowed


def test_patterns_made_of_stars_cost_little() -> None:
    acl = ServerAcl.parse({"allow": ["*a" * 5_000 + "!"]})
    begun = time.monotonic()
    assert not acl.allows("a" * 230)
    assert time.monotonic() - begun < 1
