"""Puts the search together."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from federation.service import service
from homeserver.rooms.history import History
from homeserver.rooms.registry import Rooms
from homeserver.search.context import Contexts
from homeserver.search.engine import Search
from homeserver.search.indexer import Indexer
from homeserver.tasks import Tasks
from storage.database import Database


@service
class Searching:
    """The services of `homeserver.search`."""

    search: Search
    contexts: Contexts
    indexer: Indexer

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.search, self.contexts)}


def build_search(database: Database, rooms: Rooms, history: History, timers: IReactorTime, tasks: Tasks) -> Searching:
    """`history`: of the same rooms."""
    visibility, ignoring, hub = history.visibility, history.ignoring, history.hub
    indexer = Indexer(database, hub, timers, tasks)
    return Searching(
        search=Search(database, hub, rooms, history.events, visibility, ignoring, indexer, history.access.closed),
        contexts=Contexts(database, visibility, ignoring),
        indexer=indexer,
    )
