"""How this server talks to others."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from config.field import ip_networks, setting


@frozen(kw_only=True)
class Federation:
    """How this server talks to others."""

    enabled: bool = setting(True, doc="Whether other servers can take part in rooms here, and people here in theirs.")
    allow_loopback: bool = setting(
        False,
        doc="Whether a peer may live on this machine's own addresses. For tests: it opens local services to guesses.",
    )
    allowed_private_ranges: tuple[str, ...] = setting(
        (),
        doc="Private address ranges in which peers may live (10.0.0.0/8); all others are refused, after DNS too.",
        check=ip_networks,
    )
    ca_path: Path | None = setting(
        None, doc="Certificate authorities (PEM) to trust for peers, instead of the system's: for a closed federation."
    )
