"""What of an event can be searched for.

Spec: https://spec.matrix.org/v1.19/client-server-api/#search-categories
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.room.event import Event
from homeserver.media.uris import parse_uri
from storage.search import BODY, KINDS, NAME, TOPIC

KEYS: Mapping[str, int] = {"content.body": BODY, "content.name": NAME, "content.topic": TOPIC}
"""What a client calls them."""


def kind_of(event: Event) -> int | None:
    """Which kind of text an event has; None for those that can't be found."""
    kind = KINDS.get(event.type)
    if kind is None or (kind == BODY) != (event.state_key is None):
        return None
    return kind if kind == BODY or event.state_key == "" else None


def text_in(kind: int, content: Mapping[str, Any]) -> str:
    """The text of a content."""
    match kind:
        case 0:
            return _text(content.get("body"))
        case 1:
            return _text(content.get("name"))
        case _:
            return "\n".join([_text(content.get("topic")), *_plain_texts(content.get("m.topic"))])


def file_in(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """The sound of an audio message, in which something may be said: origin and media id. None for all else."""
    uri = content.get("url")
    return parse_uri(uri) if isinstance(uri, str) and content.get("msgtype") == "m.audio" else None


def _plain_texts(topic: object) -> list[str]:
    """The `text/plain` representations of an `m.topic`.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#mroomtopic
    """
    blocks = topic.get("m.text") if isinstance(topic, dict) else None
    if not isinstance(blocks, list):
        return []
    plain = [
        block for block in blocks if isinstance(block, dict) and block.get("mimetype", "text/plain") == "text/plain"
    ]
    return [_text(block.get("body")) for block in plain]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
