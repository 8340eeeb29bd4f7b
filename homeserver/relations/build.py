"""Puts together what knows of events under other events."""

from __future__ import annotations

import msgspec

from homeserver.relations.bundles import Bundles
from homeserver.relations.listing import Relations
from homeserver.relations.rules import RelationRules
from homeserver.relations.summaries import Summaries
from homeserver.relations.threads import ThreadList
from homeserver.rooms.history import History
from homeserver.userdata.ignoring import Ignorance
from storage.database import Database


class Relating(msgspec.Struct, frozen=True):
    """The services of `homeserver.relations`."""

    bundles: Bundles
    listing: Relations
    threads: ThreadList
    rules: RelationRules

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.bundles, self.listing, self.threads)}


def build_relations(database: Database, history: History, ignoring: Ignorance, server_name: str) -> Relating:
    """`history`: of the same rooms."""
    access, visibility = history.access, history.visibility
    bundles = Bundles(Summaries(database, visibility, server_name), ignoring)
    return Relating(
        bundles=bundles,
        listing=Relations(database, access, visibility, history, ignoring),
        threads=ThreadList(database, access, visibility, bundles, ignoring),
        rules=RelationRules(database),
    )
