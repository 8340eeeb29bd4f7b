"""Every route of the house has a policy, and none is served that nobody thought about."""

from __future__ import annotations

from typing import get_type_hints

import attrs

from config import RateLimit, RateLimits
from homeserver.client.all import ALL_ROUTES
from homeserver.http.bodies import IncomingBody
from homeserver.http.route import Auth, Route, routes_of

ROUTES: list[Route] = [row for module in ALL_ROUTES for row in routes_of(module)]

UNLIMITED = {
    "/": "a constant",
    "/.well-known/matrix/client": "a constant",
    "/.well-known/matrix/policy_server": "a constant",
    "/.well-known/matrix/server": "a constant",
    "/.well-known/matrix/support": "a constant",
    "/_matrix/client/versions": "a constant",
    "/health": "whoever watches must never be told to come back later",
    "/_guildhall/metrics": "whoever watches must never be told to come back later",
}

LARGEST_BODY = 1024 * 1024
"""Of those that stand in memory as a whole. Files do not: `tests.media` has their limits."""


def test_limits() -> None:
    classes = {
        name for name, limit in attrs.asdict(RateLimits(), recurse=False).items() if isinstance(limit, RateLimit)
    }
    for row in ROUTES:
        if row.rate is None:
            assert row.path in UNLIMITED, f"{row.method} {row.path} has no rate limit"
        else:
            assert row.rate in classes, f"{row.method} {row.path}: there is no class {row.rate!r}"


def test_without_a_token_only_per_address() -> None:
    """Routes without a token are charged to an address, so their class must be one for addresses."""
    for_addresses = {"anonymous", "directory", "login_address", "registration", None}
    for row in ROUTES:
        if row.auth is Auth.NONE:
            assert row.rate in for_addresses, f"{row.method} {row.path}: {row.rate!r} is meant per user"


def test_bodies() -> None:
    for row in ROUTES:
        if IncomingBody in get_type_hints(row.handler).values():
            continue
        assert 0 <= row.max_body <= LARGEST_BODY, f"{row.method} {row.path} takes {row.max_body} bytes"


def test_paths() -> None:
    for row in ROUTES:
        assert (
            row.path.startswith(("/_matrix/", "/_synapse/", "/_guildhall/", "/.well-known/")) or row.path in UNLIMITED
        )
        assert row.method in ("GET", "PUT", "POST", "PATCH", "DELETE")
