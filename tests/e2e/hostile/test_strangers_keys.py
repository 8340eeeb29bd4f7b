"""Somebody tries to read, change or take what belongs to another's encryption: devices, keys, backups, messages.

Public keys are public; everything else is for its owner.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from attrs import define, field
from nacl.signing import SigningKey

from tests.e2e.hostile.line import Line, describe, flaws, segment
from tests.encryption.village import Identity, public, signed
from tests.fixtures_server import Answer, Person, ServerProcess

V3 = "/_matrix/client/v3"
ASLEEP = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
KEY_PATHS = ("", "/!r:localhost", "/!r:localhost/s")
KEY = {"first_message_index": 0, "forwarded_count": 0, "is_verified": True}


@define
class Owner:
    """Somebody with everything that encryption can have."""

    person: Person
    device_key: SigningKey
    identity: Identity
    backup: str
    words: str
    keys: dict[str, Any] = field(factory=dict)

    @classmethod
    def settle(cls, server: ServerProcess) -> Owner:
        person = server.register(f"owner{secrets.token_hex(4)}")
        owner = cls(person, SigningKey.generate(), Identity(person.user_id), "", f"words-{secrets.token_hex(8)}")
        person.call("POST", f"{V3}/keys/upload", {"device_keys": owner.device_keys})
        person.call("POST", f"{V3}/keys/device_signing/upload", owner.identity.body())
        made = {"algorithm": "m.megolm_backup.v1", "auth_data": {"words": owner.words}}
        owner.backup = person.call("POST", f"{V3}/room_keys/version", made)["version"]
        key = {**KEY, "session_data": {"words": owner.words}}
        room = segment("!r:localhost")
        person.call("PUT", f"{V3}/room_keys/keys/{room}/s?version={owner.backup}", key)
        asleep = {
            "device_id": "ASLEEP",
            "device_data": {"algorithm": "x", "words": owner.words},
            "device_keys": {**owner.device_keys, "device_id": "ASLEEP"},
        }
        person.call("PUT", ASLEEP, asleep)
        owner.send("ASLEEP")
        owner.send(person.device_id)
        return owner

    @property
    def device_keys(self) -> dict[str, Any]:
        name = f"ed25519:{self.person.device_id}"
        value = {
            "user_id": self.person.user_id,
            "device_id": self.person.device_id,
            "algorithms": [],
            "keys": {name: public(self.device_key)},
        }
        return signed(value, self.person.user_id, name, self.device_key)

    def send(self, device_id: str) -> None:
        messages = {self.person.user_id: {device_id: {"words": self.words}}}
        self.person.call("PUT", f"{V3}/sendToDevice/m.secret/{secrets.token_hex(4)}", {"messages": messages})

    def everything(self) -> Any:
        """All that the owner has, as the owner sees it."""
        asked: dict[str, Any] = {"device_keys": {self.person.user_id: []}}
        return [
            self.person.call("POST", f"{V3}/keys/query", asked),
            self.person.call("GET", f"{V3}/room_keys/version"),
            self.person.call("GET", f"{V3}/room_keys/keys?version={self.backup}"),
            self.person.call("GET", ASLEEP),
            self.person.call("POST", f"{ASLEEP}/ASLEEP/events", {}),
            self.person.call("GET", f"{V3}/devices")["devices"].__len__(),
        ]


@pytest.fixture
def owner(besieged: ServerProcess) -> Owner:
    return Owner.settle(besieged)


@pytest.fixture
def stranger(besieged: ServerProcess) -> Person:
    return besieged.register(f"stranger{secrets.token_hex(4)}")


def attempts(owner: Owner, stranger: Person) -> list[tuple[str, str, Any]]:
    """What a stranger may try: method, target, body."""
    user_id, device_id, version = owner.person.user_id, owner.person.device_id, owner.backup
    fake = Identity(user_id)
    by_self = f"ed25519:{public(fake.self_signing)}"
    forged = signed(owner.device_keys, user_id, by_self, fake.self_signing)
    claimed = signed(owner.device_keys, stranger.user_id, by_self, fake.self_signing)
    return [
        ("GET", f"{V3}/devices/{device_id}", None),
        ("PUT", f"{V3}/devices/{device_id}", {"display_name": "mine"}),
        ("DELETE", f"{V3}/devices/{device_id}", {}),
        ("POST", f"{V3}/delete_devices", {"devices": [device_id]}),
        ("POST", f"{V3}/keys/upload", {"device_keys": owner.device_keys}),
        ("POST", f"{V3}/keys/upload", {"device_keys": {**owner.device_keys, "user_id": stranger.user_id}}),
        ("POST", f"{V3}/keys/device_signing/upload", fake.body()),
        ("POST", f"{V3}/keys/device_signing/upload", owner.identity.body()),
        ("POST", f"{V3}/keys/signatures/upload", {user_id: {device_id: forged}}),
        ("POST", f"{V3}/keys/signatures/upload", {user_id: {device_id: claimed}}),
        ("POST", f"{V3}/keys/signatures/upload", {stranger.user_id: {device_id: claimed}}),
        ("POST", f"{V3}/keys/query", {"device_keys": {user_id: []}}),
        ("GET", f"{V3}/room_keys/version", None),
        ("GET", f"{V3}/room_keys/version/{version}", None),
        ("PUT", f"{V3}/room_keys/version/{version}", {"algorithm": "m.megolm_backup.v1", "auth_data": {}}),
        ("DELETE", f"{V3}/room_keys/version/{version}", {}),
        *(("GET", f"{V3}/room_keys/keys{path}?version={version}", None) for path in KEY_PATHS),
        *(("DELETE", f"{V3}/room_keys/keys{path}?version={version}", {}) for path in KEY_PATHS),
        ("PUT", f"{V3}/room_keys/keys/!r:localhost/s?version={version}", {**KEY, "session_data": {}}),
        ("GET", ASLEEP, None),
        ("DELETE", ASLEEP, {}),
        ("POST", f"{ASLEEP}/ASLEEP/events", {}),
        ("GET", f"{V3}/sync", None),
        ("GET", f"{V3}/keys/changes?from=s1_0_0&to=s1_99999_0", None),
    ]  # fmt: skip


def test_nothing_is_read_and_nothing_is_changed(
    besieged: ServerProcess, line: Line, owner: Owner, stranger: Person
) -> None:
    before = owner.everything()
    wrong = []
    answers: dict[str, Answer] = {}
    for method, target, body in attempts(owner, stranger):
        answer = answers[f"{method} {target}"] = line.ask(method, target, body, token=stranger.token)
        wrong += [describe((method, target), answer, flaw) for flaw in flaws(answer)]
        if owner.words in answer.body.decode():
            wrong.append(describe((method, target), answer, "the words leaked"))
        if public(owner.identity.user_signing) in answer.body.decode():
            wrong.append(describe((method, target), answer, "the user-signing key leaked"))
    assert not wrong, "\n".join(wrong)
    assert owner.everything() == before
    assert answers[f"GET {V3}/keys/changes?from=s1_0_0&to=s1_99999_0"].json == {"changed": [], "left": []}
    first = owner.person.sync()["to_device"]["events"]
    assert [event["content"]["words"] for event in first] == [owner.words]


def test_whoever_has_no_token_gets_nothing(line: Line, owner: Owner, stranger: Person) -> None:
    for method, target, body in attempts(owner, stranger):
        answer = line.ask(method, target, body)
        assert (answer.status, answer.json["errcode"]) == (401, "M_MISSING_TOKEN"), target


def test_a_stolen_token_does_not_change_who_somebody_is(besieged: ServerProcess, line: Line, owner: Owner) -> None:
    """Other keys take the password; the same ones again do not."""
    target = f"{V3}/keys/device_signing/upload"
    answer = line.ask("POST", target, Identity(owner.person.user_id).body(), token=owner.person.token)
    assert answer.status == 401 and answer.json["flows"] and "errcode" not in answer.json
    assert line.ask("POST", target, owner.identity.body(), token=owner.person.token).status == 200


ODD: list[Any] = [None, True, 0, 1.5, 2**70, "", "x", "\0", [], [None], {}, {"a": None}, {"\0": "\0"}, "x" * 70_000]


def spoiled(value: Any, depth: int = 4) -> list[Any]:
    """A value with one thing in it replaced by something odd, at every place."""
    found = list(ODD)
    if depth and isinstance(value, dict):
        for name, inner in value.items():
            found += [{**value, name: other} for other in spoiled(inner, depth - 1)]
            found += [
                {**{one: value[one] for one in value if one != name}, odd: inner} for odd in ("", "\0", "x" * 300)
            ]
    return found


def test_odd_keys(besieged: ServerProcess, line: Line, owner: Owner) -> None:
    """Each place in each body, spoiled: an error that says why, or what was taken can be read again."""
    person, device_keys = owner.person, owner.device_keys
    key = signed({"key": "x"}, person.user_id, f"ed25519:{person.device_id}", owner.device_key)
    backed_up = {"!a:b": {"sessions": {"s": {**KEY, "session_data": {}}}}}
    asleep = {"device_id": "A", "device_data": {"algorithm": "x"}, "device_keys": {**device_keys, "device_id": "A"}}
    bodies: list[tuple[str, str, Any]] = [
        ("POST", f"{V3}/keys/upload", {"device_keys": device_keys}),
        ("POST", f"{V3}/keys/upload", {"one_time_keys": {"a:b": key}, "fallback_keys": {"a:b": key}}),
        ("POST", f"{V3}/keys/query", {"device_keys": {person.user_id: [person.device_id]}}),
        ("POST", f"{V3}/keys/claim", {"one_time_keys": {person.user_id: {person.device_id: "a"}}}),
        ("POST", f"{V3}/keys/device_signing/upload", owner.identity.body("master")),
        ("POST", f"{V3}/keys/signatures/upload", {person.user_id: {person.device_id: device_keys}}),
        ("PUT", f"{V3}/sendToDevice/x/TXN", {"messages": {person.user_id: {person.device_id: {"a": "b"}}}}),
        ("PUT", f"{V3}/room_keys/keys?version=1", {"rooms": backed_up}),
        ("PUT", ASLEEP, asleep),
    ]  # fmt: skip
    wrong = []
    for method, target, good in bodies:
        for body in spoiled(good):
            at = target.replace("TXN", secrets.token_hex(4))
            answer = line.ask(method, at, json.dumps(body).encode(), token=person.token)
            wrong += [describe((method, at, str(body)[:200]), answer, flaw) for flaw in line.flaws(answer)]
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong[:20])
    assert person.call("POST", f"{V3}/keys/query", {"device_keys": {person.user_id: []}})["master_keys"]
    assert person.call("GET", f"{V3}/room_keys/keys?version=1") and person.call("GET", ASLEEP)
    assert person.sync()["to_device"]["events"]
