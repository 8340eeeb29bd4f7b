"""Push rules: the server's own, one's own, what is changed, and what cannot be."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import MatrixError, NotFound
from homeserver.push.book import RuleBook
from homeserver.push.rules import KINDS, Kind, NewRule, Rules, check, complete, find, put, remove
from tests.fixtures_house import LivedInHouse
from tests.fixtures_server import ServerProcess

ANN = "@ann:a.org"


def fresh() -> Rules:
    return complete(ANN, {})


def ids(rules: Rules, kind: Kind) -> list[str]:
    return [rule["rule_id"] for rule in rules[kind]]


def new(kind: Kind, rule_id: str, **more: Any) -> NewRule:
    return NewRule(kind, rule_id, more.pop("actions", ["notify"]), **more)


def test_the_servers_own() -> None:
    rules = fresh()
    assert tuple(rules) == KINDS
    assert ids(rules, "override")[0] == ".m.rule.master"
    assert [rule["enabled"] for rule in rules["override"]].count(False) == 1
    assert [rule["enabled"] for rule in rules["postcontent"]] == [False, True]
    assert find(rules, "override", ".m.rule.invite_for_me")["conditions"][2]["pattern"] == ANN
    assert all(rule["default"] for kind in KINDS for rule in rules[kind])


def test_own_ones_go_first_but_for_the_master() -> None:
    rules = fresh()
    for rule_id in ("a", "b"):
        put(rules, new("override", rule_id))
        put(rules, new("underride", rule_id))
    assert ids(rules, "override")[:4] == [".m.rule.master", "b", "a", ".m.rule.suppress_notices"]
    assert ids(rules, "underride")[:3] == ["b", "a", ".m.rule.call"]


@pytest.mark.parametrize(
    ("before", "after", "order"),
    [
        (None, None, "xabc"),
        ("b", None, "axbc"),
        (None, "b", "abxc"),
        ("b", "c", "axbc"),
        (None, "c", "abcx"),
    ],
)
def test_order(before: str | None, after: str | None, order: str) -> None:
    rules = fresh()
    for rule_id in "cba":
        put(rules, new("content", rule_id, pattern="tea"))
    put(rules, new("content", "x", pattern="tea", before=before, after=after))
    assert "".join(ids(rules, "content")) == order
    # What is there already is moved, or stays where it is when nothing is said of that.
    put(rules, new("content", "x", pattern="cake", after="c"))
    put(rules, new("content", "x", pattern="cake"))
    assert "".join(ids(rules, "content")) == "abcx"
    assert find(rules, "content", "x")["pattern"] == "cake"


def test_a_rule_that_is_changed_stays_disabled() -> None:
    rules = fresh()
    put(rules, new("room", "!r:a.org"))
    find(rules, "room", "!r:a.org")["enabled"] = False
    put(rules, new("room", "!r:a.org", actions=[]))
    assert find(rules, "room", "!r:a.org") == {
        "rule_id": "!r:a.org",
        "default": False,
        "enabled": False,
        "actions": [],
    }


@pytest.mark.parametrize(("before", "after"), [("z", None), (None, "z"), (".m.rule.call", None), ("a", "z")])
def test_no_such_neighbour(before: str | None, after: str | None) -> None:
    rules = fresh()
    put(rules, new("underride", "a"))
    with pytest.raises(MatrixError) as caught:
        put(rules, new("underride", "x", before=before, after=after))
    assert (caught.value.status, caught.value.errcode) == (400, "M_UNKNOWN")
    assert "x" not in ids(rules, "underride")


def test_the_servers_own_stay() -> None:
    rules = fresh()
    for rule_id in (".m.rule.call", "nothing"):
        with pytest.raises(NotFound):
            remove(rules, "underride", rule_id)
    assert ids(rules, "underride") == ids(fresh(), "underride")


@pytest.mark.parametrize(
    "rule",
    [
        new("override", ".m.rule.mine"),
        new("override", "a/b"),
        new("override", "a\\b"),
        new("override", "a\0b"),
        new("override", "a" * 300),
        new("content", "a"),
        new("content", "a", pattern="a" * 2000),
        new("override", "a", actions=["shout"]),
        new("override", "a", actions=[{"tweak": "sound"}]),
        new("override", "a", actions=[5]),
        new("override", "a", actions=["notify"] * 65),
        new("override", "a", conditions=["x"]),
        new("override", "a", conditions=[{"kind": 1}]),
        new("override", "a", conditions=[{"kind": "event_match", "key": "type"}]),
        new("override", "a", conditions=[{"kind": "event_match", "key": "type", "pattern": 1}]),
        new("override", "a", conditions=[{"kind": "event_property_is", "key": "type"}]),
        new("override", "a", conditions=[{"kind": "event_property_is", "key": "type", "value": {}}]),
        new("override", "a", conditions=[{"kind": "org.example", "x": "y" * 9000}]),
        new("override", "a", conditions=[{"kind": "io.element.msc4306.thread_subscription", "subscribed": "yes"}]),
        new("postcontent", "a", conditions=[]),
    ],
)
def test_what_cannot_be(rule: NewRule) -> None:
    with pytest.raises(MatrixError) as caught:
        check(rule)
    assert caught.value.status == 400


def test_conditions_that_nobody_knows_may_be_kept() -> None:
    check(new("override", "a", conditions=[{"kind": "org.example.moon", "phase": "full"}]))


def test_the_servers_rules_of_today() -> None:
    """What was stored by another version of the server is completed, and what was changed in it is kept."""
    rules = fresh()
    put(rules, new("override", "mine"))
    find(rules, "override", ".m.rule.tombstone")["enabled"] = False
    find(rules, "underride", ".m.rule.call")["actions"] = []
    stored = {kind: [one for one in rules[kind] if one["rule_id"] != ".m.rule.reaction"] for kind in KINDS}
    stored["underride"].append({**rules["underride"][0], "rule_id": ".m.rule.of_the_past"})
    assert complete(ANN, {"global": stored}) == rules


def test_all_devices_hear_of_it(house: LivedInHouse) -> None:
    """At first whatever was changed; later on when it is."""
    book = house.house.part(RuleBook)
    ann = house.user("ann")

    def told(answer: dict[str, Any]) -> list[Any]:
        events = answer.get("account_data", {}).get("events", ())
        return [event["content"]["global"] for event in events if event["type"] == "m.push_rules"]

    first = house.sync("ann")
    assert told(first) == [complete(ann, {})]
    waiting = house.start_sync("ann", first["next_batch"], timeout_ms=30_000, device_id="OTHER")
    house.wait(book.change(ann, lambda rules: put(rules, new("room", "!r:a.org", actions=[]))))
    house.advance(0)
    (rules,) = told(orjson.loads(house.wait(waiting)))
    assert ids(rules, "room") == ["!r:a.org"]
    assert told(house.sync("ann", first["next_batch"])) == told(house.sync("ann")) == [rules]
    since = house.sync("ann")["next_batch"]
    house.wait(book.change(ann, lambda rules: put(rules, new("room", "!r:a.org", actions=[]))))
    assert told(house.sync("ann", since)) == []
    with pytest.raises(NotFound):
        house.wait(book.change(ann, lambda rules: remove(rules, "room", "!other:a.org")))
    assert told(house.sync("ann", since)) == []


def test_kinds_that_only_proposals_know_are_not_found(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann_of_proposals")
    rule = "/_matrix/client/v3/pushrules/global/precontent/.org.example.rule.moon"
    for method, path in (("GET", rule), ("GET", f"{rule}/enabled"), ("GET", f"{rule}/actions"), ("DELETE", rule)):
        assert ann.request(method, path).json["errcode"] == "M_NOT_FOUND"
    assert ann.request("PUT", f"{rule}/enabled", {"enabled": False}).json["errcode"] == "M_INVALID_PARAM"


def test_all_rules_of_a_kind(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann_of_kinds")
    every = ann.call("GET", "/_matrix/client/v3/pushrules/")["global"]
    for kind in ("override", "underride", "room"):
        assert ann.call("GET", f"/_matrix/client/v3/pushrules/global/{kind}/") == every[kind]
    assert ann.request("GET", "/_matrix/client/v3/pushrules/global/precontent/").json["errcode"] == "M_NOT_FOUND"


def test_rules_for_threads_can_be_changed_and_none_added(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann_of_threads")
    kind = "/_matrix/client/v3/pushrules/global/postcontent"
    rule = f"{kind}/.io.element.msc4306.rule.subscribed_thread"
    condition = {"kind": "io.element.msc4306.thread_subscription", "subscribed": True}
    assert ann.call("GET", rule)["conditions"] == [condition]
    ann.call("PUT", f"{rule}/enabled", {"enabled": False})
    assert ann.call("GET", f"{rule}/enabled") == {"enabled": False}
    ann.call("PUT", f"{rule}/actions", {"actions": []})
    (told,) = [one for one in ann.sync()["account_data"]["events"] if one["type"] == "m.push_rules"]
    kept = told["content"]["global"]["postcontent"][1]
    assert (kept["enabled"], kept["actions"]) == (False, [])
    mine = {"actions": ["notify"], "conditions": [condition]}
    answers = [ann.request("PUT", f"{kind}/mine", mine), ann.request("PUT", rule, mine), ann.request("DELETE", rule)]
    assert [(one.status, one.json["errcode"]) for one in answers] == [
        (400, "M_INVALID_PARAM"), (400, "M_INVALID_PARAM"), (404, "M_NOT_FOUND"),
    ]  # fmt: skip


def test_every_kind_of_change_is_told(house: LivedInHouse) -> None:
    book, ann = house.house.part(RuleBook), house.user("ann")
    house.wait(book.change(ann, lambda rules: put(rules, new("content", "cake", pattern="cake"))))
    for name, value in (("enabled", False), ("actions", []), ("enabled", True)):
        since = house.sync("ann")["next_batch"]
        house.wait(book.change(ann, lambda rules, new={name: value}: find(rules, "content", "cake").update(new)))  # type: ignore[misc]
        assert find(house.wait(book.of(ann)), "content", "cake")[name] == value
        assert "account_data" in house.sync("ann", since)
