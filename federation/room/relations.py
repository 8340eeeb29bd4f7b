"""What an event says of its relation to another: `m.relates_to` with a `rel_type`.

Spec: https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from federation.room.event import Event
from federation.room.identifiers import InvalidIdentifier, parse_event_id

REPLACE = "m.replace"
ANNOTATION = "m.annotation"
THREAD = "m.thread"
REFERENCE = "m.reference"

ENCRYPTED = "m.room.encrypted"


class Relation(msgspec.Struct, frozen=True, gc=False):
    """An event's place under another one, its parent."""

    rel_type: str
    parent: str
    """Event id. The parent may be in another room or nowhere: then the relation means nothing."""
    key: str | None = None
    """What an annotation says, such as an emoji."""


def relation_in(content: Mapping[str, Any]) -> Relation | None:
    """The relation that a content tells of, if it does so in the proper form."""
    told = content.get("m.relates_to")
    if not isinstance(told, dict):
        return None
    rel_type = told.get("rel_type")
    if not isinstance(rel_type, str) or not rel_type:
        return None
    try:
        parent = parse_event_id(told.get("event_id"))
    except InvalidIdentifier:
        return None
    key = told.get("key")
    return Relation(rel_type, parent, key if rel_type == ANNOTATION and isinstance(key, str) else None)


def relation_of(event: Event) -> Relation | None:
    """The relation of an event, unless it breaks by itself the rules of its kind: an edit that says nothing new, or is
    a piece of state, is no edit.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#validity-of-replacement-events
    """
    content = event.content
    if "m.relates_to" not in content:
        return None
    relation = relation_in(content)
    if relation is None or relation.rel_type != REPLACE:
        return relation
    if event.state_key is not None:
        return None
    # What is encrypted has its new content inside.
    is_new = event.type == ENCRYPTED or isinstance(content.get("m.new_content"), dict)
    return relation if is_new else None


def is_edit_of(edit: Event, original: Event) -> bool:
    """Whether an event with an `m.replace` relation (by `relation_of`) is a valid edit of that other event."""
    if edit.sender != original.sender or edit.type != original.type or original.state_key is not None:
        return False
    relation = relation_in(original.content)
    return relation is None or relation.rel_type != REPLACE


def may_have_thread(root: Event) -> bool:
    """Whether a thread may hang on an event: not on one that hangs on another itself, and not on a piece of state.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#threading
    """
    return relation_in(root.content) is None
