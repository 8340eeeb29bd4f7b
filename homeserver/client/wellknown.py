"""`/.well-known/matrix/…`: where clients, other servers and people in need find this server.

Spec: https://spec.matrix.org/v1.19/client-server-api/#well-known-uris
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.about import About
from homeserver.errors import NotFound
from homeserver.http.route import NONE, Reply, route

HEADERS = {"Cache-Control": "public, max-age=3600"}


# No limits: they are constants.
@route("GET", "/.well-known/matrix/client", auth=NONE, rate=None)
async def get_client_discovery(about: About) -> Reply:
    return _found(about.client_discovery())


@route("GET", "/.well-known/matrix/server", auth=NONE, rate=None)
async def get_server_discovery(about: About) -> Reply:
    return _found(about.server_discovery())


@route("GET", "/.well-known/matrix/support", auth=NONE, rate=None)
async def get_support(about: About) -> Reply:
    return _found(about.support())


@route("GET", "/.well-known/matrix/policy_server", auth=NONE, rate=None)
async def get_policy_server(about: About) -> Reply:
    return _found(about.policy_discovery())


def _found(answer: Mapping[str, Any] | None) -> Reply:
    if answer is None:
        raise NotFound("This server has not been told what to say here")
    return Reply(200, answer, HEADERS)
