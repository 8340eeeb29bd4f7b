"""`POST /_matrix/client/v3/user_directory/search`: find people.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3user_directorysearch
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.route import USER, Requester, route
from homeserver.people.directory import PeopleDirectory


class Search(msgspec.Struct, frozen=True):
    search_term: str
    limit: int | None = None


@route("POST", "/_matrix/client/v3/user_directory/search", auth=USER, rate="directory", interruptible=True)
async def search(people: PeopleDirectory, who: Requester, ask: Search) -> dict[str, Any]:
    return await people.search(who.user_id, ask.search_term, ask.limit)
