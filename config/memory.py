"""What is kept in memory so that it need not be read again."""

from __future__ import annotations

from attrs import frozen

from config.field import at_least, setting


@frozen(kw_only=True)
class Memory:
    """What is kept in memory so that it need not be read again."""

    room_state: int = setting(
        60_000,
        doc="How much state the rooms in use may hold together, in state events; in large rooms nearly all of it is "
        "members. Each takes some 400 bytes, so 60000 are 23 MiB. Where the rooms that people use at the same time "
        "have more than this, they are read from the database again and again: 40 ms for one of 10,000 members.",
        check=at_least(1_000),
    )
    event_bytes: int = setting(
        12 * 1024 * 1024, doc="How much of recently used events is kept, by estimate.", check=at_least(1024 * 1024)
    )
