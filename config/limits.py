"""How much anybody may send at once."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Limits:
    """How much anybody may send at once. Judged before a body is read."""

    max_body_bytes: int = setting(
        1024 * 1024, doc="The largest JSON body that a client may send.", check=at_least(65536)
    )
    max_federation_body_bytes: int = setting(
        16 * 1024 * 1024,
        doc="The largest JSON body that another server may send; a full transaction of 50 events must fit.",
        check=at_least(4 * 1024 * 1024),
    )
    max_json_depth: int = setting(100, doc="How deeply objects and lists in a body may be nested.", check=at_least(10))
    max_sync_timeout_ms: int = setting(
        10 * 60 * 1000, doc="The longest that a /sync request is kept waiting, whatever it asks for.", check=at_least(0)
    )
