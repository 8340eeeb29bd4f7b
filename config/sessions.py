"""How long a login lasts."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Sessions:
    """How long a login lasts."""

    access_token_lifetime_ms: int | None = setting(
        None,
        doc="How long an access token lives for clients that cannot refresh it; without a value, until logout.",
        check=at_least(1000),
    )
    refreshable_access_token_lifetime_ms: int = setting(
        5 * 60 * 1000,
        doc="How long an access token lives for clients that asked for a refresh token.",
        check=at_least(1000),
    )
    refresh_token_lifetime_ms: int | None = setting(
        None, doc="After how long without use a refresh token dies; without a value, never.", check=at_least(1000)
    )
