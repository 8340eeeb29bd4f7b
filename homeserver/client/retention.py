"""`GET /_matrix/client/unstable/org.matrix.msc1763/retention/configuration`: for how long messages are kept here.

MSC1763: https://github.com/matrix-org/matrix-spec-proposals/pull/1763
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.http.route import GUEST, route
from homeserver.retention.expiry import Expiry


@route("GET", "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration", auth=GUEST, rate="read")
async def get_configuration(expiry: Expiry) -> Mapping[str, Any]:
    return expiry.policy()
