"""Every feature of the guild API: a new file is served, and described, once it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.guilds.api import (
    analytics,
    attendance,
    audit,
    categories,
    channels,
    emoji,
    export,
    guilds,
    invites,
    layout,
    members,
    messages,
    permissions,
    reports,
    roles,
    scheduled,
    transcripts,
)

FEATURES: Sequence[ModuleType] = (
    analytics,
    attendance,
    audit,
    categories,
    channels,
    emoji,
    export,
    guilds,
    invites,
    layout,
    members,
    messages,
    permissions,
    reports,
    roles,
    scheduled,
    transcripts,
)
