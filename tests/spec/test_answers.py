"""Answers with 200 held against the specification's schemas, on a server with something to say.

Each operation is called as its users call it; what comes back must have the right shape, and be about what is there:
where the specification leaves a member out of `required`, the test names it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field
from nacl.signing import SigningKey

from tests.encryption.village import Identity, public, signed
from tests.fixtures_server import Answer, Person, Query, ServerProcess, running_servers
from tests.media.files import opened, picture
from tests.media.site import running_site
from tests.spec.operations import BY_ID, DATA, SERVED, complaints

PASSWORD = "correct horse"


#: Operation → what we do not keep of its schema, on purpose.
DEVIATIONS = {
    # COMPAT Complement, as Synapse has it: null for those who have no name or picture.
    "getJoinedMembersByRoom": "None is not of type 'string'",
}


@define
class Village:
    """People, and a room with something in it."""

    server: ServerProcess
    alice: Person
    bob: Person
    carol: Person
    values: dict[str, str]

    def call(
        self,
        operation_id: str,
        body: object = None,
        query: Query | None = None,
        *,
        who: Person | None = None,
        expect: int = 200,
        at: Mapping[str, str] | None = None,
    ) -> Any:
        """Call an operation, by default as Alice; its JSON, which must keep to the schema."""
        operation = BY_ID[operation_id]
        path = operation.path
        for name, value in {**self.values, **(at or {})}.items():
            path = path.replace("{" + name + "}", quote(value, safe=""))
        assert "{" not in path, f"no value for {path}"
        token = (who or self.alice).token if operation.auth != "none" else None
        if operation.body is not None and body is not None:
            assert not complaints(operation.body, body), f"{operation_id} is not called as the specification has it"
        answer = self.server.request(operation.method, path, body, query, token=token)
        assert answer.status == expect, f"{operation_id}: {answer.status} {answer.body!r}"
        schema = operation.answer if expect == 200 else operation.challenge
        # COMPAT with the specification: it wants exactly one of the two forms of a piece of state, but whatever is an
        # event is an object too, and so the content of some other.
        if query == {"format": "event"}:
            schema = next(one for one in schema["oneOf"] if "$ref" in one)
        self.judge(operation_id, schema, answer)
        return answer.json

    def fetch(
        self,
        operation_id: str,
        body: bytes | None = None,
        query: Query | None = None,
        *,
        at: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call an operation with 200 as Alice whose body or answer is no JSON."""
        operation = BY_ID[operation_id]
        path = operation.path
        for name, value in at.items():
            path = path.replace("{" + name + "}", quote(value, safe=""))
        answer = self.server.request(operation.method, path, body, query, token=self.alice.token, headers=headers)
        assert answer.status == 200, f"{operation_id}: {answer.status} {answer.body[:500]!r}"
        if operation.answer is not None:
            self.judge(operation_id, operation.answer, answer)
        return answer

    def judge(self, operation_id: str, schema: Any, answer: Answer) -> None:
        assert schema is not None, f"{operation_id} answers no JSON"
        known = DEVIATIONS.get(operation_id)
        wrong = [one for one in complaints(schema, answer.json) if known is None or not one.endswith(known)]
        wrong += complaints_of_contents(answer.json)
        assert not wrong, f"{operation_id}:\n" + "\n".join(wrong) + f"\n{json.dumps(answer.json)[:3000]}"


def events_in(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every event anywhere in an answer."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str) and isinstance(value.get("content"), dict):
            yield value
        for inner in value.values():
            yield from events_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from events_in(inner)


def complaints_of_contents(answer: Any) -> list[str]:
    """What the contents of events in an answer do not keep of the schemas of their types."""
    return [
        f"{event['type']} {complaint}"
        for event in events_in(answer)
        if event["type"] in DATA["contents"] and "redacted_because" not in event.get("unsigned", {})
        for complaint in complaints(DATA["contents"][event["type"]], event["content"])
    ]


@define
class Device:
    """A device with a key."""

    who: Person
    own: SigningKey = field(factory=SigningKey.generate)

    @property
    def keys(self) -> dict[str, Any]:
        name = f"ed25519:{self.who.device_id}"
        value = {
            "user_id": self.who.user_id,
            "device_id": self.who.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {name: public(self.own)},
        }
        return signed(value, self.who.user_id, name, self.own)

    def key(self, text: str) -> dict[str, Any]:
        return signed({"key": text}, self.who.user_id, f"ed25519:{self.who.device_id}", self.own)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {
        "server__public_baseurl": "https://localhost:8448",
        "server__admin_contact": "mailto:admin@localhost",
        "federation__policy_key_path": "policy.key",
        "registration__allow_guests": "true",
        "web__allow_loopback": "true",
        "voip__turn_uris": '["turn:turn.example.org"]',
        "voip__turn_secret": "shared",
    }
    with running_servers(lambda: tmp_path_factory.mktemp("village")) as start:
        yield start(**settings)


@pytest.fixture(scope="module")
def village(server: ServerProcess) -> Village:
    alice, bob, carol = (server.register(name, PASSWORD) for name in ("alice", "bob", "carol"))
    room_id = alice.create_room(
        preset="public_chat",
        name="The pub",
        topic="All about happy hour",
        room_alias_name="pub",
        visibility="public",
        initial_state=[{"type": "m.room.avatar", "state_key": "", "content": {"url": "mxc://localhost/pub"}}],
    )
    bob.join(room_id)
    event_id = alice.say(room_id, "hello, Bob")
    bob.say(room_id, "hello, Alice")
    return Village(
        server,
        alice,
        bob,
        carol,
        {
            "userId": alice.user_id,
            "roomId": room_id,
            "roomIdOrAlias": room_id,
            "roomAlias": "#pub:localhost",
            "eventId": event_id,
            "eventType": "m.room.message",
            "stateKey": "",
            "deviceId": alice.device_id,
            "type": "org.example.data",
            "keyName": "displayname",
            "tag": "u.work",
            "receiptType": "m.read",
        },
    )


def txn() -> str:
    return secrets.token_hex(4)


def auth(who: Person) -> dict[str, Any]:
    return {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": who.user_id},
        "password": PASSWORD,
    }


def test_about_the_server(village: Village) -> None:
    assert "v1.13" in village.call("getVersions")["versions"]
    assert village.call("getCapabilities")["capabilities"]["m.room_versions"]["available"]
    assert village.call("getWellknown")["m.homeserver"]["base_url"] == "https://localhost:8448"
    assert village.call("getWellknownSupport")["contacts"]
    assert len(village.call("getWellknownPolicy")["public_keys"]["ed25519"]) == 43
    assert {"type": "m.login.password"} in village.call("getLoginFlows")["flows"]


def test_accounts(village: Village) -> None:
    assert village.call("checkUsernameAvailability", query={"username": "dave"}) == {"available": True}
    assert village.call("registrationTokenValidity", query={"token": "sesame"}) == {"valid": False}
    body = {"username": "dave", "password": PASSWORD, "refresh_token": True, "initial_device_display_name": "Phone"}
    steps = village.call("register", body, expect=401)
    assert steps["flows"]
    made = village.call("register", {**body, "auth": {"type": "m.login.dummy", "session": steps["session"]}})
    assert {"access_token", "device_id", "refresh_token", "expires_in_ms"} <= made.keys()
    assert village.call("register", {}, query={"kind": "guest"})["access_token"]
    named = {"type": "m.id.user", "user": "dave"}
    login = {"type": "m.login.password", "identifier": named, "password": PASSWORD, "refresh_token": True}
    assert village.call("login", login)["well_known"]
    renewed = village.call("refresh", {"refresh_token": made["refresh_token"]})
    assert renewed["refresh_token"]
    dave = Person(village.server, made["user_id"], made["device_id"], renewed["access_token"])
    assert village.call("getTokenOwner", who=dave) == {
        "user_id": dave.user_id,
        "device_id": dave.device_id,
        "is_guest": False,
    }
    assert len(village.call("getDevices", who=dave)["devices"]) == 2
    device = village.call("getDevice", who=dave, at={"deviceId": dave.device_id})
    assert {"display_name", "last_seen_ip", "last_seen_ts"} <= device.keys()
    village.call("updateDevice", {"display_name": "Telephone"}, who=dave, at={"deviceId": dave.device_id})
    devices = {one["device_id"] for one in village.call("getDevices", who=dave)["devices"]}
    (other,) = devices - {dave.device_id}
    village.call("deleteDevice", {"auth": auth(dave)}, who=dave, at={"deviceId": other})
    village.call("deleteDevices", {"devices": ["GONE"], "auth": auth(dave)}, who=dave)
    assert village.call("getAccount3PIDs", who=dave) == {"threepids": []}
    address = {"medium": "email", "address": "dave@example.org"}
    assert village.call("delete3pidFromAccount", address, who=dave)
    assert village.call("unbind3pidFromAccount", address, who=dave)
    village.call("requestOpenIdToken", {}, who=dave, at={"userId": dave.user_id})
    village.call("changePassword", {"new_password": PASSWORD, "logout_devices": False, "auth": auth(dave)}, who=dave)
    village.call("deactivateAccount", {"auth": auth(dave), "erase": True}, who=dave)
    erin = village.server.register("erin", PASSWORD)
    village.call("logout", {}, who=erin)
    erin = village.server.register("erin2", PASSWORD)
    village.call("logout_all", {}, who=erin)


#: They would need addresses, of which this server keeps none: it says so in the right words.
REFUSED = {
    "post3PIDs", "add3PID", "bind3PID", "requestTokenTo3PIDEmail", "requestTokenTo3PIDMSISDN",
    "requestTokenToRegisterEmail", "requestTokenToRegisterMSISDN", "requestTokenToResetPasswordEmail",
    "requestTokenToResetPasswordMSISDN", "inviteBy3PID",
}  # fmt: skip


@pytest.mark.parametrize("operation_id", sorted(REFUSED))
def test_addresses(village: Village, operation_id: str) -> None:
    body = {"client_secret": "x", "send_attempt": 1, "email": "a@example.org", "country": "GB", "phone_number": "1"}
    invite = {"medium": "email", "address": "a@example.org", "id_server": "example.org", "id_access_token": "x"}
    operation = BY_ID[operation_id]
    path = operation.path.replace("{roomId}", quote(village.values["roomId"], safe=""))
    token = village.alice.token if operation.auth != "none" else None
    answer = village.server.request("POST", path, invite if operation_id == "inviteBy3PID" else body, token=token)
    assert answer.status in (400, 403)
    assert answer.json["errcode"] == "M_THREEPID_DENIED"


def test_profiles_and_presence(village: Village) -> None:
    village.call("setProfileField", {"displayname": "Alice"})
    village.call("setProfileField", {"avatar_url": "mxc://localhost/alice"}, at={"keyName": "avatar_url"})
    village.call("setProfileField", {"org.example.mood": ["fine"]}, at={"keyName": "org.example.mood"})
    assert village.call("getProfileField") == {"displayname": "Alice"}
    assert set(village.call("getUserProfile")) == {"displayname", "avatar_url", "org.example.mood"}
    village.call("deleteProfileField", at={"keyName": "org.example.mood"})
    village.call("setPresence", {"presence": "online", "status_msg": "here"})
    assert village.call("getPresence", who=village.bob)["status_msg"] == "here"


def test_rooms(village: Village) -> None:
    """Made, found in the directory, entered and left."""
    room_id = village.call("createRoom", {"preset": "private_chat", "name": "Den", "invite": [village.bob.user_id]})[
        "room_id"
    ]
    village.call("setRoomAlias", {"room_id": room_id}, at={"roomAlias": "#den:localhost"})
    assert village.call("getRoomIdByAlias", at={"roomAlias": "#den:localhost"})["servers"] == ["localhost"]
    assert village.call("getLocalAliases", at={"roomId": room_id})["aliases"] == ["#den:localhost"]
    village.call("deleteRoomAlias", at={"roomAlias": "#den:localhost"})
    village.call("setRoomVisibilityOnDirectory", {"visibility": "public"}, at={"roomId": room_id})
    assert village.call("getRoomVisibilityOnDirectory", at={"roomId": room_id}) == {"visibility": "public"}
    assert len(village.call("getPublicRooms")["chunk"]) == 2
    assert {"next_batch", "total_room_count_estimate"} <= village.call("getPublicRooms", query={"limit": 1}).keys()
    found = village.call("queryPublicRooms", {"filter": {"generic_search_term": "pub"}})["chunk"]
    assert [one["room_id"] for one in found] == [village.values["roomId"]]
    assert {"name", "topic", "avatar_url", "canonical_alias", "num_joined_members"} <= found[0].keys()

    in_room = {"roomId": room_id, "roomIdOrAlias": room_id}
    assert village.call("joinRoomById", {}, who=village.bob, at=in_room) == {"room_id": room_id}
    village.call("leaveRoom", {"reason": "tired"}, who=village.bob, at=in_room)
    village.call("forgetRoom", {}, who=village.bob, at=in_room)
    village.call("inviteUser", {"user_id": village.carol.user_id}, at=in_room)
    assert village.call("joinRoom", {}, who=village.carol, at=in_room) == {"room_id": room_id}
    village.call("kick", {"user_id": village.carol.user_id}, at=in_room)
    village.call("ban", {"user_id": village.carol.user_id, "reason": "rude"}, at=in_room)
    village.call("unban", {"user_id": village.carol.user_id}, at=in_room)
    rule = {"eventType": "m.room.join_rules", "stateKey": ""}
    village.call("setRoomStateWithKey", {"join_rule": "knock"}, at={**in_room, **rule})
    assert village.call("knockRoom", {"reason": "please"}, who=village.carol, at=in_room) == {"room_id": room_id}
    assert room_id in village.call("getJoinedRooms")["joined_rooms"]
    told = {"new_version": "12", "additional_creators": [village.bob.user_id]}
    replacement = village.call("upgradeRoom", told, at=in_room)["replacement_room"]
    tombstone = village.call("getRoomStateWithKey", at={**in_room, "eventType": "m.room.tombstone", "stateKey": ""})
    assert tombstone["replacement_room"] == replacement


def test_people(village: Village) -> None:
    assert village.call("searchUserDirectory", {"search_term": "bo", "limit": 1}) == {
        "results": [{"user_id": village.bob.user_id}],
        "limited": False,
    }
    shared = village.call("getMutualRooms", query={"user_id": village.bob.user_id})
    assert village.values["roomId"] in shared["joined"] and shared["count"] == len(shared["joined"])


def test_spaces(village: Village) -> None:
    """A space with rooms in it, one of them encrypted and one with a rule of its own."""
    space = village.call("createRoom", {"preset": "public_chat", "creation_content": {"type": "m.space"}})["room_id"]
    rules = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": space}]}
    state = [
        {"type": "m.room.join_rules", "content": rules},
        {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
    ]
    child = village.call("createRoom", {"name": "Members only", "initial_state": state})["room_id"]
    for room_id in (village.values["roomId"], child):
        link = {"roomId": space, "eventType": "m.space.child", "stateKey": room_id}
        village.call("setRoomStateWithKey", {"via": ["localhost"], "suggested": True}, at=link)
    page = village.call("getSpaceHierarchy", query={"limit": 2, "max_depth": 3}, at={"roomId": space})
    assert page["rooms"][0]["children_state"] and page["rooms"][0]["room_type"] == "m.space" and page["next_batch"]
    rest = village.call("getSpaceHierarchy", query={"from": page["next_batch"]}, at={"roomId": space})
    assert [one["room_id"] for one in page["rooms"] + rest["rooms"]] == [space, village.values["roomId"], child]
    told = village.call("getRoomSummary", at={"roomIdOrAlias": child})
    assert {"encryption", "room_version", "allowed_room_ids", "membership", "name"} <= told.keys()
    assert village.call("getRoomSummary", who=village.carol, at={"roomIdOrAlias": "#pub:localhost"})["name"]


def test_events(village: Village) -> None:
    """Said, set, redacted; and read in every way."""
    redacted = village.call("sendMessage", {"msgtype": "m.text", "body": "oops"}, at={"txnId": txn()})["event_id"]
    village.call("redactEvent", {"reason": "wrong room"}, at={"eventId": redacted, "txnId": txn()})
    content = {"words": ["one"]}
    village.call("setRoomStateWithKey", {}, at={"eventType": "org.example.s", "stateKey": "a/b"})
    village.call("setRoomStateWithKey", content, at={"eventType": "org.example.s", "stateKey": "a/b"})
    piece = {"eventType": "org.example.s", "stateKey": "a/b"}
    assert village.call("getRoomStateWithKey", at=piece) == content
    assert village.call("getRoomStateWithKey", query={"format": "event"}, at=piece)["content"] == content
    assert {event["type"] for event in village.call("getRoomState")} > {"m.room.create", "m.room.member", "m.room.name"}
    assert len(village.call("getMembersByRoom")["chunk"]) == 2
    joined = village.call("getJoinedMembersByRoom")["joined"]
    assert set(joined) == {village.alice.user_id, village.bob.user_id}

    page = village.call("getRoomEvents", query={"dir": "b", "limit": 10, "filter": '{"lazy_load_members":true}'})
    assert len(page["chunk"]) == 10 and page["state"] and page["end"]
    assert any("redacted_because" in event["unsigned"] for event in page["chunk"])
    assert any("prev_content" in event["unsigned"] for event in page["chunk"])
    around = village.call("getEventContext", query={"limit": 10})
    assert around["event"] and around["events_before"] and around["events_after"] and around["state"]
    assert village.call("getOneRoomEvent")["content"]["body"] == "hello, Bob"
    first = village.call("getEventByTimestamp", query={"ts": 0, "dir": "f"})
    assert first["origin_server_ts"] <= around["event"]["origin_server_ts"]


def test_what_hangs_on_events(village: Village) -> None:
    root = village.call("sendMessage", {"msgtype": "m.text", "body": "who is there?"}, at={"txnId": txn()})["event_id"]
    new = {"msgtype": "m.text", "body": "who is here?"}
    for rel_type, more in (("m.thread", {}), ("m.reference", {}), ("m.replace", {"m.new_content": new})):
        relation = {"rel_type": rel_type, "event_id": root}
        content = {"msgtype": "m.text", "body": "* me", "m.relates_to": relation, **more}
        village.call("sendMessage", content, at={"txnId": txn()})
    at = {"eventId": root, "relType": "m.thread", "eventType": "m.room.message"}
    assert len(village.call("getRelatingEvents", at=at)["chunk"]) == 3
    page = village.call("getRelatingEvents", query={"limit": 2, "recurse": "true"}, at=at)
    assert page["next_batch"] and page["recursion_depth"] == 3
    assert village.call("getRelatingEvents", query={"from": page["next_batch"]}, at=at)["prev_batch"]
    assert len(village.call("getRelatingEventsWithRelType", at=at)["chunk"]) == 1
    assert len(village.call("getRelatingEventsWithRelTypeAndEventType", at=at)["chunk"]) == 1
    (thread,) = village.call("getThreadRoots", query={"limit": 1, "include": "participated"})["chunk"]
    assert set(thread["unsigned"]["m.relations"]) == {"m.reference", "m.replace", "m.thread"}
    assert set(village.call("getOneRoomEvent", at=at)["unsigned"]["m.relations"]) >= {"m.replace", "m.thread"}


def test_search(village: Village) -> None:
    village.call("setProfileField", {"displayname": "Alice"})
    village.call("sendMessage", {"msgtype": "m.text", "body": "a needle"}, at={"txnId": txn()})
    village.call("sendMessage", {"msgtype": "m.text", "body": "another needle"}, at={"txnId": txn()})
    wanted = {
        "search_term": "needle",
        "keys": ["content.body", "content.name", "content.topic"],
        "filter": {"limit": 1},
        "order_by": "recent",
        "event_context": {"before_limit": 2, "after_limit": 2, "include_profile": True},
        "include_state": True,
        "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
    }
    body = {"search_categories": {"room_events": wanted}}
    found = village.call("search", body)["search_categories"]["room_events"]
    assert found["count"] == 2 and len(found["results"]) == 1 and found["highlights"] == ["needle"]
    assert found["results"][0]["context"]["profile_info"][village.alice.user_id]["displayname"]
    assert found["groups"]["room_id"][village.values["roomId"]]["next_batch"]
    assert found["state"][village.values["roomId"]]
    second = village.call("search", body, query={"next_batch": found["next_batch"]})
    assert second["search_categories"]["room_events"]["results"][0]["result"]["content"]["body"] == "a needle"


def test_relays(village: Village) -> None:
    assert village.call("getTurnServer")["uris"] == ["turn:turn.example.org"]


def test_reports(village: Village) -> None:
    village.call("reportEvent", {"reason": "rude"}, who=village.bob)
    village.call("reportRoom", {"reason": "rude"}, who=village.carol)
    village.call("reportUser", {"reason": "rude"}, who=village.carol)


def test_push_rules(village: Village) -> None:
    at = {"kind": "content", "ruleId": "cake"}
    village.call("setPushRule", {"pattern": "cake", "actions": ["notify"]}, at=at)
    village.call("setPushRule", {"pattern": "tea", "actions": []}, {"before": "cake"}, at={**at, "ruleId": "tea"})
    village.call("setPushRuleEnabled", {"enabled": False}, at=at)
    village.call("setPushRuleActions", {"actions": ["notify", {"set_tweak": "highlight"}]}, at=at)
    rule = village.call("getPushRule", at=at)
    actions = ["notify", {"set_tweak": "highlight"}]
    assert rule == {"rule_id": "cake", "default": False, "enabled": False, "actions": actions, "pattern": "cake"}
    assert village.call("isPushRuleEnabled", at=at) == {"enabled": False}
    assert village.call("getPushRuleActions", at=at) == {"actions": actions}
    whole = village.call("getPushRules")["global"]
    assert [one["rule_id"] for one in whole["content"]] == ["tea", "cake"]
    assert {"override", "underride"} <= {kind for kind, rules in whole.items() if rules}
    assert village.call("getPushRulesGlobal") == whole
    village.call("deletePushRule", at=at)
    assert len(village.call("getPushRulesGlobal")["content"]) == 1


def test_pushers(village: Village) -> None:
    about = {"app_display_name": "App", "device_display_name": "Phone", "lang": "en"}
    data = {"url": "https://push.example/_matrix/push/v1/notify", "format": "event_id_only"}
    pusher = {"kind": "http", "app_id": "org.example", "pushkey": "key", **about, "data": data}
    village.call("postPusher", pusher)
    (told,) = village.call("getPushers")["pushers"]
    assert {**told, **pusher} == told
    village.call("postPusher", {**pusher, "kind": None})
    assert village.call("getPushers") == {"pushers": []}


def test_notifications(village: Village) -> None:
    alice, bob = village.alice, village.bob
    room_id = alice.call("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"})["room_id"]
    bob.call("POST", f"/_matrix/client/v3/join/{quote(room_id)}", {})
    send = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/"
    said = {"msgtype": "m.text", "body": "Alice!", "m.mentions": {"user_ids": [alice.user_id]}}
    bob.call("PUT", f"{send}one", {"msgtype": "m.text", "body": "usual"})
    loud = bob.call("PUT", f"{send}two", said)["event_id"]
    newest = village.call("getNotifications", query={"limit": "1"})
    (told,) = newest["notifications"]
    assert (told["event"]["event_id"], told["read"], told["room_id"]) == (loud, False, room_id)
    assert {"set_tweak": "highlight"} in told["actions"]
    (usual,) = village.call("getNotifications", query={"limit": "1", "from": newest["next_token"]})["notifications"]
    assert (usual["event"]["content"]["body"], usual["actions"]) == (
        "usual",
        ["notify", {"set_tweak": "sound", "value": "default"}],
    )
    only = village.call("getNotifications", query={"only": "highlight"})["notifications"]
    assert loud in [one["event"]["event_id"] for one in only]
    assert all({"set_tweak": "highlight"} in one["actions"] for one in only)
    (section,) = [
        one for one in alice.call("GET", "/_matrix/client/v3/sync")["rooms"]["join"].items() if one[0] == room_id
    ]
    assert section[1]["unread_notifications"] == {"highlight_count": 1, "notification_count": 2}


def test_what_is_ones_own(village: Village) -> None:
    data = {"a": [1, {"b": None}]}
    village.call("setAccountData", data)
    assert village.call("getAccountData") == data
    village.call("setAccountDataPerRoom", data)
    assert village.call("getAccountDataPerRoom") == data
    village.call("setRoomTag", {"order": 0.25})
    village.call("setRoomTag", {}, at={"tag": "m.favourite"})
    assert village.call("getRoomTags") == {"tags": {"u.work": {"order": 0.25}, "m.favourite": {}}}
    village.call("deleteRoomTag", at={"tag": "m.favourite"})
    wanted = {"room": {"timeline": {"limit": 5, "types": ["m.room.*"]}}, "event_fields": ["type", "content"]}
    filter_id = village.call("defineFilter", wanted)["filter_id"]
    assert village.call("getFilter", at={"filterId": filter_id}) == wanted


def test_sync(village: Village) -> None:
    """With everything in it at once, and then what is new."""
    alice, bob = village.alice, village.bob
    invited = bob.create_room(preset="private_chat", name="Bob's", invite=[alice.user_id])
    left = bob.create_room(preset="public_chat", name="Boring")
    alice.join(left)
    knocked = bob.create_room(
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]
    )
    village.call("knockRoom", {}, at={"roomIdOrAlias": knocked})
    village.call("setTyping", {"typing": True, "timeout": 30_000}, who=bob, at={"userId": bob.user_id})
    village.call("postReceipt", {}, who=bob)
    village.call("setReadMarker", {"m.fully_read": village.values["eventId"], "m.read": village.values["eventId"]})
    village.call("setAccountData", {"mine": True})
    village.call("setRoomTag", {"order": 0.5})
    village.call("setPresence", {"presence": "unavailable", "status_msg": "out"}, who=bob, at={"userId": bob.user_id})
    first = village.call("sync")
    alice.call("POST", f"/_matrix/client/v3/rooms/{quote(left, safe='')}/leave", {})
    alice.say(village.values["roomId"], "and now?")
    second = village.call("sync", query={"since": first["next_batch"]})
    after = village.call("sync", query={"since": first["next_batch"], "use_state_after": "true"})
    leave = json.dumps({"room": {"include_leave": True, "state": {"lazy_load_members": True}}})
    lazy = village.call("sync", query={"full_state": "true", "filter": leave})

    here = first["rooms"]["join"][village.values["roomId"]]
    assert here["timeline"]["events"] and here["timeline"]["prev_batch"]
    assert {event["type"] for event in here["ephemeral"]["events"]} == {"m.typing", "m.receipt"}
    assert {event["type"] for event in here["account_data"]["events"]} >= {"m.fully_read", "m.tag"}
    assert here["summary"]["m.joined_member_count"] == 2
    assert first["rooms"]["invite"][invited]["invite_state"]["events"]
    assert first["rooms"]["knock"][knocked]["knock_state"]["events"]
    assert first["presence"]["events"] and first["account_data"]["events"]
    assert set(second["rooms"]["leave"]) == {left}
    assert [
        event["content"]["body"] for event in second["rooms"]["join"][village.values["roomId"]]["timeline"]["events"]
    ]
    assert "state_after" in after["rooms"]["join"][village.values["roomId"]]
    assert left in lazy["rooms"]["leave"]


def test_what_was_asked_for_before_sync(village: Village) -> None:
    alice, carol = village.alice, village.carol
    open_room = alice.create_room(
        preset="public_chat",
        initial_state=[{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}],
    )
    alice.say(open_room, "anybody there?")
    village.call("setRoomTag", {"order": 0.5})
    at = {"roomId": open_room}
    seen = village.call("roomInitialSync", who=carol, at=at)
    assert "membership" not in seen and seen["visibility"] == "private" and seen["state"]
    assert seen["messages"]["chunk"][-1]["content"]["body"] == "anybody there?"
    own = village.call("roomInitialSync")
    assert own["membership"] == "join" and own["visibility"] == "public"
    assert "m.tag" in {one["type"] for one in own["account_data"]}
    query: Query = {"room_id": open_room, "from": seen["messages"]["end"]}
    event_id = alice.say(open_room, "nobody")
    (peeked,) = village.call("peekEvents", query=query, who=carol)["chunk"]
    assert peeked["event_id"] == event_id

    invited = carol.create_room(invite=[alice.user_id])
    whole = village.call("initialSync", query={"limit": 3, "archived": "true"})
    rooms = {room["room_id"]: room for room in whole["rooms"]}
    assert rooms[invited]["membership"] == "invite" and rooms[invited]["invite"]["sender"] == carol.user_id
    assert rooms[open_room]["messages"]["chunk"][-1]["event_id"] == event_id and rooms[open_room]["state"]
    assert {"join", "invite", "leave"} >= {room["membership"] for room in whole["rooms"]}
    last = alice.say(open_room, "well then")
    told = village.call("getEvents", query={"from": whole["end"], "timeout": 0})["chunk"]
    assert [(one["event_id"], one["room_id"]) for one in told] == [(last, open_room)]
    assert village.call("getOneEvent", at={"eventId": last})["content"]["body"] == "well then"


def test_keys(village: Village) -> None:
    alice, bob = village.alice, village.bob
    since = village.call("sync")["next_batch"]
    device, laptop = Device(bob), Device(village.server.log_in(bob, PASSWORD))
    one_time = {f"signed_curve25519:{name}": device.key(name) for name in ("a", "b")}
    fallback = {"signed_curve25519:f": {**device.key("f"), "fallback": True}}
    upload = {"device_keys": device.keys, "one_time_keys": one_time, "fallback_keys": fallback}
    assert village.call("uploadKeys", upload, who=bob)["one_time_key_counts"] == {"signed_curve25519": 2}
    village.call("uploadKeys", {"device_keys": laptop.keys}, who=laptop.who)
    identity = Identity(bob.user_id)
    village.call("uploadCrossSigningKeys", identity.body(), who=bob)
    village.call("uploadCrossSigningKeys", {**Identity(bob.user_id).body(), "auth": auth(bob)}, who=bob)
    village.call("uploadCrossSigningKeys", {**identity.body(), "auth": auth(bob)}, who=bob)
    name = f"ed25519:{public(identity.self_signing)}"
    signatures = {bob.device_id: signed(device.keys, bob.user_id, name, identity.self_signing), "GONE": {}}
    failures = village.call("uploadCrossSigningSignatures", {bob.user_id: signatures}, who=bob)["failures"]
    assert failures[bob.user_id].keys() == {"GONE"}

    asked = village.call("queryKeys", {"device_keys": {bob.user_id: [], alice.user_id: []}, "timeout": 1000})
    assert set(asked["device_keys"][bob.user_id]) == {bob.device_id, laptop.who.device_id}
    assert len(asked["device_keys"][bob.user_id][bob.device_id]["signatures"][bob.user_id]) == 2
    assert asked["master_keys"].keys() == asked["self_signing_keys"].keys() == {bob.user_id}
    assert not asked["user_signing_keys"]
    own = village.call("queryKeys", {"device_keys": {bob.user_id: [laptop.who.device_id]}}, who=bob)
    assert own["user_signing_keys"] and own["device_keys"][bob.user_id].keys() == {laptop.who.device_id}
    wanted = {"one_time_keys": {bob.user_id: {bob.device_id: "signed_curve25519"}}}
    claimed = [village.call("claimKeys", wanted)["one_time_keys"][bob.user_id][bob.device_id] for _ in range(3)]
    assert [set(keys) for keys in claimed[2:]] == [set(fallback)]
    changes = village.call("getKeysChanges", query={"from": since, "to": village.call("sync")["next_batch"]})
    assert changes == {"changed": [bob.user_id], "left": []}
    answer = village.call("sync", query={"since": since})
    assert answer["device_lists"] == {"changed": [bob.user_id], "left": []}
    theirs = village.call("sync", who=bob)
    assert theirs["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert theirs["device_unused_fallback_key_types"] == []


def test_messages_to_devices(village: Village) -> None:
    since = village.call("sync", who=village.bob)["next_batch"]
    messages = {village.bob.user_id: {"*": {"requesting_device_id": "x", "request_id": "1", "action": "request"}}}
    village.call("sendToDevice", {"messages": messages}, at={"eventType": "m.room_key_request", "txnId": txn()})
    (event,) = village.call("sync", who=village.bob, query={"since": since})["to_device"]["events"]
    assert event["sender"] == village.alice.user_id


def test_backups_of_keys(village: Village) -> None:
    made = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "abcdefg"}}
    version = village.call("postRoomKeysVersion", made)["version"]
    assert village.call("getRoomKeysVersionCurrent")["version"] == version
    at, query = {"version": version}, {"version": version}
    village.call("putRoomKeysVersion", {**made, "auth_data": {"public_key": "hijk"}, "version": version}, at=at)
    assert village.call("getRoomKeysVersion", at=at)["auth_data"] == {"public_key": "hijk"}
    key = {"first_message_index": 1, "forwarded_count": 0, "is_verified": True, "session_data": {"ciphertext": "x"}}
    session = {"sessionId": "session"}
    room_id = village.values["roomId"]
    assert village.call("putRoomKeyBySessionId", key, query, at=session)["count"] == 1
    assert village.call("putRoomKeysByRoomId", {"sessions": {"second": key}}, query)["count"] == 2
    assert village.call("putRoomKeys", {"rooms": {room_id: {"sessions": {"third": key}}}}, query)["count"] == 3
    assert village.call("getRoomKeyBySessionId", query=query, at=session) == key
    assert set(village.call("getRoomKeysByRoomId", query=query)["sessions"]) == {"session", "second", "third"}
    assert len(village.call("getRoomKeys", query=query)["rooms"][room_id]["sessions"]) == 3
    assert village.call("deleteRoomKeyBySessionId", query=query, at=session)["count"] == 2
    assert village.call("deleteRoomKeysByRoomId", query=query)["count"] == 0
    assert village.call("deleteRoomKeys", query=query)["count"] == 0
    village.call("deleteRoomKeysVersion", at=at)


def test_files(village: Village) -> None:
    data = picture("PNG", 64, 48)
    kind = {"Content-Type": "image/png"}
    uploaded = village.fetch("uploadContent", data, {"filename": "a b.png"}, at={}, headers=kind).json["content_uri"]
    created = village.call("createContent", {})
    assert created["unused_expires_at"] > 0
    place = dict(zip(("serverName", "mediaId"), created["content_uri"].removeprefix("mxc://").split("/"), strict=True))
    village.fetch("uploadContentToMXC", data, {"filename": "a b.png"}, at=place, headers=kind)
    for uri in (uploaded, created["content_uri"]):
        at = dict(zip(("serverName", "mediaId"), uri.removeprefix("mxc://").split("/"), strict=True))
        named = {**at, "fileName": "c.png"}
        small: Query = {"width": 32, "height": 32, "method": "crop"}
        for answer, name, length in (
            (village.fetch("getContentAuthed", at=at), "a b.png", len(data)),
            (village.fetch("getContentOverrideNameAuthed", at=named), "c.png", len(data)),
            (village.fetch("getContentThumbnailAuthed", None, small, at=at), "thumbnail.png", None),
            (village.fetch("getContentOverrideName", at=named), "c.png", len(data)),
        ):
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["Content-Disposition"] == f'inline; filename="{name}"'
            assert length is None or answer.body == data
    # One id stands for two operations in the specification: of clients, and of servers.
    assert BY_ID["getContent"].deprecated and BY_ID["getContentThumbnail"].deprecated
    assert village.fetch("getContent", at=at).body == data
    assert opened(village.fetch("getContentThumbnail", None, small, at=at).body).size == (32, 32)
    for config in (village.call("getConfigAuthed"), village.call("getConfig")):
        assert config == {"m.upload.size": 50 * 1024 * 1024}


def test_previews(village: Village) -> None:
    with running_site() as site:
        site.put("/p.png", picture("PNG", 64, 48), "image/png")
        page = """<meta property="og:title" content="A page"><meta property="og:image" content="/p.png">"""
        for found in (
            village.call("getUrlPreviewAuthed", query={"url": site.put("/1", page)}),
            village.call("getUrlPreview", query={"url": site.put("/2", page), "ts": 1510610716656}),
        ):
            assert found["og:title"] == "A page"
            assert found["og:image"].startswith("mxc://localhost/")
            assert (found["og:image:width"], found["og:image:height"]) == (64, 48)
            assert found["matrix:image:size"] == len(picture("PNG", 64, 48))


def test_every_operation_is_called() -> None:
    """Whoever adds an operation adds its call above."""
    source = Path(__file__).read_text("utf-8")
    called = {*REFUSED, *re.findall(r'village\.(?:call|fetch)\(\s*"(\w+)"', source)}
    assert {operation.id for operation in SERVED} == called
