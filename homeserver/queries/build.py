"""Puts together what this server asks of others for the people here.

asking = build_asking(settings.server.name, federation.client, clock)
federation.gate.observers.append(asking.patience.heard_of)
Aliases(..., asking.aliases), Directory(..., asking.directory), Profiles(database, whereabouts, asking.profiles)
"""

from __future__ import annotations

import msgspec

from federation.outbound.client import FederationClient
from federation.outbound.patience import Patience
from federation.outbound.queries import Queries
from homeserver.clock import Clock
from homeserver.queries.aliases import AskedAliases
from homeserver.queries.directory import AskedDirectory
from homeserver.queries.profiles import AskedProfiles
from homeserver.queries.spaces import AskedSpaces
from homeserver.queries.visitors import Visitors


class Asking(msgspec.Struct, frozen=True):
    """The ports of the house, filled by asking other servers."""

    aliases: AskedAliases
    directory: AskedDirectory
    profiles: AskedProfiles
    spaces: AskedSpaces
    visitors: Visitors
    patience: Patience
    """Wants to know which servers are heard of."""


def build_asking(server_name: str, client: FederationClient, clock: Clock) -> Asking:
    patience = Patience(clock.now_ms)
    queries = Queries(client, patience)
    return Asking(
        AskedAliases(queries),
        AskedDirectory(queries),
        AskedProfiles(server_name, queries, clock.now_ms),
        AskedSpaces(server_name, queries, clock.now_ms),
        Visitors(server_name, client, patience, clock.now_ms),
        patience,
    )
