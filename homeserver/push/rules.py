"""One person's push rules, as JSON: the server's own ones, what they changed of these, and theirs.

All functions are pure, or change the rules they are given. A rule that is earlier in its list is more important.

Spec: https://spec.matrix.org/v1.19/client-server-api/#push-rules-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from homeserver.errors import BadJson, InvalidParam, MatrixError, NotFound
from homeserver.push.defaults import MASTER, THREAD_SUBSCRIPTION, UNSUBSCRIBED_THREAD, Json, default_rules

TYPE = "m.push_rules"

Kind = Literal["override", "content", "postcontent", "room", "sender", "underride"]
KINDS: Sequence[Kind] = ("override", "content", "postcontent", "room", "sender", "underride")
"""In the order in which they are looked at. Of `postcontent` (MSC4306) there are the server's own rules only."""

Rules = dict[str, list[Json]]
"""Kind → rules, the most important first."""

MOST_RULES = 5_000
"""That somebody may add: a room that is muted takes one."""
MOST_PARTS = 64
"""Conditions or actions of one rule."""
LONGEST_ID_BYTES = 255
LONGEST_TEXT_BYTES = 1_024
"""Of a pattern or a key."""
LARGEST_RULE_BYTES = 8_192

ACTIONS = frozenset({"notify", "dont_notify", "coalesce"})
"""The last two mean nothing, but older clients send them and look for them."""

_TEXTS: Mapping[str, Sequence[str]] = {
    "event_match": ("key", "pattern"),
    "event_property_is": ("key",),
    "event_property_contains": ("key",),
    "room_member_count": ("is",),
    "sender_notification_permission": ("key",),
}
"""Kind of condition → what of it must be text. Of others nothing is known: they never match."""


class NewRule(msgspec.Struct, frozen=True, gc=False):
    """What somebody wants a rule to be."""

    kind: Kind
    rule_id: str
    actions: Sequence[Any]
    conditions: Sequence[Any] | None = None
    pattern: str | None = None
    before: str | None = None
    after: str | None = None


def complete(user_id: str, content: Mapping[str, Any]) -> Rules:
    """The rules that a stored `m.push_rules` stands for ({}: nothing was changed yet): the server's own ones are those
    of today, whenever it was stored.
    """
    stored = content.get("global", {})
    found: Rules = {}
    for kind, defaults in default_rules(user_id).items():
        own = stored.get(kind, [])
        changed = {rule["rule_id"]: rule for rule in own if rule["default"]}
        for rule in defaults:
            if (change := changed.get(rule["rule_id"])) is not None:
                rule["enabled"], rule["actions"] = change["enabled"], change["actions"]
        theirs = [dict(rule) for rule in own if not rule["default"]]
        first = defaults[:1] if defaults and defaults[0]["rule_id"] == MASTER else []
        found[kind] = [*first, *theirs, *defaults[len(first) :]]
    return found


def inherit(rules: Rules, old_room_id: str, new_room_id: str) -> None:
    """What somebody wants of a room holds for the one that replaces it, unless they said something of that already.

    Rules of overriding kind too, by which clients mute rooms: they go by the room's name and ask for its id.
    """
    for kind in ("override", "room"):
        there = [rule["rule_id"] for rule in rules[kind]]
        if old_room_id not in there or new_room_id in there:
            continue
        at = there.index(old_room_id)
        rule = dict(rules[kind][at], rule_id=new_room_id)
        if "conditions" in rule:
            rule["conditions"] = [
                {**one, "pattern": new_room_id} if one.get("pattern") == old_room_id else one
                for one in rule["conditions"]
            ]
        rules[kind].insert(at, rule)


def hush_threads(rules: Rules) -> None:
    """From now on only those threads are told of that somebody follows."""
    find(rules, "postcontent", UNSUBSCRIBED_THREAD)["enabled"] = True


def find(rules: Rules, kind: Kind, rule_id: str) -> Json:
    """Raises NotFound."""
    for rule in rules[kind]:
        if rule["rule_id"] == rule_id:
            return rule
    raise NotFound("There is no such push rule")


def put(rules: Rules, new: NewRule) -> None:
    """Add a rule, or change one. `check` must have passed. Raises MatrixError where it has no place to go to."""
    found = rules[new.kind]
    old = next((rule for rule in found if rule["rule_id"] == new.rule_id), None)
    rule: Json = {
        "rule_id": new.rule_id,
        "default": False,
        "enabled": True if old is None else old["enabled"],
        "actions": list(new.actions),
    }
    if new.kind in ("override", "underride"):
        rule["conditions"] = list(new.conditions or ())
    elif new.kind == "content":
        rule["pattern"] = new.pattern
    if old is None and sum(not one["default"] for kind in KINDS for one in rules[kind]) >= MOST_RULES:
        raise InvalidParam(f"There can be at most {MOST_RULES} push rules", "M_TOO_LARGE")
    for name, other in (("before", new.before), ("after", new.after)):
        if other is not None and not any(one["rule_id"] == other and not one["default"] for one in found):
            raise MatrixError(400, "M_UNKNOWN", f"'{name}' names no rule of yours: {other[:LONGEST_ID_BYTES]}")
    beside = new.before or new.after
    if old is not None and beside in (None, new.rule_id):
        found[found.index(old)] = rule
        return
    if old is not None:
        found.remove(old)
    if beside is None:
        place = int(bool(found) and found[0]["rule_id"] == MASTER)
    else:
        place = next(at for at, one in enumerate(found) if one["rule_id"] == beside) + (new.before is None)
    found.insert(place, rule)


def remove(rules: Rules, kind: Kind, rule_id: str) -> None:
    """Raises NotFound, also for the server's own rules, which can only be disabled."""
    rule = find(rules, kind, rule_id)
    if rule["default"]:
        raise NotFound("That rule is the server's: it can be disabled, but not deleted")
    rules[kind].remove(rule)


def check(new: NewRule) -> None:
    """Raises InvalidParam or BadJson for what cannot be a rule."""
    if new.kind == "postcontent":
        raise InvalidParam("'kind': rules of this kind are the server's own")
    check_id(new.rule_id)
    check_actions(new.actions)
    if new.kind == "content":
        if new.pattern is None:
            raise BadJson("'pattern': a content rule needs one", "M_MISSING_PARAM")
        _check_text("pattern", new.pattern)
    for condition in _counted("conditions", new.conditions or ()):
        _check_condition(condition)
    if len(msgspec.json.encode([new.conditions, new.pattern])) > LARGEST_RULE_BYTES:
        raise BadJson(f"'conditions': they have at most {LARGEST_RULE_BYTES} bytes together", "M_TOO_LARGE")


def check_id(rule_id: str) -> None:
    """Raises InvalidParam for an id that a rule of somebody's own cannot have."""
    if rule_id.startswith("."):
        raise InvalidParam("'ruleId': only the server's own rules begin with a dot")
    if "/" in rule_id or "\\" in rule_id or "\0" in rule_id or not rule_id:
        raise InvalidParam("'ruleId': there must be no slash, backslash or NUL in it")
    if len(rule_id.encode("utf-8", "surrogatepass")) > LONGEST_ID_BYTES:
        raise InvalidParam(f"'ruleId': it has at most {LONGEST_ID_BYTES} bytes")


def check_actions(actions: Sequence[Any]) -> None:
    """Raises BadJson."""
    for action in _counted("actions", actions):
        if isinstance(action, dict):
            if not isinstance(action.get("set_tweak"), str):
                raise BadJson("'actions': an object must have `set_tweak`, a text")
        elif not isinstance(action, str) or action not in ACTIONS:
            raise BadJson(f"'actions': this is not known: {str(action)[:50]}")
    if len(msgspec.json.encode(list(actions))) > LARGEST_RULE_BYTES:
        raise BadJson(f"'actions': they have at most {LARGEST_RULE_BYTES} bytes together", "M_TOO_LARGE")


def _check_condition(condition: Any) -> None:
    if not isinstance(condition, dict) or not isinstance(condition.get("kind"), str):
        raise BadJson("'conditions': each is an object with a `kind`, a text")
    kind = condition["kind"]
    for name in _TEXTS.get(kind, ()):
        _check_text(f"conditions: {name}", condition.get(name))
    if kind == THREAD_SUBSCRIPTION and not isinstance(condition.get("subscribed"), bool):
        raise BadJson("'conditions: subscribed': it must be true or false")
    if kind in ("event_property_is", "event_property_contains"):
        value = condition.get("value", [])
        if not (value is None or isinstance(value, str | int)):
            raise BadJson("'conditions: value': it must be a text, an integer, true, false or null")


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise BadJson(f"'{name}': it must be there, and a text")
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST_TEXT_BYTES:
        raise BadJson(f"'{name}': it has at most {LONGEST_TEXT_BYTES} bytes", "M_TOO_LARGE")


def _counted(name: str, parts: Sequence[Any]) -> Sequence[Any]:
    if len(parts) > MOST_PARTS:
        raise BadJson(f"'{name}': there can be at most {MOST_PARTS}", "M_TOO_LARGE")
    return parts
