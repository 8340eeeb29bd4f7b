"""`GET /_matrix/federation/v1/version`: which program this is.

Spec: https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.about import SOFTWARE
from homeserver.http.route import NONE, route


# No limit: it is a constant.
@route("GET", "/_matrix/federation/v1/version", auth=NONE, rate=None)
async def get_version() -> Mapping[str, Mapping[str, str]]:
    return {"server": SOFTWARE}
