"""Puts together this server's way to the web: whatever URL somebody names, within what the settings allow."""

from __future__ import annotations

from typing import Any

from config import Settings
from federation.discovery.private import AddressPolicy
from federation.outbound.dial import Dialer
from federation.outbound.names import SystemAddresses
from federation.outbound.tls import PeerTls
from federation.outbound.web_client import WebClient
from federation.threads import Threads
from homeserver.about import USER_AGENT
from homeserver.clock import Clock

LOOKUP_THREADS = 4


def build_web(settings: Settings, clock: Clock, reactor: Any) -> WebClient:
    """Apart from the ways to peers: what hangs there holds up nobody here. Raises `BadAuthorities`."""
    ours = settings.web
    lookups = Threads(reactor, LOOKUP_THREADS, "web addresses")
    dialer = Dialer(
        reactor,
        PeerTls(ours.ca_path),
        SystemAddresses(lookups),
        AddressPolicy.of(ours.allowed_private_ranges, allow_loopback=ours.allow_loopback),
        ours.connect_timeout_ms / 1000,
    )
    return WebClient(dialer, clock.timers, USER_AGENT, on_close=lookups.close)
