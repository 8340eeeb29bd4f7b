"""Which rooms a space names as its own: the `m.space.child` events that count, in their order.

Spec: https://spec.matrix.org/v1.19/client-server-api/#mspacechild
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import orjson

from federation.room.identifiers import InvalidIdentifier, parse_room_id, parse_server_name
from federation.wire.spaces import SpaceChild
from storage.ports import StoredEvent
from storage.previews import CHILD

MAX_ORDER = 50
MOST_VIA = 10
MOST_CHILDREN = 2_000
"""Of one space that are looked at."""


class Child(msgspec.Struct, frozen=True):
    """A room that a space names."""

    room_id: str
    via: Sequence[str]
    suggested: bool
    order: str | None
    origin_server_ts: int
    event: Mapping[str, Any]
    """The stripped event, as clients and servers are shown it."""


def children_of(events: Iterable[StoredEvent]) -> list[Child]:
    """From the events of a room of ours."""
    found = []
    for stored in events:
        event = stored.event
        shown = {
            "type": event.type,
            "state_key": event.state_key,
            "sender": event.sender,
            "content": orjson.Fragment(event.content_json),
            "origin_server_ts": event.origin_server_ts,
        }
        found.append(_child(event.state_key or "", event.content, event.origin_server_ts, shown))
    return _in_order(found)


def told_children(events: Iterable[SpaceChild]) -> list[Child]:
    """From what another server tells."""
    return _in_order(
        _child(event.state_key, event.content, event.origin_server_ts, msgspec.structs.asdict(event))
        for event in events
        if event.type == CHILD
    )


def _child(room_id: str, content: Mapping[str, Any], ts: int, shown: Mapping[str, Any]) -> Child | None:
    """None for what names no room, or none that could be joined: such a child was taken away."""
    via = content.get("via")
    servers = [server for server in via if _is_server(server)] if isinstance(via, list) else []
    if not servers:
        return None
    try:
        parse_room_id(room_id)
    except InvalidIdentifier:
        return None
    order = content.get("order")
    return Child(
        room_id,
        servers[:MOST_VIA],
        content.get("suggested") is True,
        order if isinstance(order, str) and _is_order(order) else None,
        ts,
        shown,
    )


def _in_order(children: Iterable[Child | None]) -> list[Child]:
    return sorted((child for child in children if child is not None), key=_place)[:MOST_CHILDREN]


def _place(child: Child) -> tuple[bool, str, int, str]:
    """Those with an `order` first, by that; the rest by age.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#ordering-of-children-within-a-space
    """
    return child.order is None, child.order or "", child.origin_server_ts, child.room_id


def _is_order(text: str) -> bool:
    return 0 < len(text) <= MAX_ORDER and all("\x20" <= character <= "\x7e" for character in text)


def _is_server(name: object) -> bool:
    try:
        parse_server_name(name)
    except InvalidIdentifier:
        return False
    return True
