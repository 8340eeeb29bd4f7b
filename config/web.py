"""How this server fetches what others name by URL."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from config.field import at_least, ip_networks, setting


@frozen(kw_only=True)
class Web:
    """How this server fetches what others name by URL: previews, push gateways, webhooks, files that lie elsewhere."""

    allow_loopback: bool = setting(
        False, doc="Whether an URL may lead to this machine's own addresses. It opens local services to guesses."
    )
    allowed_private_ranges: tuple[str, ...] = setting(
        (),
        doc="Private address ranges to which URLs may lead (10.0.0.0/8), such as that of a push gateway of your own; "
        "all others are refused, after DNS and after each redirect too.",
        check=ip_networks,
    )
    ca_path: Path | None = setting(
        None, doc="Certificate authorities (PEM) to trust for URLs, instead of the system's."
    )
    connect_timeout_ms: int = setting(
        10_000,
        doc="How long one address has to accept a connection and prove whose it is.",
        check=at_least(1),
    )
