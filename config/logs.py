"""What the server writes down about its work."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from config.field import setting


@frozen(kw_only=True)
class Logging:
    """What the server writes down about its work; always to standard error."""

    format: Literal["console", "json"] = setting(
        "console", doc="console for people, json (one object a line) for log collectors."
    )
    level: Literal["debug", "info", "warning", "error"] = setting("info", doc="The least severe messages to keep.")
