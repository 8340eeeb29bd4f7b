"""Events as clients see them, made by joining bytes: what is the same for everybody is serialised once.

An event's *prefix* is its client format without `room_id` and `unsigned`, up to and not including the closing brace;
it is kept with the event. A reader's copy is the prefix, the room id where the endpoint shows it, and a small
`unsigned`: age, the transaction id for the device that sent it, the membership that the reader had at the time, what
the event replaced or why it was redacted.

Spec: https://spec.matrix.org/v1.19/client-server-api/#room-event-format
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import orjson

from federation.room.event import Event
from federation.room.sticky import sticks_until, sticky_ms
from storage.ports import StoredEvent

_text = orjson.dumps


def prefix(event: Event) -> bytes:
    """The part that all readers share, from the event's own cache."""
    made = event.client_prefix
    if made is None:
        made = event.client_prefix = _make_prefix(event)
    return made


def _make_prefix(event: Event) -> bytes:
    parts = [
        b'{"content":',
        event.content_json if event.redacts is None else _with_redacts(event),
        b',"event_id":',
        _text(event.event_id),
    ]
    if (duration := sticky_ms(event)) is not None:
        parts.append(b',%b{"duration_ms":%d}' % (_STICKY, duration))
    parts += [b',"origin_server_ts":', b"%d" % event.origin_server_ts]
    if event.redacts is not None:
        # Where its version keeps `redacts` in the content, older clients still look for it beside it; and newer ones
        # in the content where it is not.
        parts += [b',"redacts":', _text(event.redacts)]
    parts += [b',"sender":', _text(event.sender)]
    if event.state_key is not None:
        parts += [b',"state_key":', _text(event.state_key)]
    parts += [b',"type":', _text(event.type)]
    return b"".join(parts)


def _with_redacts(event: Event) -> bytes:
    """A redaction's content with the id of its target in it, wherever its room version keeps that.

    Spec: https://spec.matrix.org/v1.19/rooms/v11/#event-format-1
    """
    given = event.content_json
    if event.content.get("redacts") == event.redacts:
        return given
    # Joined as bytes: the content of old room versions may hold numbers that do not survive another writing.
    members = [
        *(b"%b:%b" % (_text(key), bytes(value)) for key, value in _members(given).items() if key != "redacts"),
        b'"redacts":' + _text(event.redacts),
    ]
    return b"{%b}" % b",".join(sorted(members))


_STICKY = b'"msc4354_sticky":'
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Reader(msgspec.Struct, frozen=True):
    """Who the copy is for."""

    user_id: str
    device_id: str | None
    now_ms: int
    peek: Callable[[int], StoredEvent | None] = lambda nid: None
    """Finds a replaced state event for `prev_content`, if it happens to be in memory."""
    bundled: Mapping[int, bytes] = msgspec.field(default_factory=dict)
    """What else goes into `unsigned` of some events, by nid: members, each as `,"key":value`."""


def client_event(stored: StoredEvent, reader: Reader, *, room_id: bool = True, membership: str | None = None) -> bytes:
    """One reader's copy of an event, as JSON.

    `membership`: the reader's at the time of the event (`unsigned.membership`).
    """
    parts = [prefix(stored.event)]
    if room_id:
        parts += [b',"room_id":', _text(stored.event.room_id)]
    return b"".join([*parts, *_unsigned(stored, reader, membership)])


def federation_event(stored: StoredEvent, reader: Reader, *, membership: str | None = None) -> bytes:
    """The same in the format that servers exchange, for the few clients whose filter asks for it."""
    return b"".join([stored.event.raw[:-1], *_unsigned(stored, reader, membership)])


def _unsigned(stored: StoredEvent, reader: Reader, membership: str | None) -> list[bytes]:
    """The end of an event: `unsigned`, with a comma in front, and the closing brace."""
    event = stored.event
    # Events that a peer dates into the future have no negative age.
    parts = [b',"unsigned":{"age":%d' % max(0, reader.now_ms - event.origin_server_ts)]
    if membership is not None:
        parts.append(b',"membership":' + _text(membership))
    if _STICKY in prefix(event):
        parts += _sticks(stored, reader)
    if stored.txn_id is not None and event.sender == reader.user_id and stored.device_id == reader.device_id:
        parts.append(b',"transaction_id":' + _text(stored.txn_id))
    if stored.replaces:
        replaced = reader.peek(stored.replaces)
        if replaced is not None:
            parts += [
                b',"prev_content":',
                replaced.event.content_json,
                # COMPAT Complement, Element: not in the specification, but Synapse has always said it.
                b',"prev_sender":',
                _text(replaced.event.sender),
                b',"replaces_state":',
                _text(replaced.event.event_id),
            ]
    if stored.redacted_because is not None:
        parts += [b',"redacted_because":', client_event(stored.redacted_because, reader)]
    if stored.nid in reader.bundled:
        parts.append(reader.bundled[stored.nid])
    parts.append(b"}}")
    return parts


def _sticks(stored: StoredEvent, reader: Reader) -> list[bytes]:
    """How long an event will stick yet, which a client could not tell by a clock of its own."""
    until = sticks_until(stored.event, stored.received_ts)
    left = 0 if until is None else until - reader.now_ms
    return [b',"msc4354_sticky_duration_ttl_ms":%d' % left] if left > 0 else []


def is_personal(stored: StoredEvent, user_id: str) -> bool:
    """Whether a user's copy may differ from everybody else's: its own devices' transaction ids."""
    return stored.txn_id is not None and stored.event.sender == user_id


def stripped_state(event: Event) -> bytes:
    """A state event in the stripped form that goes with invites and knocks.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#stripped-state
    """
    return b"".join(
        (
            b'{"content":',
            event.content_json,
            b',"sender":',
            _text(event.sender),
            b',"state_key":',
            _text(event.state_key or ""),
            b',"type":',
            _text(event.type),
            b"}",
        )
    )
