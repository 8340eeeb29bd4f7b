"""The rules that everybody has from the start, in their order.

Spec: https://spec.matrix.org/v1.19/client-server-api/#predefined-rules
Polls: https://github.com/matrix-org/matrix-spec-proposals/pull/3930, by the names that clients use until it is merged.
Threads: https://github.com/matrix-org/matrix-spec-proposals/pull/4306, likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MASTER = ".m.rule.master"
UNSUBSCRIBED_THREAD = ".io.element.msc4306.rule.unsubscribed_thread"
"""Off until somebody subscribes to a thread: `docs/decisions/0014-threads-one-follows.md`."""
SUBSCRIBED_THREAD = ".io.element.msc4306.rule.subscribed_thread"
THREAD_SUBSCRIPTION = "io.element.msc4306.thread_subscription"
"""A kind of condition."""

Json = dict[str, Any]

_SOUND: Json = {"set_tweak": "sound", "value": "default"}
_RING: Json = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT: Json = {"set_tweak": "highlight"}
_POLL = "org.matrix.msc3381.poll"


def _is(key: str, pattern: str) -> Json:
    return {"kind": "event_match", "key": key, "pattern": pattern}


_TWO: Json = {"kind": "room_member_count", "is": "2"}


def _rule(rule_id: str, conditions: Sequence[Json], actions: Sequence[Any], enabled: bool = True) -> Json:
    return {
        "rule_id": rule_id,
        "default": True,
        "enabled": enabled,
        "conditions": list(conditions),
        "actions": list(actions),
    }


def default_rules(user_id: str) -> Mapping[str, list[Json]]:
    """Kind → rules, the most important first. Made afresh: the caller may change them."""
    mentioned: Json = {"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": user_id}
    room_mentioned: Json = {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True}
    may_mention_room: Json = {"kind": "sender_notification_permission", "key": "room"}
    edit: Json = {"kind": "event_property_is", "key": r"content.m\.relates_to.rel_type", "value": "m.replace"}
    invite = [_is("type", "m.room.member"), _is("content.membership", "invite"), _is("state_key", user_id)]
    override = [
        _rule(MASTER, [], [], enabled=False),
        _rule(".m.rule.suppress_notices", [_is("content.msgtype", "m.notice")], []),
        _rule(".m.rule.invite_for_me", invite, ["notify", dict(_SOUND)]),
        _rule(".m.rule.member_event", [_is("type", "m.room.member")], []),
        _rule(".m.rule.is_user_mention", [mentioned], ["notify", dict(_SOUND), dict(_HIGHLIGHT)]),
        _rule(".m.rule.is_room_mention", [room_mentioned, may_mention_room], ["notify", dict(_HIGHLIGHT)]),
        _rule(
            ".m.rule.tombstone",
            [_is("type", "m.room.tombstone"), _is("state_key", "")],
            ["notify", dict(_HIGHLIGHT)],
        ),
        _rule(".m.rule.reaction", [_is("type", "m.reaction")], []),
        _rule(".m.rule.room.server_acl", [_is("type", "m.room.server_acl"), _is("state_key", "")], []),
        _rule(".m.rule.suppress_edits", [edit], []),
        _rule(".org.matrix.msc3930.rule.poll_response", [_is("type", f"{_POLL}.response")], []),
    ]
    subscribed, unsubscribed = ({"kind": THREAD_SUBSCRIPTION, "subscribed": one} for one in (True, False))
    postcontent = [
        _rule(UNSUBSCRIBED_THREAD, [unsubscribed], [], enabled=False),
        _rule(SUBSCRIBED_THREAD, [subscribed], ["notify", dict(_SOUND)]),
    ]
    underride = [
        _rule(".m.rule.call", [_is("type", "m.call.invite")], ["notify", dict(_RING)]),
        _rule(
            ".m.rule.encrypted_room_one_to_one",
            [dict(_TWO), _is("type", "m.room.encrypted")],
            ["notify", dict(_SOUND)],
        ),
        _rule(".m.rule.room_one_to_one", [dict(_TWO), _is("type", "m.room.message")], ["notify", dict(_SOUND)]),
        _rule(".m.rule.message", [_is("type", "m.room.message")], ["notify"]),
        _rule(".m.rule.encrypted", [_is("type", "m.room.encrypted")], ["notify"]),
    ]
    for what in ("start", "end"):
        poll = _is("type", f"{_POLL}.{what}")
        name = f".org.matrix.msc3930.rule.poll_{what}"
        underride += [
            _rule(f"{name}_one_to_one", [dict(_TWO), poll], ["notify", dict(_SOUND)]),
            _rule(name, [dict(poll)], ["notify"]),
        ]
    return {
        "override": override,
        "content": [],
        "postcontent": postcontent,
        "room": [],
        "sender": [],
        "underride": underride,
    }
