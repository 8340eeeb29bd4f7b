"""People's rules made ready to judge events by.

A person's rules are a *base*, which many share (most people change nothing), and what they want of single rooms and
senders, which is looked up. What is judged by one base is judged for all who share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import msgspec
import orjson
from attrs import field, frozen

from federation.room.event import Event
from homeserver.push.conditions import Condition, MatchWords, Me, NamesMe, compile_condition
from homeserver.push.facts import Facts
from homeserver.push.rules import Rules, complete, hush_threads
from homeserver.push.words import WordPattern


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a rule says is to be done."""

    notify: bool
    highlight: bool
    actions: bytes
    """As JSON; empty where nothing is."""


QUIET = Verdict(False, False, b"[]")


class Rule(msgspec.Struct, frozen=True):
    """One that is enabled."""

    conditions: tuple[Condition, ...]
    verdict: Verdict

    def holds(self, facts: Facts, me: Me | None) -> bool:
        found = facts.found
        for condition in self.conditions:
            if condition.is_personal:
                if not condition.holds(facts, me):
                    return False
                continue
            known = found.get(condition)
            if known is None:
                known = found[condition] = condition.holds(facts, me)
            if not known:
                return False
        return True


@frozen
class Base:
    """What somebody's rules are beside single rooms and senders. Equal ones are one: see `_intern`."""

    before: tuple[Rule, ...]
    """Those that go before rooms and senders."""
    after: tuple[Rule, ...]
    knows_names: bool = field(init=False, eq=False)
    """Whether it looks for the reader's name in what is said."""

    @knows_names.default
    def _looks_for_names(self) -> bool:
        return any(isinstance(one, NamesMe) for rule in (*self.before, *self.after) for one in rule.conditions)

    def judge(self, facts: Facts, me: Me | None, room: Verdict | None, sender: Verdict | None) -> Verdict:
        """`room`, `sender`: what the person wants of these. Without `me`: for everybody whom the event is not about."""
        for rule in self.before:
            if rule.holds(facts, me):
                return rule.verdict
        if room is not None:
            return room
        if sender is not None:
            return sender
        for rule in self.after:
            if rule.holds(facts, me):
                return rule.verdict
        return QUIET


@frozen(eq=False)
class Wishes:
    """One person's rules."""

    base: Base
    bare: Base
    """The same without words of their own: what holds where none of these is said."""
    words: Sequence[WordPattern]
    rooms: Mapping[str, Verdict]
    senders: Mapping[str, Verdict]
    is_plain: bool = field(init=False)
    """Whether usual messages are told of as they are to those who have changed nothing."""
    is_plain_in_threads: bool = field(init=False)
    """And whether those are, too, that are in threads which the person does not follow."""

    has_only_words: bool = field(init=False)
    """Whether nothing is special about them as long as none of their words is said."""

    hushes_only_threads: bool = field(init=False)
    """Whether nothing is special about them but that, and that they are told of no threads that they do not follow."""

    @has_only_words.default
    def _changed_nothing_else(self) -> bool:
        return self.bare == _default_base() and not self.rooms and not self.senders

    @hushes_only_threads.default
    def _changed_that(self) -> bool:
        return self.bare == _hushed_base() and not self.rooms and not self.senders

    @is_plain.default
    def _tells_of_usual_messages(self) -> bool:
        return self._tells_of(subscribed=None)

    @is_plain_in_threads.default
    def _tells_of_all_threads(self) -> bool:
        return self.is_plain and self._tells_of(subscribed=False)

    def _tells_of(self, subscribed: bool | None) -> bool:
        usual = (Facts(one, 3, lambda: None, subscribed=subscribed) for one in _USUAL)
        return all(self.base.judge(facts, None, None, None).notify for facts in usual)


def read_verdict(actions: Sequence[Any]) -> Verdict:
    """What a rule's actions come to. Those of the past mean nothing."""
    if "notify" not in actions:
        return QUIET
    highlight = False
    kept: list[Any] = []
    for action in actions:
        if isinstance(action, dict):
            kept.append(action)
            if action.get("set_tweak") == "highlight":
                highlight = action.get("value", True) is not False
        elif action == "notify":
            kept.append(action)
    return Verdict(True, highlight, orjson.dumps(kept))


def compile_rules(user_id: str, rules: Rules) -> Wishes:
    before, between, after = (
        tuple(_general(user_id, rules[kind])) for kind in ("override", "postcontent", "underride")
    )
    words = [WordPattern.glob(rule["pattern"]) for rule in rules["content"] if rule["enabled"]]
    base = _intern(Base((*before, *_contents(rules["content"]), *between), after))
    bare = _intern(Base((*before, *between), after))
    return Wishes(base, bare, words, _single(rules["room"]), _single(rules["sender"]))


def _general(user_id: str, rules: Sequence[Mapping[str, Any]]) -> list[Rule]:
    made: list[Rule] = []
    for rule in rules:
        conditions = [compile_condition(user_id, one) for one in rule.get("conditions", ())]
        known = tuple(one for one in conditions if one is not None)
        if rule["enabled"] and len(known) == len(conditions):
            made.append(Rule(known, read_verdict(rule["actions"])))
    return made


def _contents(rules: Sequence[Mapping[str, Any]]) -> list[Rule]:
    return [
        Rule((MatchWords(WordPattern.glob(rule["pattern"])),), read_verdict(rule["actions"]))
        for rule in rules
        if rule["enabled"]
    ]


def _single(rules: Sequence[Mapping[str, Any]]) -> Mapping[str, Verdict]:
    return {rule["rule_id"]: read_verdict(rule["actions"]) for rule in rules if rule["enabled"]}


def _usual(event_type: str) -> Event:
    return Event("$e", "!r", event_type, None, "@s:s", 0, 1, (), (), None, b"{}", {"body": "", "msgtype": "m.text"})


_USUAL = (_usual("m.room.message"), _usual("m.room.encrypted"))

_bases: WeakValueDictionary[tuple[tuple[Rule, ...], tuple[Rule, ...]], Base] = WeakValueDictionary()


def _intern(base: Base) -> Base:
    return _bases.setdefault((base.before, base.after), base)


_ANYBODY = "@:"


@cache
def _default_base() -> Base:
    return _base_of(complete(_ANYBODY, {}))


@cache
def _hushed_base() -> Base:
    rules = complete(_ANYBODY, {})
    hush_threads(rules)
    return _base_of(rules)


def _base_of(rules: Rules) -> Base:
    before = (*_general(_ANYBODY, rules["override"]), *_general(_ANYBODY, rules["postcontent"]))
    return _intern(Base(before, tuple(_general(_ANYBODY, rules["underride"]))))


DEFAULT = compile_rules(_ANYBODY, complete(_ANYBODY, {}))
"""The rules of those who have changed nothing, whoever they are."""
