"""What a listing tells of a room: made from a few pieces of its state, and searched.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from federation.room.versions import get_room_version
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
    version: str
    encryption: str | None
    """The algorithm, where messages are encrypted and the summary was asked to tell."""
    allowed_room_ids: tuple[str, ...]
    """Whose members may come into a restricted room."""
    _searched: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        texts = [text for text in (self.name, self.topic, self.canonical_alias) if text]
        object.__setattr__(self, "_searched", "\n".join(texts).casefold())

    def holds(self, folded_term: str) -> bool:
        """Whether name, topic or main alias hold a term; the term is casefolded already."""
        return folded_term in self._searched

    @property
    def takes_knocks(self) -> bool:
        return self.join_rule in ("knock", "knock_restricted") and self._has_rule

    @property
    def lets_in_members_of_others(self) -> bool:
        return self.join_rule in ("restricted", "knock_restricted") and self._has_rule

    @property
    def _has_rule(self) -> bool:
        """Whether the room's version knows its join rule; one that it does not know keeps everybody out."""
        version = get_room_version(self.version)
        if version is None:
            return False
        known = {
            "knock": version.knock,
            "restricted": version.restricted,
            "knock_restricted": version.knock_restricted,
        }
        return known.get(self.join_rule, True)

    def to_json(self, *, whole: bool = False) -> dict[str, Any]:
        """The room as an entry of a directory; `whole`: as a summary of it. What is not set is left out.

        Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias
        """
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
        if whole:
            entry["room_version"] = self.version
            if self.encryption is not None:
                entry["encryption"] = self.encryption
            if self.allowed_room_ids:
                entry["allowed_room_ids"] = list(self.allowed_room_ids)
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
        version=room.version,
        encryption=text("encryption", "algorithm"),
        allowed_room_ids=_allowed(room.version, contents.get("join_rules", {})),
    )


def _allowed(version_name: str, rules: Mapping[str, Any]) -> tuple[str, ...]:
    version = get_room_version(version_name)
    if version is None or not version.restricted or rules.get("join_rule") not in ("restricted", "knock_restricted"):
        return ()
    allow = rules.get("allow")
    named = (
        rule.get("room_id")
        for rule in (allow if isinstance(allow, list) else ())
        if isinstance(rule, dict) and rule.get("type") == "m.room_membership"
    )
    return tuple(dict.fromkeys(room_id for room_id in named if isinstance(room_id, str)))


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
