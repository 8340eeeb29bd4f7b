"""What stands behind a route table that nobody calls."""

from __future__ import annotations

from typing import Any

from homeserver.http.route import Requester, RequestInfo


class Anybody(dict[type[Any], object]):
    """A collaborator of any type that a handler may ask for: enough for a route table that is only looked at."""

    def __contains__(self, kind: object) -> bool:
        return (
            isinstance(kind, type) and not hasattr(kind, "__struct_fields__") and kind not in (Requester, RequestInfo)
        )

    def __missing__(self, kind: type[Any]) -> object:
        return object()
