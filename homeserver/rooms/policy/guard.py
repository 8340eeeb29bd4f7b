"""Whose signature an event in a room needs beside its sender's, and getting it.

    our event      no signature, no event: whoever wanted to send it is told why
    a peer's       asked for where it is missing or wrong; without it the event is soft-failed

Spec: https://spec.matrix.org/v1.19/server-server-api/#validating-policy-server-signatures
"""

from __future__ import annotations

from typing import Protocol

import structlog
from attrs import field

from federation.outbound.transport import PeerError, Refused, Unreachable
from federation.room.event import Event
from federation.room.format import BadEvent
from federation.room.policy import POLICY, PolicyServer, is_endorsed, is_exempt, read_policy, with_endorsement
from federation.service import service
from homeserver.errors import Forbidden, LimitExceeded, MatrixError, Unavailable
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import LiveRoom
from storage.shared import Memory

_TOLD = frozenset({"M_FORBIDDEN", "M_NOT_FOUND", "M_BAD_JSON", "M_NOT_JSON", "M_UNRECOGNIZED"})
"""What a policy server's refusal may be called towards our clients: other codes would tell them something about their
session here, which is not its business."""

SAFETY = frozenset({"M_SAFETY", "ORG.MATRIX.MSC4387_SAFETY"})
"""That something would do harm. MSC4387: https://github.com/matrix-org/matrix-spec-proposals/pull/4387"""

log = structlog.get_logger("homeserver.rooms.policy")


class Signer(Protocol):
    """Asks a policy server."""

    async def sign(self, server: str, event: bytes) -> str:
        """Its signature, not verified yet. Raises `PeerError`."""


class OwnDesk(Protocol):
    """This server as a policy server."""

    async def judge(self, room: LiveRoom, origin: str, event: Event) -> str:
        """The signature. Raises MatrixError: why there is none."""


@service
class Guard:
    """Implements `homeserver.rooms.endorsing.Endorser`."""

    server_name: str
    events: EventCache
    signer: Signer
    desk: OwnDesk
    _servers: Memory[int, PolicyServer] = field(factory=lambda: Memory(1_000))
    """By the nid of the event that names it."""

    async def server_of(self, room: LiveRoom) -> PolicyServer | None:
        """The room's policy server, if it has one: it must have somebody in the room."""
        ref = room.visible.state.get(POLICY)
        if ref is None:
            return None
        server = self._servers.get(ref.nid)
        if server is None:
            stored = await self.events.get(ref.nid)
            server = None if stored is None else read_policy(stored.event.content)
            if server is None:
                return None
            self._servers.put(ref.nid, server)
        return server if server.via in room.servers else None

    async def endorse(self, room: LiveRoom, event: Event) -> Event:
        server = None if is_exempt(event) else await self.server_of(room)
        if server is None or is_endorsed(room.version, event, server):
            return event
        try:
            return await self._signed(room, event, server)
        except Unreachable as error:
            log.info("no policy server", peer=server.via, room=room.room_id, why=error.why)
            raise Unavailable(f"{server.via}, which this room has look at everything first, can't be reached") from None
        except Refused as error:
            raise _passed_on(server, error) from None
        except PeerError as error:
            log.info("no policy server", peer=server.via, room=room.room_id, why=error.why)
            text = f"{server.via}, which this room has look at everything first, gave an answer that makes no sense"
            raise MatrixError(502, "M_UNKNOWN", text) from None

    async def review(self, room: LiveRoom, event: Event) -> tuple[Event, str | None]:
        server = None if is_exempt(event) else await self.server_of(room)
        if server is None or is_endorsed(room.version, event, server):
            return event, None
        try:
            return await self._signed(room, event, server), None
        except (PeerError, MatrixError) as error:
            log.info("not endorsed", peer=server.via, room=room.room_id, event_id=event.event_id, why=str(error))
            return event, f"{server.via} did not sign it"

    async def _signed(self, room: LiveRoom, event: Event, server: PolicyServer) -> Event:
        """The event with the signature, verified. Raises PeerError, and MatrixError where we are asked ourselves."""
        if server.via == self.server_name:
            signature = await self.desk.judge(room, self.server_name, event)
        else:
            signature = await self.signer.sign(server.via, event.raw)
        try:
            signed = with_endorsement(room.version, event, server.via, signature)
        except BadEvent as error:
            raise Forbidden(f"With the policy server's signature this becomes too large: {error}") from None
        if not is_endorsed(room.version, signed, server):
            why = f"{server.via} does not sign with the key that the room names"
            raise Refused(server.via, 403, "M_FORBIDDEN", why)
        return signed


def _passed_on(server: PolicyServer, error: Refused) -> MatrixError:
    """The policy server's refusal as our client is told it: in its own words, as far as they are fit for that."""
    if error.status == 429:
        return LimitExceeded(min(error.retry_after_ms or 1_000, 60_000))
    if error.status in (400, 403, 404) and error.errcode in _TOLD:
        return MatrixError(error.status, error.errcode, error.error or f"{server.via} refused")
    if error.status == 400 and error.errcode in SAFETY:
        until = {} if error.expiry is None else {"expiry": error.expiry}
        more = {"harms": list(error.harms), **until}
        return MatrixError(400, error.errcode, error.error or f"{server.via} refused", more)
    if error.status < 500:
        return Forbidden(error.error or f"{server.via} refused")
    return MatrixError(502, "M_UNKNOWN", f"{server.via} answered with an error: {error.why}")
