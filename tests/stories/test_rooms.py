"""Chats of two kinds, told from beginning to end over HTTP and the gateway, with a real server."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from homeserver.harness.client import until
from tests.fixtures_server import Person, Refused, ServerProcess
from tests.gateway.client import GatewayClient

V3 = "/_matrix/client/v3"
OURS = "/_guildhall/client/v1"
_numbers = count(1)


def said(text: str) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": text}


def people(server: ServerProcess, *names: str) -> list[tuple[Person, GatewayClient]]:
    number = next(_numbers)
    found = [server.register(f"{name}-story{number}") for name in names]
    return [(person, GatewayClient(server.port, person.token)) for person in found]


def memberships(client: GatewayClient, user_id: str, wanted: str) -> None:
    """Skip events up to the notice that somebody came or went."""
    while True:
        event = client.until("room.updated")["event"]
        if event.get("state_key") == user_id and event["content"].get("membership") == wanted:
            return


def test_simple_rooms(shared_server: ServerProcess) -> None:
    """Rooms with typing, who is online, notices of who comes and goes, history, names that are taken, reconnection."""
    (ann, ann_hears), (bob, bob_hears) = people(shared_server, "ann", "bob")
    alias = f"tea{next(_numbers)}"
    body = {"preset": "public_chat", "name": "Tea", "room_alias_name": alias}
    room_id = ann.call("POST", f"{V3}/createRoom", body)["room_id"]
    assert ann_hears.until("room.created")["room_id"] == room_id
    with pytest.raises(Refused) as refused:
        bob.call("POST", f"{V3}/createRoom", body)
    assert refused.value.answer.json["errcode"] == "M_ROOM_IN_USE"
    event_id = ann_hears.call("message.send", room_id=room_id, content=said("first"))["event_id"]

    bob.call("POST", f"{V3}/join/%23{alias}:localhost", {})
    assert bob_hears.until("room.created")["membership"] == "join"
    memberships(ann_hears, bob.user_id, "join")
    view = bob_hears.call("room.subscribe", room_id=room_id)
    assert view["messages"][-1]["state_key"] == bob.user_id
    assert event_id in [event["event_id"] for event in view["messages"]]
    # Whoever came just now is known to be here a moment later.
    here = {ann.user_id, bob.user_id}
    until(lambda: {one["user_id"] for one in bob_hears.call("room.subscribe", room_id=room_id)["online"]}, here)

    bob_hears.call("typing", room_id=room_id, typing=True)
    assert ann_hears.until("typing")["user_ids"] == [bob.user_id]
    bob_hears.call("message.send", room_id=room_id, content=said("hello"))
    assert ann_hears.until("message.created")["event"]["content"] == said("hello")

    ann_hears.wire.drop()
    bob_hears.call("message.send", room_id=room_id, content=said("are you there?"))
    bob_hears.call("typing", room_id=room_id, typing=False)
    ann_hears.reconnect()
    assert ann_hears.until("message.created")["event"]["content"] == said("are you there?")
    bob.call("POST", f"{V3}/rooms/{room_id}/leave", {})
    assert bob_hears.until("room.deleted")["membership"] == "leave"
    memberships(ann_hears, bob.user_id, "leave")


def test_chats_of_two_and_of_several(shared_server: ServerProcess) -> None:
    """Direct and group chats with read marks, people who come and go, and an account that goes with its messages."""
    (ann, ann_hears), (bob, bob_hears), (cay, cay_hears) = people(shared_server, "ann", "bob", "cay")
    direct = ann.call("POST", f"{OURS}/dms", {"user_id": bob.user_id})["room_id"]
    assert ann_hears.until("dm.created") == {"room_id": direct, "user_id": bob.user_id}
    assert bob_hears.until("room.created")["membership"] == "invite"
    assert bob.call("POST", f"{OURS}/dms", {"user_id": ann.user_id})["room_id"] == direct
    event_id = ann_hears.call("message.send", room_id=direct, content=said("only you"))["event_id"]
    assert bob_hears.until("message.created")["event_id"] == event_id
    bob_hears.call("read", room_id=direct, event_id=event_id)
    assert bob.user_id in ann_hears.until("receipt")["receipts"][event_id]["m.read"]

    ann.call("POST", f"{OURS}/friends/requests", {"user_id": cay.user_id})
    assert cay_hears.until("friend_request.received")["user_id"] == ann.user_id
    cay.call("POST", f"{OURS}/friends/requests/{ann.user_id}/accept", {})
    assert ann_hears.until("friend_request.accepted")["user_id"] == cay.user_id
    again = GatewayClient(shared_server.port, ann.token)
    assert [one["user_id"] for one in again.ready["friends"]] == [cay.user_id]
    assert bob.user_id in [one["user_id"] for one in again.ready["dms"]]

    group = ann.call("POST", f"{V3}/createRoom", {"preset": "private_chat", "invite": [bob.user_id, cay.user_id]})
    room_id = group["room_id"]
    for person, hears in ((bob, bob_hears), (cay, cay_hears)):
        while hears.until("room.created")["room_id"] != room_id:
            pass
        person.call("POST", f"{V3}/join/{room_id}", {})
    gone = cay_hears.call("message.send", room_id=room_id, content=said("mine"))["event_id"]
    while bob_hears.until("message.created")["event_id"] != gone:
        pass
    bob.call("POST", f"{V3}/rooms/{room_id}/leave", {})
    memberships(ann_hears, bob.user_id, "leave")

    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": cay.user_id}}
    answer = cay.request("POST", f"{V3}/account/deactivate", {"erase": True})
    auth |= {"password": "correct horse", "session": answer.json["session"]}
    cay.call("POST", f"{V3}/account/deactivate", {"erase": True, "auth": auth})
    while ann_hears.until("message.deleted")["event_id"] != gone:
        pass
    assert cay_hears.wire.closed() == 4001
    memberships(ann_hears, cay.user_id, "leave")
    shown = ann.call("GET", f"{V3}/rooms/{room_id}/event/{gone}")
    assert shown["content"] == {}
