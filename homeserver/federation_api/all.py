"""Every module of the server-server API, for the route table: a new file is served once it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.federation_api import (
    events,
    friends,
    guilds,
    hierarchy,
    keys,
    media,
    openid,
    policy,
    public_rooms,
    queries,
    rooms,
    transactions,
    user_keys,
    version,
)

FEDERATION_ROUTES: Sequence[ModuleType] = (
    events,
    friends,
    guilds,
    hierarchy,
    keys,
    media,
    openid,
    policy,
    public_rooms,
    queries,
    rooms,
    transactions,
    user_keys,
    version,
)
