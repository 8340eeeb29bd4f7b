"""Web push from a real server, over a push service in a process of its own, to a browser that has the keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import CancelledError, Deferred

from homeserver.about import About
from homeserver.client.capabilities import get_capabilities
from homeserver.harness.client import until
from homeserver.push.sealing import LARGEST_PLAIN, seal
from tests.fixtures_house import LivedInHouse
from tests.fixtures_server import Person, ServerProcess, StartServer
from tests.push.service import Browser, PushService, claims_of, decode, encode, running_service
from tests.push.test_pushers import ALL, SET, meet, say

ACK = "/_matrix/client/unstable/org.matrix.msc4174/pushers/ack"
CAPABILITIES = "/_matrix/client/v3/capabilities"
CAPABILITY = "org.matrix.msc4174.webpush"
APP = "org.example.web"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[PushService]:
    with running_service(tmp_path) as service:
        yield service


def pusher(service: PushService, browser: Browser, **data: Any) -> dict[str, Any]:
    about = {"app_display_name": "App", "device_display_name": "Browser", "lang": "en"}
    told = {"url": service.base + browser.path, "auth": browser.auth, **data}
    return {"kind": CAPABILITY, "app_id": APP, "pushkey": browser.pushkey, **about, "data": told}


def set_pusher(server: ServerProcess, who: Person, told: dict[str, Any]) -> int:
    answer = server.request("POST", SET, told, token=who.token)
    assert answer.json == {}
    return answer.status


def acknowledge(server: ServerProcess, who: Person, token: str, app_id: str = APP) -> tuple[int, str | None]:
    answer = server.request("POST", ACK, {"app_id": app_id, "ack_token": token}, token=who.token)
    return answer.status, answer.json.get("errcode")


def subscribe(server: ServerProcess, service: PushService, who: Person, browser: Browser, **data: Any) -> None:
    """With all that belongs to it."""
    there = len(service.posted())
    assert set_pusher(server, who, pusher(service, browser, **data)) == 201
    token = browser.read(service.posted(there + 1)[there])["ack_token"]
    assert acknowledge(server, who, token) == (200, None)


def public_key(server: ServerProcess, who: Person) -> str:
    capability = who.call("GET", CAPABILITIES)["capabilities"][CAPABILITY]
    assert capability["enabled"]
    key: str = capability["vapid"]
    return key


def test_from_the_first_word_on(database_url: str, start_server: StartServer, service: PushService) -> None:
    server = start_server(database=database_url, web__allow_loopback="true")
    ann, ben, room_id = meet(server)
    key = public_key(server, ben)
    assert server.request("GET", "/_matrix/client/versions").json["unstable_features"]["org.matrix.msc4174"]
    browser = Browser("ben")
    told = pusher(service, browser, default_payload={"user_id": ben.user_id, "event_id": "?"})
    assert set_pusher(server, ben, told) == 201

    # Nothing is sent before the browser was asked, and has answered.
    (asked,) = service.posted(1)
    assert browser.read(asked).keys() == {"app_id", "ack_token"}
    say(ann, room_id, "too early")
    assert not ben.call("GET", ALL)["pushers"][0]["data"]["activated"]
    token = browser.read(asked)["ack_token"]
    assert acknowledge(server, ann, token) == (404, "M_NOT_FOUND")
    assert acknowledge(server, ben, "another") == (400, "M_UNKNOWN_ACTIVATION_TOKEN")
    assert acknowledge(server, ben, token) == (200, None)
    assert ben.call("GET", ALL)["pushers"][0]["data"] == {**told["data"], "activated": True}
    assert set_pusher(server, ben, told) == 200  # as it was

    said = say(ann, room_id, "hello", **{"m.mentions": {"user_ids": [ben.user_id]}})
    posted = service.posted(2)[1]
    headers = posted.headers
    assert (posted.path, headers["content-encoding"], headers["urgency"]) == (browser.path, "aes128gcm", "high")
    assert int(headers["ttl"]) > 0 and "topic" not in headers
    claims = claims_of(headers["authorization"], key)
    assert claims["aud"] == service.base and claims["sub"].startswith("mailto:")
    assert time.time() < claims["exp"] < time.time() + 24 * 3600
    notification = browser.read(posted)
    assert (notification["event_id"], notification["room_id"], notification["user_id"]) == (said, room_id, ben.user_id)
    assert (notification["content"]["body"], notification["room_name"]) == ("hello", "Hall")
    assert notification["counts"] == {"unread": 2}
    assert browser.auth not in str(notification)
    assert b"hello" not in posted.body

    # After a restart it is the same server to the push service, and the browser need not be asked again.
    server.stop()
    server.start()
    assert public_key(server, ben) == key
    long = say(ann, room_id, "a long story" + 5_000 * "!")
    posted = service.posted(3)[2]
    assert claims_of(posted.headers["authorization"], key) and posted.headers["urgency"] == "high"  # a room of two
    notification = browser.read(posted)
    assert (notification["event_id"], "content" in notification) == (long, False)

    # Elsewhere, or with another secret, it has to be asked again; who was asked in vain is asked anew.
    assert set_pusher(server, ben, pusher(service, browser, auth=encode(b"another secret!!"))) == 201
    service.posted(4)
    assert set_pusher(server, ben, told) == 201
    first, second = (browser.read(one)["ack_token"] for one in (asked, service.posted(5)[4]))
    assert acknowledge(server, ben, first) == (400, "M_UNKNOWN_ACTIVATION_TOKEN")
    assert acknowledge(server, ben, second) == (200, None)


def test_the_key_is_made_for_who_asks_first(house: LivedInHouse) -> None:
    """All who ask are told the same one; where it cannot be read, the rest is told all the same."""
    about = house.house.part(About)
    assert about.versions()["unstable_features"]["org.matrix.msc4174"]
    asked = [Deferred.fromCoroutine(get_capabilities(about)) for _ in range(2)]
    assert not any(one.called for one in asked)
    asked[0].addErrback(lambda failure: failure.trap(CancelledError))
    asked[0].cancel()  # one who hangs up takes nobody along
    told = house.wait(asked[1])["capabilities"][CAPABILITY]
    assert told["vapid"] and told == house.wait(get_capabilities(about))["capabilities"][CAPABILITY]

    async def find_out() -> dict[str, Any]:
        raise OSError("no database")

    about.more_capabilities[CAPABILITY] = find_out
    assert CAPABILITY not in house.wait(get_capabilities(about))["capabilities"]


def test_services_that_are_busy_and_browsers_that_are_gone(start_server: StartServer, service: PushService) -> None:
    server = start_server(web__allow_loopback="true")
    ann, ben, room_id = meet(server)
    browser = Browser("ben")
    subscribe(server, service, ben, browser, format="event_id_only", only_last_per_room=True)
    service.behave(429, retry_after="1")
    said = say(ann, room_id, "hello")
    service.posted(2)
    service.behave(503)
    service.posted(3)
    service.behave()
    attempts = [browser.read(one) for one in service.posted(4)[1:]]
    assert {one["event_id"] for one in attempts} == {said}
    assert attempts[0].keys() == {"event_id", "room_id", "counts", "devices", "prio"}
    assert len({one.headers["topic"] for one in service.posted()[1:]}) == 1
    assert len(service.posted()[1].headers["topic"]) <= 32

    # What will never be taken is not tried again, and does not hold up the next.
    service.behave(400)
    say(ann, room_id, "nonsense")
    service.posted(5)
    service.behave(410)
    last = say(ann, room_id, "again")
    until(lambda: ben.call("GET", ALL)["pushers"], [])
    assert browser.read(service.posted(6)[5])["event_id"] == last
    assert len(service.posted()) == 6


def test_private_addresses(start_server: StartServer, service: PushService) -> None:
    """Without a word of the operator's nothing is sent there, whatever the pusher says."""
    server = start_server(web__allow_loopback="false", web__allowed_private_ranges='["10.11.12.0/24"]')
    ben = server.register("ben")
    assert set_pusher(server, ben, pusher(service, Browser("ben"))) == 201
    server.request("GET", "/_matrix/client/versions")
    log = server.directory / "server.log"
    until(lambda: not log.exists() or "cannot be passed on" in log.read_text(), True)
    assert service.posted() == []


@pytest.mark.parametrize(
    ("wrong", "data"),
    [
        ({}, {"url": "ftp://a.org/push"}),
        ({}, {"url": None}),
        ({}, {"url": 5}),
        ({}, {"auth": None}),
        ({}, {"auth": "c2hvcnQ"}),
        ({}, {"auth": "****"}),
        ({"pushkey": "c2hvcnQ"}, {}),
        ({"pushkey": "é"}, {}),
        ({"pushkey": encode(b"\x04" + 64 * b"\x01")}, {}),
        ({"pushkey": encode(b"\x02" + 32 * b"\x01")}, {}),
        ({"data": []}, {}),
    ],
)
def test_what_cannot_be(shared_server: ServerProcess, wrong: dict[str, Any], data: dict[str, Any]) -> None:
    cid = shared_server.register(f"web{abs(hash(str((wrong, data))))}")
    told = pusher(PushService("https://a.org"), Browser("cid"))
    told = {**told, "data": {**told["data"], **data}, **wrong}
    answer = shared_server.request("POST", SET, told, token=cid.token)
    assert (answer.status, cid.call("GET", ALL)["pushers"]) == (400, [])


def test_the_example_of_the_standard() -> None:
    """https://www.rfc-editor.org/rfc/rfc8291#section-5"""
    reader = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
    key = ec.derive_private_key(
        int.from_bytes(decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big"), ec.SECP256R1()
    )
    sealed = seal(
        b"When I grow up, I want to be a watermelon",
        decode(reader),
        decode("BTBZMqHH6r4Tts7J_aSIgg"),
        key=key,
        salt=decode("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert encode(sealed) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz"
        "AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_whatever_is_sealed_can_be_opened() -> None:
    browser = Browser("x")
    for plain in (b"", b"\x02", 100 * b"\x00\x02", LARGEST_PLAIN * b"x"):
        body = seal(plain, decode(browser.pushkey), browser.secret)
        assert browser.open(body) == plain
