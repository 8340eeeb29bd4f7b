"""What /sync tells of profiles: the fields that a client asks for, of those whom its user shares a room with."""

from __future__ import annotations

from typing import Any

from homeserver.client.sliding.shapes import PROFILES
from homeserver.sync.filters import PROFILE_FIELDS
from homeserver.sync.profiles import USERS
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.profiles import Profiles
from tests.fixtures_house import QUIET, LivedInHouse
from tests.fixtures_server import ServerProcess
from tests.sync.sliding.slider import Slider
from tests.sync.sliding.slider import rooms as rooms_asked

LISTS = {"lists": {"all": rooms_asked()}}
STATUS, TZ = "org.matrix.msc4426.status", "m.tz"


def wanting(*fields: str) -> dict[str, Any]:
    return {PROFILE_FIELDS: {"ids": list(fields)}}


def put(house: LivedInHouse, name: str, key: str, value: Any) -> None:
    house.wait(house.house.part(Profiles).set_field(house.user(name), key, value))


class Watcher:
    """Somebody who syncs and is told of profiles."""

    def __init__(self, house: LivedInHouse, name: str, *fields: str) -> None:
        self.house, self.name, self.filter = house, name, wanting(*fields)
        self.since: str | None = None

    def told(self) -> dict[str, Any]:
        """Since the last time, by the local parts of whose it is."""
        answer = self.house.sync(self.name, self.since, filter=self.filter)
        self.since = answer["next_batch"]
        return {user_id[1:].partition(":")[0]: one["profile_updates"] for user_id, one in answer.get(USERS, {}).items()}


def test_changes_of_those_in_ones_rooms(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    other = house.create("mallory", preset="public_chat")
    put(house, "bob", STATUS, {"text": "busy"})
    put(house, "bob", TZ, "Europe/Berlin")
    put(house, "mallory", STATUS, {"text": "somewhere else"})
    put(house, "alice", STATUS, {"text": "here"})
    plain = house.sync("alice")
    assert USERS not in plain
    alice = Watcher(house, "alice", STATUS, STATUS, "no\0field")
    assert alice.told() == {"alice": {STATUS: {"text": "here"}}, "bob": {STATUS: {"text": "busy"}}}
    assert alice.told() == {}

    # Only the last value of several, also for who has been away for so long that nothing of it is in memory.
    for text in ("first", "second"):
        put(house, "bob", STATUS, {"text": text})
    put(house, "bob", TZ, "UTC")
    put(house, "mallory", STATUS, {"text": "still somewhere else"})
    feed = house.house.hub.feed(house.user("alice"))
    assert feed is not None
    before, since = alice.since, plain["next_batch"]
    assert alice.told() == {"bob": {STATUS: {"text": "second"}}}
    house.house.hub.close_feed(feed)
    alice.since = before
    assert alice.told() == {"bob": {STATUS: {"text": "second"}}}
    assert set(house.sync("alice", since)) == QUIET

    # A field is removed: null. One that is not there is no news; neither is a value that is refused.
    profiles = house.house.part(Profiles)
    for _ in range(2):
        house.wait(profiles.delete_field(house.user("bob"), STATUS))
        assert alice.told() == ({"bob": {STATUS: None}} if not _ else {})

    # Who comes brings their fields along, who goes takes them away, unless there is another room.
    house.join("mallory", room_id)
    assert alice.told() == {"mallory": {STATUS: {"text": "still somewhere else"}}}
    house.join("alice", other)
    house.leave("mallory", room_id)
    alice.told()
    put(house, "mallory", STATUS, {"text": "in the other room"})
    assert alice.told() == {"mallory": {STATUS: {"text": "in the other room"}}}
    house.leave("mallory", other)
    assert alice.told() == {"mallory": None}
    house.leave("alice", room_id)
    assert alice.told() == {"bob": None}

    # Whom one ignores is not heard of here either.
    house.join("alice", room_id)
    ignored: dict[str, Any] = {"ignored_users": {house.user("bob"): {}}}
    house.wait(house.house.part(AccountData).put(house.user("alice"), GLOBAL, "m.ignored_user_list", ignored))
    alice.told()
    put(house, "bob", STATUS, {"text": "to nobody"})
    assert alice.told() == {}


def test_sliding_sync(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    put(house, "bob", STATUS, "busy")
    put(house, "bob", TZ, "UTC")
    put(house, "alice", STATUS, "here")
    alice = Slider(house, "alice", {"extensions": {PROFILES: {"enabled": True, "fields": [STATUS]}}, **LISTS})
    ann, bob = house.user("alice"), house.user("bob")
    assert alice.extension(PROFILES) == {
        "users": {ann: {"updated": {STATUS: "here"}}, bob: {"updated": {STATUS: "busy"}}}
    }
    assert alice.extension(PROFILES) is None
    house.wait(house.house.part(Profiles).delete_field(bob, STATUS))
    assert alice.extension(PROFILES) == {"users": {bob: {"removed": [STATUS]}}}
    everything = {"extensions": {PROFILES: {"enabled": True}}}
    assert alice.extension(PROFILES, **everything)["users"][bob] == {"updated": {TZ: "UTC"}}
    assert alice.extension(PROFILES, **everything) is None
    house.leave("bob", room_id)
    assert alice.extension(PROFILES) == {"users": {bob: None}}
    house.join("bob", room_id)
    assert alice.extension(PROFILES) == {"users": {bob: {"updated": {TZ: "UTC"}}}}


def test_a_poll_is_woken(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    alice = Watcher(house, "alice", STATUS)
    alice.told()
    poll = house.start_sync("alice", alice.since, timeout_ms=30_000, filter=alice.filter)
    put(house, "bob", STATUS, "x")
    house.advance(0)
    assert house.user("bob") in str(house.wait(poll))


def test_over_http(shared_server: ServerProcess) -> None:
    ann, ben = shared_server.register("ann_and_profiles"), shared_server.register("ben_and_profiles")
    versions = shared_server.request("GET", "/_matrix/client/versions").json
    assert versions["unstable_features"]["org.matrix.msc4429"]
    software = shared_server.request("GET", "/_matrix/federation/v1/version").json["server"]
    assert versions["unstable_features"]["net.zemos.msc4383"] and versions["net.zemos.msc4383.server"] == software
    room_id = ann.create_room(preset="public_chat")
    ben.call("POST", f"/_matrix/client/v3/join/{room_id}", {})
    kept = ann.call("POST", f"/_matrix/client/v3/user/{ann.user_id}/filter", wanting(STATUS))["filter_id"]
    ben.call("PUT", f"/_matrix/client/v3/profile/{ben.user_id}/{STATUS}", {STATUS: {"text": "busy"}})
    answer = ann.call("GET", "/_matrix/client/v3/sync", query={"filter": kept})
    assert answer[USERS] == {ben.user_id: {"profile_updates": {STATUS: {"text": "busy"}}}}
    wrong = ann.request("GET", "/_matrix/client/v3/sync", query={"filter": f'{{"{PROFILE_FIELDS}":{{"ids":[1]}}}}'})
    assert (wrong.status, wrong.json["errcode"]) == (400, "M_BAD_JSON")
