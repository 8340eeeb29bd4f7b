"""Puts together what shows rooms to those outside.

collaborators.update(build_spaces(server_name, database, aliases, asking.spaces))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.rooms.aliases import Aliases
from homeserver.spaces.elsewhere import RemoteSpaces
from homeserver.spaces.local import LocalRooms
from homeserver.spaces.serve import SpaceService
from homeserver.spaces.summaries import Summaries
from homeserver.spaces.walk import Hierarchy
from storage.database import Database


def build_spaces(
    server_name: str, database: Database, aliases: Aliases, remote: RemoteSpaces
) -> Mapping[type[Any], object]:
    """What handlers take, by type."""
    local = LocalRooms(database, server_name)
    parts: list[object] = [Hierarchy(local, remote), Summaries(local, remote, aliases), SpaceService(local)]
    return {type(part): part for part in parts}
