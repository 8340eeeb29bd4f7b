"""Puts together what it takes to speak with other servers: names, connections, keys.

federation = build_federation(settings, database, clock, reactor, keys, hire=threads_of(reactor))
RouteTable([*ALL_ROUTES, *FEDERATION_ROUTES], {**collaborators, **federation.collaborators()})
Site(table, ..., federation=federation.gate)
await federation.start()       before the listeners open
await federation.close()       before the database closes
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field

from config import Settings
from federation.discovery.ladder import Ladder
from federation.discovery.private import AddressPolicy
from federation.discovery.srv import SrvRecords
from federation.discovery.wellknown import WellKnown
from federation.inbound.x_matrix import XMatrix
from federation.keys.fetch import RemoteKeys
from federation.keys.keyring import KeyRing
from federation.keys.notary import Notary
from federation.keys.own import OwnKeys
from federation.keys.sources import KeySources
from federation.outbound.client import FederationClient
from federation.outbound.dial import Dialer
from federation.outbound.https import HttpsTransport
from federation.outbound.names import NameServers, SystemAddresses
from federation.outbound.tls import PeerTls
from federation.outbound.transport import Transport
from federation.outbound.web_client import WebClient
from federation.outbound.wellknown import HttpsWellKnown
from federation.room.signing import SigningKey
from federation.service import service
from federation.threads import Hire, Workers
from homeserver.about import USER_AGENT
from homeserver.clock import Clock
from homeserver.federation_api.gate import Gate
from homeserver.federation_api.key_table import KeyTable
from storage.database import Database

LOOKUP_THREADS = 8


@service
class Federation:
    """This server among others. Made by `build_federation`."""

    client: FederationClient
    transport: Transport
    keyring: KeyRing
    workers: Workers
    """For signatures, and for whatever else computes."""
    own_keys: OwnKeys
    notary: Notary
    gate: Gate
    _on_close: Sequence[Callable[[], object]] = field(default=())

    def collaborators(self) -> Mapping[type[Any], object]:
        """What handlers of `homeserver.federation_api` take, by type."""
        friends: list[object] = [self.client, self.keyring, self.own_keys, self.notary]
        return {type(friend): friend for friend in friends}

    async def start(self) -> None:
        """Have this server's keys remembered, so that it can tell of them when they are no longer in use."""
        await self.own_keys.load()

    async def close(self) -> None:
        """Hang up everywhere. Requests under way fail as `Unreachable`; nobody waits for name servers."""
        await self.transport.close()
        for end in self._on_close:
            end()


def build_federation(
    settings: Settings,
    database: Database,
    clock: Clock,
    reactor: Any,
    keys: Sequence[SigningKey],
    *,
    hire: Hire,
    transport: Transport | None = None,
) -> Federation:
    """Put everything together; `keys` are this server's, of which the first signs. Raises `BadAuthorities`.

    Simulations hand in a transport of their own, and workers without threads.
    """
    server_name = settings.server.name
    ends: list[Callable[[], object]] = []
    if transport is None:
        lookups = hire(LOOKUP_THREADS, "addresses")
        ends.append(lookups.close)
        transport = make_transport(settings, clock, reactor, lookups)
    verifiers = hire(os.cpu_count() or 1, "signatures")
    ends.append(verifiers.close)
    client = FederationClient(server_name, keys[0], transport, settings.federation.timeout_ms / 1000)
    store = KeyTable(database)
    own_keys = OwnKeys(server_name, keys, store, clock.now_ms)
    sources = KeySources(RemoteKeys(client, clock.now_ms), settings.federation.notaries, clock.now_ms)
    keyring = KeyRing(own_keys, store, sources, verifiers)
    return Federation(
        client=client,
        transport=transport,
        keyring=keyring,
        workers=verifiers,
        own_keys=own_keys,
        notary=Notary(own_keys, store, keyring, clock.now_ms),
        gate=Gate(XMatrix(server_name, keyring, clock.now_ms)),
        on_close=ends,
    )


def make_transport(settings: Settings, clock: Clock, reactor: Any, lookups: Workers) -> HttpsTransport:
    """HTTPS to wherever names lead, within what the settings allow. Raises `BadAuthorities`."""
    ours = settings.federation
    dialer = Dialer(
        reactor,
        PeerTls(ours.ca_path),
        SystemAddresses(lookups),
        AddressPolicy.of(ours.allowed_private_ranges, allow_loopback=ours.allow_loopback),
        ours.connect_timeout_ms / 1000,
    )
    ladder = Ladder(
        WellKnown(HttpsWellKnown(WebClient(dialer, clock.timers, USER_AGENT)), clock.now_ms),
        SrvRecords(NameServers(reactor), clock.now_ms),
    )
    return HttpsTransport(ladder, dialer, clock.timers, USER_AGENT)
