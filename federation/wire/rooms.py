"""What servers say to each other about rooms. Events stay raw JSON until the room's version is known.

Spec: https://spec.matrix.org/v1.19/server-server-api/
"""

from __future__ import annotations

import msgspec

Pdu = msgspec.Raw
"""An event as raw JSON, checked for nothing but being JSON."""


class MakeAnswer(msgspec.Struct, frozen=True):
    """Answer to `make_join`, `make_leave` and `make_knock`: a member event without hashes and signatures."""

    event: Pdu
    room_version: str = "1"


class SendJoinAnswer(msgspec.Struct, frozen=True):
    state: list[Pdu]
    """Before the join."""
    auth_chain: list[Pdu]
    event: Pdu = msgspec.Raw()
    """The join with the resident server's signature, where it was needed; else empty, or null."""
    members_omitted: bool = False
    servers_in_room: list[str] = []


class SendKnockAnswer(msgspec.Struct, frozen=True):
    knock_room_state: list[Pdu] = []


class InviteAnswer(msgspec.Struct, frozen=True):
    event: Pdu


class Pdus(msgspec.Struct, frozen=True):
    """Answer to `event` and `backfill`."""

    pdus: list[Pdu]


class MissingEvents(msgspec.Struct, frozen=True):
    events: list[Pdu]


class StateAnswer(msgspec.Struct, frozen=True):
    pdus: list[Pdu]
    auth_chain: list[Pdu]


class StateIdsAnswer(msgspec.Struct, frozen=True):
    pdu_ids: list[str]
    auth_chain_ids: list[str]


class TimedEvent(msgspec.Struct, frozen=True, gc=False):
    """A peer's word on which event of a room is closest to a moment."""

    event_id: str
    origin_server_ts: int
    """In ms."""
