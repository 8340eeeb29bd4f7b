"""`GET /_matrix/client/versions`: which versions of the specification clients may rely on here.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.about import About
from homeserver.http.route import NONE, route


# A token may come with it, and does not matter: the answer is the same for all. No limit: it is a constant.
@route("GET", "/_matrix/client/versions", auth=NONE, rate=None)
async def get_versions(about: About) -> Mapping[str, Any]:
    return about.versions()
