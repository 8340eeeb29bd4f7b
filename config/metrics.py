"""Figures for Prometheus."""

from __future__ import annotations

from attrs import frozen

from config.field import setting


@frozen(kw_only=True)
class Metrics:
    """Figures for Prometheus, at /_guildhall/metrics."""

    enabled: bool = setting(True, doc="Whether figures are kept and served.")
    token: str | None = setting(
        None,
        doc="What a scraper must send as `Authorization: Bearer …`. Without a value only this machine may read the "
        "figures, and only directly, not through a proxy.",
        secret=True,
    )
