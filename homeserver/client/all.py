"""Every module of the client API, for the route table: a new file is served once it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.client import (
    account,
    admin_register,
    aliases,
    capabilities,
    context,
    create_room,
    devices,
    directory,
    event,
    health,
    joined_rooms,
    landing,
    login,
    members,
    membership,
    messages,
    public_rooms,
    register,
    send,
    state_read,
    sync,
    versions,
    wellknown,
    whoami,
)

ALL_ROUTES: Sequence[ModuleType] = (
    account,
    admin_register,
    aliases,
    capabilities,
    context,
    create_room,
    devices,
    directory,
    event,
    health,
    joined_rooms,
    landing,
    login,
    members,
    membership,
    messages,
    public_rooms,
    register,
    send,
    state_read,
    sync,
    versions,
    wellknown,
    whoami,
)
