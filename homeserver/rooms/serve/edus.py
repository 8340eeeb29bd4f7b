"""What passes and is not kept: typing, receipts, presence and the like from peers, each handed to who knows its type.

Spec: https://spec.matrix.org/v1.19/server-server-api/#edus
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import structlog
from attrs import field

from federation.service import service

log = structlog.get_logger("homeserver.rooms.serve")


class EduHandler(Protocol):
    """Takes what peers say of one type. What it can't use it drops; it checks who may say what."""

    async def __call__(self, origin: str, content: Mapping[str, Any]) -> None: ...


@service
class Edus:
    """Hands them on. Unknown types are dropped."""

    handlers: dict[str, EduHandler] = field(factory=dict)
    """By EDU type."""
    must_arrive: set[str] = field(factory=set)
    """Types that nothing later makes up for. Their handlers write what they are given in the order in which they are
    called, so several may be under way at once.
    """

    async def take(self, origin: str, edu_type: str, content: Mapping[str, Any]) -> None:
        """One that fails takes no others along. Raises only for what must arrive."""
        handler = self.handlers.get(edu_type)
        if handler is None:
            return
        try:
            await handler(origin, content)
        except Exception:
            log.exception("an EDU could not be taken", peer=origin, type=edu_type)
            if edu_type in self.must_arrive:
                raise
