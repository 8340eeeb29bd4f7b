"""`rooms/{room_id}/messages/{event_id}`: what became of a message, and what else can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from federation.room.relations import ENCRYPTED
from homeserver.guilds.api.fields import API, Id
from homeserver.guilds.api.scheduled import TxnId
from homeserver.guilds.forwarding import Forwarder
from homeserver.http.route import USER, Requester, route
from homeserver.records.marks import MessageMarks
from homeserver.relations.listing import Relations
from storage.ports import StoredEvent

ONE: Final = f"{API}/rooms/{{room_id}}/messages/{{event_id}}"
MOST_TARGETS: Final = 20


class Version(msgspec.Struct, frozen=True):
    """A message as it was for a time."""

    event_id: str
    ts: int
    content: dict[str, Any]


class EditsAnswer(msgspec.Struct, frozen=True):
    original: Version
    edits: list[Version]
    """What was said instead, the oldest first; of encrypted ones what is in the clear."""


class MarkAnswer(msgspec.Struct, frozen=True):
    user_id: str
    ts: int


class StatusAnswer(msgspec.Struct, frozen=True):
    sent_ts: int
    delivered: list[MarkAnswer]
    """To people of this server who were in the room: since when it is on one of their devices."""
    read: list[MarkAnswer]
    """Who says in public to have read so far, and since when at the latest."""


class ErrorAnswer(msgspec.Struct, frozen=True):
    errcode: str
    error: str


class Forwarded(msgspec.Struct, frozen=True):
    events: dict[str, str]
    """By room: the id of the event there."""
    errors: dict[str, ErrorAnswer]
    """By room: why it could not be said there."""


class OneMessage(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str


class Forward(msgspec.Struct, frozen=True):
    room_id: str
    event_id: str
    room_ids: Annotated[list[Id], Meta(min_length=1, max_length=MOST_TARGETS)]
    txn_id: TxnId | None = None
    """Asking twice with the same one is asking once."""


@route("GET", f"{ONE}/edits", auth=USER, rate="read")
async def get_edits(relations: Relations, who: Requester, ask: OneMessage) -> EditsAnswer:
    """A message as it was first, and each of its edits. Of what was redacted nothing is told."""
    original, *edits = await relations.versions(ask.room_id, who.user_id, ask.event_id)
    return EditsAnswer(
        _version(original, original.event.content),
        [] if original.redacted_by else [_version(edit, _said(edit)) for edit in edits],
    )


@route("GET", f"{ONE}/status", auth=USER, rate="read")
async def get_status(marks: MessageMarks, who: Requester, ask: OneMessage) -> StatusAnswer:
    """When a message was sent, whom it has come to, and who has read it; its sender apart. Up to 1,000 people each."""
    found = await marks.of(who.user_id, ask.room_id, ask.event_id)
    delivered, read = ([MarkAnswer(*mark) for mark in each] for each in (found.delivered, found.read))
    return StatusAnswer(found.sent_ts, delivered, read)


@route("POST", f"{ONE}/forward", auth=USER, rate="message")
async def forward_message(forwarder: Forwarder, who: Requester, ask: Forward) -> Forwarded:
    """Say a message again in other rooms, as it is now. Where none takes it, the first one's error is the answer."""
    made, failed = await forwarder.forward(who, ask.room_id, ask.event_id, ask.room_ids, ask.txn_id)
    if not made:
        raise next(iter(failed.values()))
    return Forwarded(made, {room_id: ErrorAnswer(error.errcode, error.error) for room_id, error in failed.items()})


def _version(stored: StoredEvent, content: Mapping[str, Any]) -> Version:
    return Version(stored.event.event_id, stored.event.origin_server_ts, dict(content))


def _said(edit: StoredEvent) -> Mapping[str, Any]:
    """What an edit puts in the place of what was said."""
    content: Mapping[str, Any] = edit.event.content
    new: Mapping[str, Any] = content if edit.event.type == ENCRYPTED else content["m.new_content"]
    return new
