"""What a listing tells of a room: made from a few pieces of its state, and searched.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from storage.directory import ListedRoom


@frozen
class RoomSummary:
    """One room as a stranger may know it."""

    nid: int
    room_id: str
    room_type: str | None
    joined: int
    name: str | None
    topic: str | None
    canonical_alias: str | None
    avatar_url: str | None
    join_rule: str
    world_readable: bool
    guest_can_join: bool
    _searched: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        texts = [text for text in (self.name, self.topic, self.canonical_alias) if text]
        object.__setattr__(self, "_searched", "\n".join(texts).casefold())

    def holds(self, folded_term: str) -> bool:
        """Whether name, topic or main alias hold a term; the term is casefolded already."""
        return folded_term in self._searched

    def to_json(self) -> dict[str, Any]:
        """The room as an entry of `chunk`: what is not set is left out."""
        entry: dict[str, Any] = {
            "room_id": self.room_id,
            "num_joined_members": self.joined,
            "world_readable": self.world_readable,
            "guest_can_join": self.guest_can_join,
            "join_rule": self.join_rule,
        }
        for key in ("name", "topic", "canonical_alias", "avatar_url", "room_type"):
            value = getattr(self, key)
            if value is not None:
                entry[key] = value
        return entry


def summarise(room: ListedRoom) -> RoomSummary:
    """Whatever somebody wrote into a room's state, what comes out has the right types."""
    contents = room.contents

    def text(event: str, key: str) -> str | None:
        value = contents.get(event, {}).get(key)
        return value if isinstance(value, str) and value else None

    return RoomSummary(
        nid=room.nid,
        room_id=room.room_id,
        room_type=room.room_type,
        joined=room.joined,
        name=text("name", "name"),
        topic=plain_topic(contents.get("topic", {})),
        canonical_alias=text("canonical_alias", "alias"),
        avatar_url=text("avatar", "url"),
        join_rule=text("join_rules", "join_rule") or "invite",
        world_readable=text("history_visibility", "history_visibility") == "world_readable",
        guest_can_join=text("guest_access", "guest_access") == "can_join",
    )


def plain_topic(content: Mapping[str, Any]) -> str | None:
    """The topic as plain text: its `text/plain` form if it has several, else the plain old `topic`."""
    block = content.get("m.topic")
    forms = block.get("m.text") if isinstance(block, dict) else None
    for form in forms if isinstance(forms, list) else ():
        if isinstance(form, dict) and form.get("mimetype", "text/plain") == "text/plain":
            body = form.get("body")
            if isinstance(body, str) and body:
                return body
    topic = content.get("topic")
    return topic if isinstance(topic, str) and topic else None
