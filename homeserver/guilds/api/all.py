"""Every module of the guild API, for the route table: its features, and what describes them."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.guilds.api import docs, openapi
from homeserver.guilds.api.features import FEATURES

GUILD_ROUTES: Sequence[ModuleType] = (*FEATURES, docs, openapi)
