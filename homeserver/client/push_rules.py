"""`/_matrix/client/v3/pushrules/…`: what somebody wants to be told of.

Spec: https://spec.matrix.org/v1.19/client-server-api/#push-rules-api
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import NotFound
from homeserver.http.route import USER, Requester, route
from homeserver.push.book import RuleBook
from homeserver.push.rules import KINDS, Kind, NewRule, Rules, check, check_actions, find, put, remove

RULE = "/_matrix/client/v3/pushrules/global/{rule_kind}/{rule_id}"


class OneKind(msgspec.Struct, frozen=True):
    rule_kind: str


class OneRule(msgspec.Struct, frozen=True):
    rule_kind: str
    """Some clients look for rules of kinds that only proposals know: these are not found, rather than an error."""
    rule_id: str


class PutRule(msgspec.Struct, frozen=True):
    rule_kind: Kind
    rule_id: str
    actions: list[Any]
    conditions: list[Any] | None = None
    pattern: str | None = None
    before: str | None = None
    after: str | None = None


class PutEnabled(msgspec.Struct, frozen=True):
    rule_kind: Kind
    rule_id: str
    enabled: bool


class PutActions(msgspec.Struct, frozen=True):
    rule_kind: Kind
    rule_id: str
    actions: list[Any]


@route("GET", "/_matrix/client/v3/pushrules/", "/_matrix/client/v3/pushrules", auth=USER, rate="read")
async def get_all(book: RuleBook, who: Requester) -> dict[str, Any]:
    return {"global": await book.of(who.user_id)}


@route(
    "GET",
    "/_matrix/client/v3/pushrules/global/",
    "/_matrix/client/v3/pushrules/global",
    auth=USER,
    rate="read",
)
async def get_global(book: RuleBook, who: Requester) -> dict[str, Any]:
    return {**await book.of(who.user_id)}


# COMPAT: gone from the specification, and clients of Synapse still ask.
@route("GET", "/_matrix/client/v3/pushrules/global/{rule_kind}/", auth=USER, rate="read")
async def get_kind(book: RuleBook, who: Requester, ask: OneKind) -> Any:
    return (await book.of(who.user_id))[_kind(ask.rule_kind)]


@route("GET", RULE, auth=USER, rate="read")
async def get_rule(book: RuleBook, who: Requester, ask: OneRule) -> dict[str, Any]:
    return find(await book.of(who.user_id), _kind(ask.rule_kind), ask.rule_id)


@route("PUT", RULE, auth=USER, rate="write", query=("before", "after"))
async def put_rule(book: RuleBook, who: Requester, ask: PutRule) -> None:
    new = NewRule(ask.rule_kind, ask.rule_id, ask.actions, ask.conditions, ask.pattern, ask.before, ask.after)
    check(new)
    await book.change(who.user_id, lambda rules: put(rules, new))


@route("DELETE", RULE, auth=USER, rate="write")
async def delete_rule(book: RuleBook, who: Requester, ask: OneRule) -> None:
    await book.change(who.user_id, lambda rules: remove(rules, _kind(ask.rule_kind), ask.rule_id))


@route("GET", f"{RULE}/enabled", auth=USER, rate="read")
async def get_enabled(book: RuleBook, who: Requester, ask: OneRule) -> dict[str, Any]:
    return {"enabled": find(await book.of(who.user_id), _kind(ask.rule_kind), ask.rule_id)["enabled"]}


@route("PUT", f"{RULE}/enabled", auth=USER, rate="write")
async def put_enabled(book: RuleBook, who: Requester, ask: PutEnabled) -> None:
    await book.change(who.user_id, lambda rules: _set(rules, ask, "enabled", ask.enabled))


@route("GET", f"{RULE}/actions", auth=USER, rate="read")
async def get_actions(book: RuleBook, who: Requester, ask: OneRule) -> dict[str, Any]:
    return {"actions": find(await book.of(who.user_id), _kind(ask.rule_kind), ask.rule_id)["actions"]}


@route("PUT", f"{RULE}/actions", auth=USER, rate="write")
async def put_actions(book: RuleBook, who: Requester, ask: PutActions) -> None:
    check_actions(ask.actions)
    await book.change(who.user_id, lambda rules: _set(rules, ask, "actions", ask.actions))


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise NotFound("There are no push rules of that kind")


def _set(rules: Rules, ask: PutEnabled | PutActions, name: str, value: object) -> None:
    find(rules, ask.rule_kind, ask.rule_id)[name] = value
