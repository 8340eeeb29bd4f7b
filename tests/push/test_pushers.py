"""Pushers on a real server, which asks a real gateway in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures_server import Person, ServerProcess, StartServer
from tests.push.gateway import Gateway, running_gateway
from tests.push.service import Browser

SET = "/_matrix/client/v3/pushers/set"
ALL = "/_matrix/client/v3/pushers"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with running_gateway(tmp_path) as gateway:
        yield gateway


@pytest.fixture
def server(database_url: str, start_server: StartServer) -> ServerProcess:
    return start_server(database=database_url, web__allow_loopback="true")


def pusher(url: str, pushkey: str = "key", **more: Any) -> dict[str, Any]:
    about = {"app_display_name": "App", "device_display_name": "Phone", "lang": "en", "profile_tag": "p"}
    data = {"url": url, "own": 1, **more.pop("data", {})}
    return {"kind": "http", "app_id": "org.example.app", "pushkey": pushkey, **about, "data": data, **more}


def meet(server: ServerProcess) -> tuple[Person, Person, str]:
    """Two people in one room."""
    ann, ben = server.register("ann"), server.register("ben")
    room_id = ann.call("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat", "name": "Hall"})["room_id"]
    ben.call("POST", f"/_matrix/client/v3/join/{room_id}", {})
    return ann, ben, room_id


def say(who: Person, room_id: str, text: str, **content: Any) -> str:
    body = {"msgtype": "m.text", "body": text, **content}
    path = f"/_matrix/client/v3/rooms/{room_id}/send/m.room.message/{text.replace(' ', '')}"
    event_id: str = who.call("PUT", path, body)["event_id"]
    return event_id


def test_what_a_gateway_is_told(server: ServerProcess, gateway: Gateway) -> None:
    ann, ben, room_id = meet(server)
    ben.call("POST", SET, pusher(gateway.url))
    ben.call("POST", SET, pusher(gateway.url, "sparse", data={"format": "event_id_only"}))
    (first, _) = ben.call("GET", ALL)["pushers"]
    assert {**first, **pusher(gateway.url)} == first
    assert ann.call("GET", ALL) == {"pushers": []}
    said = say(ann, room_id, "hello", **{"m.mentions": {"user_ids": [ben.user_id]}})
    told = {one["devices"][0]["pushkey"]: one for one in gateway.asked(2)}
    full, sparse = told["key"], told["sparse"]
    assert (full["event_id"], full["room_id"], full["type"], full["sender"]) == (
        said,
        room_id,
        "m.room.message",
        ann.user_id,
    )
    assert (full["room_name"], full["sender_display_name"]) == ("Hall", ann.user_id)
    assert full["content"]["body"] == "hello"
    assert full["counts"] == {"unread": 1}
    (device,) = full["devices"]
    assert device["tweaks"] == {"sound": "default", "highlight": True}
    assert device["data"] == {"own": 1}
    assert (sparse["event_id"], "content" in sparse, "tweaks" in sparse["devices"][0]) == (said, False, False)
    # Nobody is told of what they say themselves, nor of what is quiet.
    say(ben, room_id, "thanks")
    say(ann, room_id, "notice", msgtype="m.notice")
    last = say(ann, room_id, "again")
    assert {one["event_id"] for one in gateway.asked(4)} == {said, last}


def test_a_gateway_that_is_away_and_one_that_forgets(server: ServerProcess, gateway: Gateway) -> None:
    ann, ben, room_id = meet(server)
    ben.call("POST", SET, pusher(gateway.url))
    gateway.behave(status=503)
    said = say(ann, room_id, "hello")
    gateway.asked(2)
    gateway.behave(rejected=("key",))
    assert {one["event_id"] for one in gateway.asked(3)} == {said}
    while ben.call("GET", ALL)["pushers"]:
        pass


def test_restarts(server: ServerProcess, gateway: Gateway) -> None:
    """Pushers stay, and the newest of what was not said is."""
    ann, ben, room_id = meet(server)
    ben.call("POST", SET, pusher(gateway.url))
    gateway.behave(status=503)
    for number in range(3):
        last = say(ann, room_id, f"hello {number}")
    gateway.asked(1)
    server.stop()
    gateway.behave()
    before = len(gateway.asked())
    server.start()
    (told,) = gateway.asked(before + 1)[before:]
    assert (told["event_id"], told["counts"]) == (last, {"unread": 3})


def test_whose_it_is(server: ServerProcess, gateway: Gateway) -> None:
    ann, ben, _ = meet(server)
    ann.call("POST", SET, pusher(gateway.url))
    ben.call("POST", SET, pusher(gateway.url, append=True))
    assert len(ann.call("GET", ALL)["pushers"]) == 1
    ben.call("POST", SET, pusher(gateway.url))
    assert ann.call("GET", ALL)["pushers"] == []
    ben.call("POST", SET, pusher(gateway.url, "other"))
    ben.call("POST", SET, {"kind": None, "app_id": "org.example.app", "pushkey": "key"})
    (left,) = ben.call("GET", ALL)["pushers"]
    assert left["pushkey"] == "other"
    # The device goes, and takes it along.
    again = server.log_in(ben)
    ben.call("POST", "/_matrix/client/v3/logout", {})
    assert again.call("GET", ALL) == {"pushers": []}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "pigeon"},
        {"kind": "email"},
        {"lang": None},
        {"data": None},
        {"data": {}},
        {"data": {"url": "ftp://a.org/_matrix/push/v1/notify"}},
        {"data": {"url": "https://a.org/other"}},
        {"data": {"url": "https://a.org/_matrix/push/v1/notify", "format": "all"}},
        {"app_id": "a" * 65},
        {"app_id": ""},
        {"pushkey": "a" * 513},
        {"profile_tag": "a" * 2000},
    ],
)
def test_what_cannot_be(shared_server: ServerProcess, wrong: dict[str, Any]) -> None:
    cid = shared_server.register(f"cid{abs(hash(str(wrong)))}")
    body = {**pusher("https://a.org/_matrix/push/v1/notify"), **wrong}
    answer = shared_server.request("POST", SET, body, token=cid.token)
    assert answer.status == 400
    assert cid.call("GET", ALL)["pushers"] == []


def test_http_is_for_neighbours_only(start_server: StartServer) -> None:
    server = start_server(web__allow_loopback="false")
    dan = server.register("dan")
    answer = server.request("POST", SET, pusher("http://a.org/_matrix/push/v1/notify"), token=dan.token)
    assert (answer.status, answer.json["errcode"]) == (400, "M_INVALID_PARAM")
    dan.call("POST", SET, pusher("https://a.org/_matrix/push/v1/notify"))
    web = {"kind": "org.matrix.msc4174.webpush", "pushkey": Browser("dan").pushkey}
    data = {"url": "http://a.org/push", "auth": Browser("dan").auth}
    assert server.request("POST", SET, pusher("", **web, data=data), token=dan.token).status == 400
