"""Subscriptions of threads: what may be followed by whom, which wish goes before which, and what devices hear of it."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.client.thread_subscriptions import GetChanges, get_changes
from homeserver.errors import MatrixError
from homeserver.relations import subscriptions as module
from homeserver.relations.subscriptions import Subscriptions
from storage.thread_subscriptions import AUTOMATIC, MANUAL
from tests.fixtures_house import LivedInHouse
from tests.fixtures_server import Person, ServerProcess
from tests.push.test_followed_threads import follow, leave_alone
from tests.push.test_unread import in_thread, say
from tests.sync.sliding.slider import Slider, rooms

NAME = "io.element.msc4308.thread_subscriptions"
UNSTABLE = "/_matrix/client/unstable/io.element.msc4306/rooms"


def kind(house: LivedInHouse, name: str, room_id: str, root: str) -> int | None:
    try:
        return house.wait(house.house.part(Subscriptions).get(house.user(name), room_id, root)).kind
    except MatrixError as error:
        assert error.errcode == "M_NOT_FOUND"
        return None


def refused(house: LivedInHouse, name: str, room_id: str, root: str, cause: str | None = None) -> tuple[int, str]:
    with pytest.raises(MatrixError) as caught:
        follow(house, name, room_id, root, cause)
    return caught.value.status, caught.value.errcode.rpartition(".")[2]


def pages(house: LivedInHouse, name: str, limit: int, **more: Any) -> list[dict[str, Any]]:
    """All pages of the list."""
    found: list[dict[str, Any]] = []
    start = more.pop("start", None)
    while not found or start is not None:
        ask = GetChanges("b", start, limit=limit, **more)
        page = house.wait(get_changes(house.house.part(Subscriptions), house.who(name), ask))
        start = page.pop("end", None)
        found.append(page)
    return found


def test_whose_wish_counts(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    root, other = say(house, "alice", room_id, "root"), say(house, "alice", room_id, "other")
    one = say(house, "alice", room_id, "one", **in_thread(root))
    aside = say(house, "alice", room_id, "aside", **in_thread(other))
    leave_alone(house, "alice", room_id, root)  # there is nothing to end, which is as well
    assert kind(house, "alice", room_id, root) is None
    follow(house, "alice", room_id, root, one)
    assert kind(house, "alice", room_id, root) == AUTOMATIC
    follow(house, "alice", room_id, root)
    follow(house, "alice", room_id, root, one)
    assert kind(house, "alice", room_id, root) == MANUAL
    for cause in (root, aside, other, "$nothing"):
        assert refused(house, "alice", room_id, root, cause) == (400, "M_NOT_IN_THREAD")
    two = say(house, "alice", room_id, "two", **in_thread(root))
    leave_alone(house, "alice", room_id, root)
    three = say(house, "alice", room_id, "three", **in_thread(root))
    for cause in (one, two):
        assert refused(house, "alice", room_id, root, cause) == (409, "M_CONFLICTING_UNSUBSCRIPTION")
        assert kind(house, "alice", room_id, root) is None
    follow(house, "alice", room_id, root, three)
    assert kind(house, "alice", room_id, root) == AUTOMATIC
    leave_alone(house, "alice", room_id, root)
    follow(house, "alice", room_id, root)  # by her own wish at any time
    assert kind(house, "alice", room_id, root) == MANUAL


def test_what_is_there_to_be_followed(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = house.create("alice", preset="private_chat")
    root = say(house, "alice", room_id, "root")
    reply = say(house, "alice", room_id, "reply", **in_thread(root))
    assert refused(house, "bob", room_id, root) == refused(house, "alice", room_id, "$none") == (404, "M_NOT_FOUND")
    assert refused(house, "alice", "!none:test.example", root) == (404, "M_NOT_FOUND")
    assert refused(house, "alice", room_id, reply) == (404, "M_NOT_FOUND")  # no thread hangs on what is in one
    monkeypatch.setattr(module, "MOST_FOLLOWED", 1)
    follow(house, "alice", room_id, root)
    assert refused(house, "alice", room_id, say(house, "alice", room_id, "next")) == (400, "M_TOO_LARGE")
    follow(house, "alice", room_id, root)
    public = house.create("alice", preset="public_chat")
    there = say(house, "alice", public, "there")
    house.join("bob", public)
    follow(house, "bob", public, there)
    house.leave("bob", public)
    assert refused(house, "bob", public, there) == (404, "M_NOT_FOUND")
    assert kind(house, "bob", public, there) is None
    house.join("bob", public)
    assert kind(house, "bob", public, there) == MANUAL
    house.wait(house.house.part(Subscriptions).account_deactivated(house.user("bob"), erase=False))
    assert kind(house, "bob", public, there) is None


def test_what_devices_hear(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    roots = [say(house, "alice", room_id, f"root {number}") for number in range(5)]
    client = Slider(house, "alice", {"lists": {"all": rooms()}, "extensions": {NAME: {"enabled": True, "limit": 2}}})
    assert client.extension(NAME) is None
    # A subscription wakes whoever waits, and is told once.
    waiting = client.start(timeout_ms=30_000)
    house.wait(house.house.database.write(lambda cursor: None))
    assert not waiting.called
    follow(house, "alice", room_id, roots[0])
    house.advance(0)
    told = client.take(house.wait(waiting))["extensions"][NAME]
    assert told["subscribed"][room_id][roots[0]]["automatic"] is False and "prev_batch" not in told
    first = told["subscribed"][room_id][roots[0]]["bump_stamp"]
    assert client.extension(NAME) is None
    follow(house, "alice", room_id, roots[0])  # no change, no word
    assert client.extension(NAME) is None
    leave_alone(house, "alice", room_id, roots[0])
    told = client.extension(NAME)
    assert list(told) == ["unsubscribed"] and told["unsubscribed"][room_id][roots[0]]["bump_stamp"] > first
    # More than are wanted: the newest, and the rest page by page, down to where the client was.
    before = client.pos
    for root in roots[1:]:
        follow(house, "alice", room_id, root)
    told = client.extension(NAME)
    assert set(told["subscribed"][room_id]) == set(roots[3:])
    (rest,) = pages(house, "alice", 10, start=told["prev_batch"], to=before)
    assert set(rest["subscribed"][room_id]) == set(roots[1:3]) and "unsubscribed" not in rest
    found = pages(house, "alice", 2)
    assert [[*page.get("subscribed", {}).get(room_id, {})] for page in found] == [roots[:2:-1], roots[2:0:-1], []]
    assert list(found[2]["unsubscribed"][room_id]) == [roots[0]]
    assert pages(house, "bob", 2) == [{}]
    # Who begins anew, or is on another device, is told the newest of all.
    other = Slider(house, "alice", dict(client.body), device_id="OTHER")
    assert other.extension(NAME) == told
    # A device that was away for so long that its feed is gone asks the database.
    feed = house.house.hub.feed(house.user("alice"))
    assert feed is not None
    house.house.hub.close_feed(feed)
    leave_alone(house, "alice", room_id, roots[4])
    assert list(client.extension(NAME)["unsubscribed"][room_id]) == [roots[4]]


def subscription(who: Person, method: str, room_id: str, root: str, body: Any = None) -> tuple[int, Any]:
    path = f"{UNSTABLE}/{room_id}/thread/{root}/subscription"
    answer = who.request(method, path, body)
    return answer.status, answer.json.get("errcode") or answer.json


def test_over_http(shared_server: ServerProcess) -> None:
    ann = shared_server.register("ann_who_follows")
    features = shared_server.request("GET", "/_matrix/client/versions").json["unstable_features"]
    assert features["org.matrix.msc4306"]
    room_id = ann.create_room()
    root = ann.say(room_id, "root")
    assert subscription(ann, "GET", room_id, root) == (404, "M_NOT_FOUND")
    assert subscription(ann, "PUT", room_id, root, {}) == (200, {})
    assert subscription(ann, "GET", room_id, root) == (200, {"automatic": False})
    assert ann.call("GET", f"/_matrix/client/v1/rooms/{room_id}/thread/{root}/subscription") == {"automatic": False}
    for body, code in (
        ({"automatic": True}, "M_BAD_JSON"),
        ({"automatic": "x"}, "M_INVALID_PARAM"),
        ({"automatic": root}, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD"),
        ([], "M_BAD_JSON"),
    ):
        assert subscription(ann, "PUT", room_id, root, body) == (400, code)
    for wrong in ("x", "$" + 300 * "x"):
        for method in ("GET", "PUT", "DELETE"):
            assert subscription(ann, method, room_id, wrong, {})[0] == 400
    listing = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions"
    assert list(ann.call("GET", listing, query={"dir": "b"})["subscribed"][room_id]) == [root]
    pos = ann.call("POST", "/_matrix/client/v4/sync", {"extensions": {NAME: {"enabled": True}}})
    assert list(pos["extensions"][NAME]["subscribed"][room_id]) == [root]
    assert ann.call("GET", listing, query={"dir": "b", "to": pos["pos"]}) == {}
    for query in ({}, {"dir": "f"}, {"dir": "b", "limit": "0"}, {"dir": "b", "from": "x"}, {"dir": "b", "to": "t1_x"}):
        assert ann.request("GET", listing, query=query).status == 400
    for limit in (0, -1, "2", 2**60):
        bad = {"extensions": {NAME: {"enabled": True, "limit": limit}}}
        assert ann.request("POST", "/_matrix/client/v4/sync", bad).status == 400
    assert subscription(ann, "DELETE", room_id, root, {}) == (200, {})
    assert subscription(ann, "DELETE", room_id, root) == (200, {})
    assert subscription(ann, "GET", room_id, root) == (404, "M_NOT_FOUND")
