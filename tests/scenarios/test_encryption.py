"""Devices, their keys and what they write to each other, over two servers, each in every role. The ed25519 keys are
real, and sign as clients do it; what it takes to encrypt is between clients, and of no concern to servers.
"""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

from attrs import define, field
from nacl.signing import SigningKey

from homeserver.harness.client import until
from homeserver.harness.person import V3, Person
from homeserver.harness.server import Server
from tests.encryption.village import Identity, public, signed
from tests.fixtures_town import Cast, scenario, wait_for_members

OTK = "signed_curve25519"


@define(eq=False)
class Device:
    """Somebody on one device, which keeps what `/sync` tells of devices."""

    person: Person
    key: SigningKey = field(factory=SigningKey.generate)
    changed: set[str] = field(factory=set)
    left: set[str] = field(factory=set)
    letters: list[Any] = field(factory=list)

    @property
    def user_id(self) -> str:
        return self.person.user_id

    @property
    def name(self) -> str:
        return self.person.device_id

    def signed(self, value: dict[str, Any]) -> dict[str, Any]:
        return signed(value, self.user_id, f"ed25519:{self.name}", self.key)

    def keys(self) -> dict[str, Any]:
        """What it is known by."""
        keys = {f"ed25519:{self.name}": public(self.key), f"curve25519:{self.name}": public(self.key)}
        algorithms = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]
        return self.signed({"user_id": self.user_id, "device_id": self.name, "algorithms": algorithms, "keys": keys})

    def upload(self, one_time: int = 0) -> set[str]:
        """Its keys, so many one-time keys and a fallback key; the one-time keys' values."""

        def fresh(**more: object) -> dict[str, Any]:
            return self.signed({"key": public(SigningKey.generate()), **more})

        keys = {f"{OTK}:{number}": fresh() for number in range(one_time)}
        fallback = {f"{OTK}:fallback": fresh(fallback=True)}
        body = {"device_keys": self.keys(), "one_time_keys": keys, "fallback_keys": fallback}
        self.person.call("POST", f"{V3}/keys/upload", body)
        return {key["key"] for key in keys.values()}

    def query(self, other: Device) -> Any:
        """All that is to be known of somebody: `device_keys` (of theirs), `master_keys` …"""
        found = self.person.call("POST", f"{V3}/keys/query", {"device_keys": {other.user_id: []}})
        return {kind: of[other.user_id] for kind, of in found.items() if kind != "failures" and other.user_id in of}

    def devices_of(self, other: Device) -> dict[str, Any]:
        """Device id → keys as they were signed, without what servers add."""
        found = self.query(other).get("device_keys", {})
        return {name: {part: keys[part] for part in keys if part != "unsigned"} for name, keys in found.items()}

    def claim(self, other: Device) -> tuple[str, str]:
        """One key of a device: its id and value."""
        body = {"one_time_keys": {other.user_id: {other.name: OTK}}}
        found = self.person.call("POST", f"{V3}/keys/claim", body)["one_time_keys"]
        ((key_id, key),) = found[other.user_id][other.name].items()
        assert other.signed({part: key[part] for part in key if part != "signatures"}) == key
        return key_id, key["key"]

    def write(self, to: Device, device_id: str, *numbers: int) -> None:
        """Letters with these numbers to one device, or to all of them (`*`)."""
        for number in numbers:
            path = f"{V3}/sendToDevice/org.example.letter/{secrets.token_hex(8)}"
            self.person.call("PUT", path, {"messages": {to.user_id: {device_id: {"number": number}}}})

    def look(self) -> Device:
        """Sync, and keep what is told."""
        news = self.person.news()
        lists = news.get("device_lists", {})
        self.changed |= set(lists.get("changed", ()))
        self.left |= set(lists.get("left", ()))
        self.letters += news.get("to_device", {}).get("events", ())
        return self

    def hears_of(self, other: Device) -> None:
        """Until it is told that somebody's devices changed; from then on it waits for the next change."""
        until(lambda: other.user_id in self.look().changed)
        self.changed.clear()


def enter(cast: Cast, name: str, server: Server, one_time: int = 0) -> Device:
    device = Device(cast.person(name, server))
    device.upload(one_time)
    return device


def another(device: Device) -> Device:
    return Device(device.person.server.log_in(device.person))


def together(cast: Cast, host: Device, guest: Device) -> str:
    encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room_id = cast.room(host.person, preset="public_chat", initial_state=[encryption])
    guest.person.join(room_id, via=[host.person.server])
    wait_for_members(room_id, host.person, guest.person)
    return room_id


@scenario("host", "guest")
def test_devices_come_and_go(cast: Cast) -> None:
    """Each side sees the other's devices, is told of one more and of one that is gone, and that it need not look on."""
    host, guest = cast
    alice, bob = enter(cast, "alice", host), enter(cast, "bob", guest)
    for one in (alice, bob):
        one.look()
    room_id = together(cast, alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        one.hears_of(other)
        assert one.devices_of(other) == {other.name: other.keys()}
    for one, other in ((alice, bob), (bob, alice)):
        one.look().changed.clear()
        phone = another(other)
        phone.upload()
        until(lambda: one.devices_of(other), {each.name: each.keys() for each in (other, phone)})  # noqa: B023
        one.hears_of(other)
        phone.person.call("POST", f"{V3}/logout", {})
        one.hears_of(other)
        until(lambda: one.devices_of(other), {other.name: other.keys()})  # noqa: B023
    bob.person.leave(room_id)
    if guest.make == "ours":  # Synapse says it only to those who stay
        until(lambda: alice.user_id in bob.look().left)
    until(lambda: bob.user_id in alice.look().left)


@scenario("host", "guest")
def test_keys_are_given_once_and_letters_arrive_once(cast: Cast) -> None:
    host, guest = cast
    alice, bob = Device(cast.person("alice", host)), Device(cast.person("bob", guest))
    phones: dict[str, Device] = {}
    for one, other in ((alice, bob), (bob, alice)):
        keys = other.upload(one_time=2)
        claimed = [one.claim(other) for _ in range(4)]
        assert {value for _, value in claimed[:2]} == keys
        assert claimed[2] == claimed[3] and claimed[2][0] == f"{OTK}:fallback"
        phones[other.user_id] = another(other)
    for one, other in ((alice, bob), (bob, alice)):
        phone = phones[other.user_id]
        one.write(other, other.name, *range(3))
        one.write(other, "*", 3)
        one.write(other, "NOBODY", 4)
        one.write(other, phone.name, 5)
        until(lambda: len(phone.look().letters) >= 2)  # noqa: B023
        until(lambda: len(other.look().letters) >= 4)  # noqa: B023
        for device, numbers in ((other, [0, 1, 2, 3]), (phone, [3, 5])):
            assert [letter["content"]["number"] for letter in device.look().letters] == numbers
            assert Counter(letter["sender"] for letter in device.letters) == {one.user_id: len(numbers)}


@scenario("host", "guest")
def test_identities_and_what_they_sign(cast: Cast) -> None:
    """A device is signed by its owner's key, which others see; whom one has verified nobody else is told."""
    host, guest = cast
    alice, bob = enter(cast, "alice", host), enter(cast, "bob", guest)
    together(cast, alice, bob)
    who = {device.user_id: Identity(device.user_id) for device in (alice, bob)}
    for device in (alice, bob):
        identity = who[device.user_id]
        device.person.call("POST", f"{V3}/keys/device_signing/upload", identity.body())
        name = f"ed25519:{public(identity.self_signing)}"
        cross_signed = signed(device.keys(), device.user_id, name, identity.self_signing)
        sent = {device.user_id: {device.name: cross_signed}}
        assert device.person.call("POST", f"{V3}/keys/signatures/upload", sent)["failures"] == {}
    for one, other in ((alice, bob), (bob, alice)):
        identity = who[other.user_id]
        name = f"ed25519:{public(identity.self_signing)}"
        until(lambda: name in one.devices_of(other)[other.name]["signatures"][other.user_id])  # noqa: B023
        found = one.query(other)
        assert found["master_keys"]["keys"] == identity.key("master")["keys"]
        assert found["self_signing_keys"] == identity.key("self_signing")
        assert "user_signing_keys" not in found
        mine = who[one.user_id]
        master = {part: value for part, value in found["master_keys"].items() if part != "unsigned"}
        verified = signed(master, one.user_id, f"ed25519:{public(mine.user_signing)}", mine.user_signing)
        sent = {other.user_id: {public(identity.master): verified}}
        assert one.person.call("POST", f"{V3}/keys/signatures/upload", sent)["failures"] == {}
        assert one.user_id in one.query(other)["master_keys"]["signatures"]
        assert one.user_id not in other.query(other)["master_keys"].get("signatures", {})
