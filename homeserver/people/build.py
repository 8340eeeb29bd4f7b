"""Puts together what finds people.

people = build_people(server_name, database, events, profiles, tasks)
door.observers.append(people.directory)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.people.directory import PeopleDirectory
from homeserver.people.mutual import MutualRooms
from homeserver.rooms.events import EventCache
from homeserver.tasks import Tasks
from homeserver.userdata.profiles import Profiles
from storage.database import Database


class People(msgspec.Struct, frozen=True):
    directory: PeopleDirectory
    mutual: MutualRooms

    def collaborators(self) -> Mapping[type[Any], object]:
        """What handlers take, by type."""
        return {PeopleDirectory: self.directory, MutualRooms: self.mutual}


def build_people(server_name: str, database: Database, events: EventCache, profiles: Profiles, tasks: Tasks) -> People:
    """Whoever calls this adds the directory to the listeners of accounts and profiles, and to the door's observers."""
    return People(PeopleDirectory(database, events, profiles, tasks, server_name), MutualRooms(database))
