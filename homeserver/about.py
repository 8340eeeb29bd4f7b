"""What this server says of itself to whoever asks: versions, capabilities, addresses.

Other features add to it while the house is built: a flag that clients look for, a capability.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from attrs import define, field

import homeserver
from config import Settings
from federation.room.versions import ROOM_VERSIONS
from homeserver.voip import transports

USER_AGENT = f"Guildhall/{homeserver.__version__}"
"""Of its own requests."""

SOFTWARE: Mapping[str, str] = {"name": "Guildhall", "version": homeserver.__version__}
"""Which program this is, for those who read crash reports."""

SPEC_VERSIONS = (
    "r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1",
    "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13",
)  # fmt: skip
"""What clients may take for granted: everything of these versions that the specification does not leave to the server.
Parts of later versions that are here already have a flag of their own below.
"""

UNSTABLE_FEATURES: Mapping[str, bool] = {
    "org.matrix.msc2285.stable": True,  # private read receipts, v1.4
    "org.matrix.msc3440.stable": True,  # threads, v1.4
    "org.matrix.msc3856.stable": True,  # lists of them
    "org.matrix.msc3715.stable": True,  # relations from the oldest on, v1.4
    "uk.tcpip.msc4133": True,  # custom profile fields, v1.16
    "uk.tcpip.msc4133.stable": True,
    "org.matrix.e2e_cross_signing": True,  # v1.1
    "org.matrix.msc3814": True,  # dehydrated devices
    "uk.half-shot.msc2666.query_mutual_rooms": True,  # v1.19
    "uk.half-shot.msc2666.query_mutual_rooms.stable": True,
    "org.matrix.msc3916.stable": True,  # files with a token only, v1.11
    "org.matrix.msc3912": True,  # redactions that take along what hangs on an event
    "org.matrix.msc3881": True,  # pushers that are switched off, also those of other devices
    "org.matrix.msc4140": True,  # delayed events
    "org.matrix.msc4143": True,  # what carries conferences
    "org.matrix.msc4155": True,  # invitations by lists of people and servers
    "org.matrix.msc4354": True,  # sticky events
    "org.matrix.simplified_msc3575": True,  # sliding sync
    "org.matrix.msc4222": True,  # `state_after` in /sync, v1.16
    "org.matrix.msc3030": True,  # events by time, v1.6
    "org.matrix.msc4306": True,  # subscriptions of threads
    "org.matrix.msc4308": True,  # and what sliding sync says of them
    "org.matrix.msc4262": True,  # changes of profiles in sliding sync
    "org.matrix.msc4429": True,  # and in /sync
    "net.zemos.msc4383": True,  # what server this is, beside these
}


log = structlog.get_logger("homeserver")


@define
class About:
    """The answers that are the same for everybody."""

    settings: Settings
    policy_key: str | None = None
    """What this server signs with as a policy server; None where it is none."""
    unstable_features: dict[str, bool] = field(factory=lambda: dict(UNSTABLE_FEATURES))
    more_capabilities: dict[str, Callable[[], Awaitable[Mapping[str, Any]]]] = field(factory=dict)
    """What parts of the house have to say, found out when somebody asks."""

    def versions(self) -> Mapping[str, Any]:
        """Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientversions"""
        return {
            "versions": SPEC_VERSIONS,
            "unstable_features": self.unstable_features,
            # MSC4383: https://github.com/matrix-org/matrix-spec-proposals/pull/4383
            "net.zemos.msc4383.server": SOFTWARE,
        }

    async def capabilities(self) -> Mapping[str, Any]:
        """Without what can't be found out just now.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#capabilities-negotiation
        """
        more: dict[str, Mapping[str, Any]] = {}
        for name, find_out in self.more_capabilities.items():
            try:
                more[name] = await find_out()
            except Exception:
                log.exception("a capability can't be told", name=name)
        limits = self.settings.limits
        delayed = {"max_delay_ms": limits.max_event_delay_ms, "max_scheduled": limits.max_delayed_events}
        available = {name: "stable" if version.stable else "unstable" for name, version in ROOM_VERSIONS.items()}
        return {
            "m.change_password": {"enabled": True},
            "m.room_versions": {"default": self.settings.rooms.default_version, "available": available},
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
            "m.profile_fields": {"enabled": True},
            "m.3pid_changes": {"enabled": False},
            "m.get_login_token": {"enabled": False},
            "m.forget_forced_upon_leave": {"enabled": False},
            "m.delayed_events": delayed,
            "org.matrix.msc4140.delayed_events": delayed,
            **more,
        }

    def client_discovery(self) -> Mapping[str, Any] | None:
        """Where clients find this server; None if the settings do not say."""
        base_url = self.settings.server.public_baseurl
        if base_url is None:
            return None
        found: dict[str, Any] = {"m.homeserver": {"base_url": base_url.rstrip("/")}}
        if foci := transports(self.settings.voip):
            # COMPAT Cinny, FluffyChat: they look for what carries conferences here.
            found["org.matrix.msc4143.rtc_foci"] = foci
        return found

    def server_discovery(self) -> Mapping[str, Any] | None:
        """Where other servers find it: TLS is a must there, so a plain HTTP address does not count."""
        base_url = self.settings.server.public_baseurl
        if base_url is None or not base_url.startswith("https://"):
            return None
        authority = urlsplit(base_url)
        host = authority.netloc.rpartition("@")[2]
        return {"m.server": host if authority.port is not None else f"{host}:443"}

    def policy_discovery(self) -> Mapping[str, Any] | None:
        """What a room has to hold that chooses this server as its policy server.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixpolicy_server
        """
        return None if self.policy_key is None else {"public_keys": {"ed25519": self.policy_key}}

    def contact(self) -> str:
        """Whom somebody may write to who has to do with this server's requests: mailto: or https:."""
        contact = self.settings.server.admin_contact or self.settings.server.public_baseurl or ""
        if contact.startswith(("https://", "mailto:")):
            return contact
        host = self.settings.server.name.partition(":")[0]
        return f"mailto:{contact}" if "@" in contact else f"mailto:postmaster@{host}"

    def support(self) -> Mapping[str, Any] | None:
        """How to reach the people who run it."""
        contact = self.settings.server.admin_contact
        if contact is None:
            return None
        if contact.startswith(("http://", "https://")):
            return {"support_page": contact}
        return {"contacts": [{"role": "m.role.admin", "email_address": contact.removeprefix("mailto:")}]}
