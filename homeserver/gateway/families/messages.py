"""`message.created|updated|deleted` and `reaction.added|removed`: what is said in rooms of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from homeserver.gateway.families.happening import Happening, Told, tell
from homeserver.guilds.projection import CALL_TYPES

REDACTION = "m.room.redaction"
REACTION = "m.reaction"
QUIET = frozenset(CALL_TYPES)
"""No messages, even where they are sent as such."""


def of_messages(one: Happening) -> Sequence[Told]:
    event = one.event
    if event.type == REDACTION:
        return _of_redaction(one)
    if event.state_key is not None or event.type in QUIET:
        return ()
    relation = event.content.get("m.relates_to")
    target = relation.get("event_id") if isinstance(relation, Mapping) else None
    if isinstance(relation, Mapping) and isinstance(target, str):
        match relation.get("rel_type"):
            case "m.annotation" if event.type == REACTION:
                key = relation.get("key")
                if isinstance(key, str):
                    return (tell("reaction.added", event_id=target, key=key, user_id=event.sender),)
            case "m.replace":
                return (tell("message.updated", event_id=target),)
    if event.type == REACTION:
        return ()
    return (tell("message.created", event_id=event.event_id),)


def _of_redaction(one: Happening) -> Sequence[Told]:
    if one.redacted is None or one.event.redacts is None:
        return ()
    kind, is_state = one.redacted
    if kind == REACTION:
        return (tell("reaction.removed", event_id=one.event.redacts, user_id=one.event.sender),)
    if is_state or kind in QUIET:
        return ()
    return (tell("message.deleted", event_id=one.event.redacts),)
