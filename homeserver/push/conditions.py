"""Conditions of push rules, compiled: each is a value, so that what many people's rules ask is answered once per event.

What is about the reader (*personal*) is asked of each anew. Most of it asks for one, and without does not hold.

Spec: https://spec.matrix.org/v1.19/client-server-api/#conditions-1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import msgspec

from federation.room.globs import matches
from homeserver.push.defaults import THREAD_SUBSCRIPTION
from homeserver.push.facts import Facts, Path, parse_path
from homeserver.push.words import WordPattern

BODY: Path = ("content", "body")
MENTIONS: Path = ("content", "m.mentions", "user_ids")
STATE_KEY: Path = ("state_key",)

_COUNT = re.compile(r"(==|<=|>=|<|>|)([0-9]{1,15})")


class Me(msgspec.Struct, frozen=True):
    """The reader whom personal conditions are about."""

    user_id: str
    display_name: str | None = None
    """In the room."""


class Condition(Protocol):
    """One of the classes below. Equal conditions are one."""

    is_personal: ClassVar[bool]

    def holds(self, facts: Facts, me: Me | None) -> bool: ...


class Match(msgspec.Struct, frozen=True, cache_hash=True):
    """`event_match`, but for the body: the whole value fits a glob."""

    is_personal: ClassVar[bool] = False
    path: Path
    pattern: str
    """In lower case."""

    def holds(self, facts: Facts, me: Me | None) -> bool:
        value = facts.value(self.path)
        return isinstance(value, str) and matches(self.pattern, value.lower())


class MatchWords(msgspec.Struct, frozen=True, cache_hash=True):
    """`event_match` of the body, and content rules: some words of it fit a glob."""

    is_personal: ClassVar[bool] = False
    pattern: WordPattern

    def holds(self, facts: Facts, me: Me | None) -> bool:
        value = facts.value(BODY)
        return isinstance(value, str) and self.pattern.is_in(value)


class Is(msgspec.Struct, frozen=True, cache_hash=True):
    """`event_property_is`. `value` goes with its type, as 1 and true are equal to Python."""

    is_personal: ClassVar[bool] = False
    path: Path
    value: tuple[type, object]

    def holds(self, facts: Facts, me: Me | None) -> bool:
        value = facts.value(self.path)
        return (type(value), value) == self.value


class Contains(msgspec.Struct, frozen=True, cache_hash=True):
    """`event_property_contains`."""

    is_personal: ClassVar[bool] = False
    path: Path
    value: tuple[type, object]

    def holds(self, facts: Facts, me: Me | None) -> bool:
        values = facts.value(self.path)
        return isinstance(values, list) and any((type(one), one) == self.value for one in values)


class MemberCount(msgspec.Struct, frozen=True, cache_hash=True):
    """`room_member_count`."""

    is_personal: ClassVar[bool] = False
    sign: str
    number: int

    def holds(self, facts: Facts, me: Me | None) -> bool:
        count = facts.member_count
        match self.sign:
            case "<":
                return count < self.number
            case ">":
                return count > self.number
            case "<=":
                return count <= self.number
            case ">=":
                return count >= self.number
            case _:
                return count == self.number


class MayNotify(msgspec.Struct, frozen=True, cache_hash=True):
    """`sender_notification_permission`."""

    is_personal: ClassVar[bool] = False
    key: str

    def holds(self, facts: Facts, me: Me | None) -> bool:
        return facts.sender_may_notify(self.key)


class AboutMe(msgspec.Struct, frozen=True, cache_hash=True):
    """The state key is the reader's user id."""

    is_personal: ClassVar[bool] = True

    def holds(self, facts: Facts, me: Me | None) -> bool:
        return me is not None and facts.event.state_key == me.user_id


class MentionsMe(msgspec.Struct, frozen=True, cache_hash=True):
    """The reader is among those who are mentioned."""

    is_personal: ClassVar[bool] = True

    def holds(self, facts: Facts, me: Me | None) -> bool:
        return me is not None and me.user_id in facts.mentioned


class NamesMe(msgspec.Struct, frozen=True, cache_hash=True):
    """`contains_display_name`, which new rules do not use any more."""

    is_personal: ClassVar[bool] = True

    def holds(self, facts: Facts, me: Me | None) -> bool:
        body = facts.value(BODY)
        if me is None or not me.display_name or not isinstance(body, str):
            return False
        return WordPattern.literal(me.display_name).is_in(body)


class InThread(msgspec.Struct, frozen=True, cache_hash=True):
    """`io.element.msc4306.thread_subscription`: it is in a thread that the reader follows, or does not follow."""

    is_personal: ClassVar[bool] = True
    subscribed: bool

    def holds(self, facts: Facts, me: Me | None) -> bool:
        return facts.subscribed is self.subscribed


def compile_condition(user_id: str, told: Mapping[str, Any]) -> Condition | None:
    """What a rule of that person says; None for what is not known, which never holds."""
    kind, key = told.get("kind"), told.get("key")
    match kind:
        case "event_match":
            return _match(user_id, str(key), str(told.get("pattern")))
        case "event_property_is":
            return Is(parse_path(str(key)), _typed(told.get("value")))
        case "event_property_contains":
            path = parse_path(str(key))
            if path == MENTIONS and told.get("value") == user_id:
                return MentionsMe()
            return Contains(path, _typed(told.get("value")))
        case "contains_display_name":
            return NamesMe()
        case "room_member_count":
            told_count = _COUNT.fullmatch(str(told.get("is")))
            return None if told_count is None else MemberCount(told_count[1], int(told_count[2]))
        case "sender_notification_permission":
            return MayNotify(str(key))
        case kind if kind == THREAD_SUBSCRIPTION:
            subscribed = told.get("subscribed")
            return InThread(subscribed) if isinstance(subscribed, bool) else None
        case _:
            return None


def _match(user_id: str, key: str, pattern: str) -> Condition:
    path = parse_path(key)
    if path == BODY:
        return MatchWords(WordPattern.glob(pattern))
    if path == STATE_KEY and pattern == user_id:
        return AboutMe()
    return Match(path, pattern.lower())


def _typed(value: object) -> tuple[type, object]:
    return type(value), value
