"""`GET /_matrix/client/v3/capabilities`: what this server lets people do.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3capabilities
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.about import About
from homeserver.http.route import GUEST, route


@route("GET", "/_matrix/client/v3/capabilities", auth=GUEST, rate="read")
async def get_capabilities(about: About) -> Mapping[str, Any]:
    return {"capabilities": await about.capabilities()}
