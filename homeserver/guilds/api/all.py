"""Every module of the guild API, for the route table: a new file is served once it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.guilds.api import (
    attendance,
    audit,
    categories,
    channels,
    emoji,
    guilds,
    invites,
    layout,
    members,
    permissions,
    roles,
)

GUILD_ROUTES: Sequence[ModuleType] = (
    attendance,
    audit,
    categories,
    channels,
    emoji,
    guilds,
    invites,
    layout,
    members,
    permissions,
    roles,
)
