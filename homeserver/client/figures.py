"""`GET /_guildhall/metrics`: figures for Prometheus."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from config import Settings
from homeserver.errors import Forbidden, NotFound
from homeserver.http.route import NONE, Reply, RequestInfo, route
from homeserver.observe.metrics import Metrics


@route("GET", "/_guildhall/metrics", auth=NONE, rate="anonymous", max_body=0)
async def get_metrics(metrics: Metrics, settings: Settings, info: RequestInfo) -> Reply:
    """Figures are for whoever has the token of the settings; without one, for this machine alone."""
    if not settings.metrics.enabled:
        raise NotFound("This server keeps no figures", "M_UNRECOGNIZED")
    if not _may_read(settings.metrics.token, info):
        raise Forbidden("The figures of this server are not for you")
    from homeserver.observe.exposition import CONTENT_TYPE, exposition  # slow to import, and rarely wanted

    return Reply(200, exposition(metrics), {"Content-Type": CONTENT_TYPE})


def _may_read(token: str | None, info: RequestInfo) -> bool:
    if token is not None:
        return hmac.compare_digest(info.authorization.encode(), f"Bearer {token}".encode())
    return info.is_direct and _is_loopback(info.address)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
