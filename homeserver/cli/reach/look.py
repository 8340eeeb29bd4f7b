"""Runs a reactor for as long as the checks of the world take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from config import Settings
from homeserver.cli.findings import Finding, bad
from homeserver.reactor import install_reactor

LOOKUP_THREADS = 4


def look_around(settings: Settings, key_ids: Sequence[str], is_running: bool) -> list[Finding]:
    """All findings. Blocks; once in a process, because a reactor runs only once."""
    install_reactor()
    from twisted.internet import reactor

    from federation.outbound.trust import BadAuthorities

    outcome: list[list[Finding] | Failure] = []

    def done(result: list[Finding] | Failure) -> None:
        outcome.append(result)
        reactor.stop()

    looking = _look(settings, key_ids, is_running, reactor)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(looking).addBoth(done))
    reactor.run()
    (result,) = outcome
    if not isinstance(result, Failure):
        return result
    if isinstance(result.value, BadAuthorities):
        return [bad("authorities", str(result.value))]
    result.raiseException()


async def _look(settings: Settings, key_ids: Sequence[str], is_running: bool, reactor: Any) -> list[Finding]:
    from federation.discovery.private import AddressPolicy
    from federation.gather import gather
    from federation.outbound.dial import Dialer
    from federation.outbound.names import NameServers, SystemAddresses
    from federation.outbound.tls import PeerTls
    from federation.outbound.web_client import WebClient
    from federation.outbound.wellknown import HttpsWellKnown
    from federation.threads import Threads
    from homeserver.about import USER_AGENT
    from homeserver.cli.reach.clients import check_clients
    from homeserver.cli.reach.peers import check_peers
    from homeserver.cli.reach.way_out import check_way_out
    from homeserver.cli.reach.world import World
    from homeserver.clock import Clock
    from homeserver.federation_api.build import make_transport

    threads = Threads(reactor, LOOKUP_THREADS, "addresses")
    addresses = SystemAddresses(threads)
    everywhere = AddressPolicy.of(("0.0.0.0/0", "::/0"))
    timeout_s = settings.federation.connect_timeout_ms / 1000
    dialer = Dialer(reactor, PeerTls(settings.federation.ca_path), addresses, everywhere, timeout_s)
    transport = make_transport(settings, Clock(reactor), reactor, threads)
    world = World(
        settings=settings,
        key_ids=key_ids,
        is_running=is_running,
        web=HttpsWellKnown(WebClient(dialer, reactor, USER_AGENT)),
        srv=NameServers(reactor),
        addresses=addresses,
        dialer=dialer,
        transport=transport,
        timers=reactor,
    )
    try:
        parts = await gather([check_peers(world), check_clients(world), check_way_out(world)])
    finally:
        await transport.close()
        threads.close()
    return [finding for part in parts for finding in part]
