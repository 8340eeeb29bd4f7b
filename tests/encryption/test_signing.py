"""Cross-signing: which keys and signatures are taken, and who sees what of them."""

from __future__ import annotations

from typing import Any

import pytest
from nacl.signing import SigningKey

from homeserver.encryption.signing import CrossSigning, check_signing_keys
from homeserver.errors import MatrixError
from tests.encryption.village import Identity, Villager, public, signed
from tests.fixtures_house import LivedInHouse


def enter(house: LivedInHouse, name: str) -> Villager:
    """Somebody with a device that has keys."""
    villager = Villager.enter(house, name)
    villager.upload()
    return villager


def put(villager: Villager, body: dict[str, Any]) -> None:
    upload = check_signing_keys(villager.user_id, body)
    villager.house.wait(villager.house.house.part(CrossSigning).put_keys(villager.user_id, upload))


def needs_owner(villager: Villager, body: dict[str, Any]) -> bool:
    upload = check_signing_keys(villager.user_id, body)
    return villager.house.wait(villager.house.house.part(CrossSigning).needs_owner(villager.user_id, upload))


def sign_device(villager: Villager, identity: Identity, by: SigningKey | None = None) -> dict[str, Any]:
    key = by or identity.self_signing
    return signed(villager.device_keys, villager.user_id, f"ed25519:{public(key)}", key)


def test_keys_are_seen_by_those_whom_they_concern(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice"), enter(house, "bob")
    identity = alice.sign_in_public()
    seen = bob.query(alice.user_id)
    assert seen["master_keys"] == {alice.user_id: identity.key("master")}
    assert seen["self_signing_keys"] == {alice.user_id: identity.key("self_signing")}
    assert seen["user_signing_keys"] == {}
    assert alice.query(alice.user_id)["user_signing_keys"] == {alice.user_id: identity.key("user_signing")}


def test_only_the_first_keys_and_the_same_again_need_no_proof(house: LivedInHouse) -> None:
    alice = enter(house, "alice")
    identity = Identity(alice.user_id)
    assert not needs_owner(alice, identity.body("master"))
    put(alice, identity.body("master"))
    assert not needs_owner(alice, identity.body("master"))
    assert needs_owner(alice, identity.body("self_signing")), "it adds a key"
    assert needs_owner(alice, Identity(alice.user_id).body())
    put(alice, identity.body())
    assert not needs_owner(alice, identity.body())
    assert not needs_owner(alice, identity.body("self_signing"))
    changed = Identity(alice.user_id, identity.master)
    assert needs_owner(alice, changed.body()), "the self-signing key is another one"


def test_a_key_that_the_master_key_did_not_sign_is_refused(house: LivedInHouse) -> None:
    alice = enter(house, "alice")
    identity, other = Identity(alice.user_id), Identity(alice.user_id)
    with pytest.raises(MatrixError) as caught:
        put(alice, {**identity.body("master"), **other.body("self_signing")})
    assert (caught.value.status, caught.value.errcode) == (400, "M_INVALID_SIGNATURE")
    with pytest.raises(MatrixError) as caught:
        put(alice, identity.body("self_signing"))
    assert (caught.value.status, caught.value.errcode) == (400, "M_MISSING_PARAM")
    assert alice.query(alice.user_id)["master_keys"] == {}, "nothing of a bad upload is kept"
    put(alice, identity.body("master"))
    put(alice, identity.body("user_signing"))  # signed by the one that is there


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: {**key, "user_id": "@bob:test.example"},
        lambda key: {**key, "usage": ["self_signing"]},
        lambda key: {**key, "keys": {}},
        lambda key: {**key, "keys": {**key["keys"], "ed25519:x": "x"}},
        lambda key: {**key, "keys": {"ed25519:x": "x"}},
        lambda key: {**key, "keys": {"ed25519:x": next(iter(key["keys"].values()))}},
        lambda key: {**key, "keys": "x"},
        lambda key: {**key, "more": 1.5},
        lambda key: {**key, "more": "x" * 9000},
        lambda key: {name: key[name] for name in key if name != "usage"},
    ],
)
def test_what_is_no_key_is_refused(house: LivedInHouse, spoil: Any) -> None:
    with pytest.raises(MatrixError) as caught:
        check_signing_keys("@alice:test.example", {"master_key": spoil(Identity("@alice:test.example").key("master"))})
    assert caught.value.status in (400, 413) and "master_key" in caught.value.error


def test_no_device_is_called_as_a_cross_signing_key(house: LivedInHouse) -> None:
    alice = enter(house, "alice")
    identity = alice.sign_in_public()
    with pytest.raises(MatrixError) as caught:
        Villager.enter(house, "alice", public(identity.master))
    assert caught.value.status == 400
    other = Identity(alice.user_id)
    Villager.enter(house, "alice", public(other.master))
    with pytest.raises(MatrixError) as caught:
        put(alice, other.body())
    assert (caught.value.status, caught.value.errcode) == (403, "M_FORBIDDEN")


def test_devices_are_signed_by_the_self_signing_key(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice"), enter(house, "bob")
    identity = alice.sign_in_public()
    device = sign_device(alice, identity)
    assert alice.put_signatures({alice.user_id: {"DEVICE": device}}) == {}
    for viewer in (alice, bob):
        assert viewer.query(alice.user_id)["device_keys"][alice.user_id]["DEVICE"] == device
    assert alice.put_signatures({alice.user_id: {"DEVICE": device}}) == {}, "once more does no harm"


def test_new_keys_make_old_signatures_go(house: LivedInHouse) -> None:
    alice = enter(house, "alice")
    identity = alice.sign_in_public()
    alice.put_signatures({alice.user_id: {"DEVICE": sign_device(alice, identity)}})
    put(alice, Identity(alice.user_id).body())
    assert alice.query(alice.user_id)["device_keys"][alice.user_id]["DEVICE"] == alice.device_keys
    identity = alice.sign_in_public()
    alice.put_signatures({alice.user_id: {"DEVICE": sign_device(alice, identity)}})
    alice.key = SigningKey.generate()
    alice.upload()
    assert alice.query(alice.user_id)["device_keys"][alice.user_id]["DEVICE"] == alice.device_keys


def test_the_master_key_is_signed_by_devices(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice"), enter(house, "bob")
    identity = alice.sign_in_public()
    master = signed(identity.key("master"), alice.user_id, "ed25519:DEVICE", alice.key)
    assert alice.put_signatures({alice.user_id: {public(identity.master): master}}) == {}
    assert bob.query(alice.user_id)["master_keys"] == {alice.user_id: master}


def test_whom_somebody_vouches_for_is_their_own_business(house: LivedInHouse) -> None:
    alice, bob, carol = (enter(house, name) for name in ("alice", "bob", "carol"))
    mine, theirs = alice.sign_in_public(), bob.sign_in_public()
    before = {one.name: one.sync()["next_batch"] for one in (alice, bob, carol)}
    by = f"ed25519:{public(mine.user_signing)}"
    master = signed(theirs.key("master"), alice.user_id, by, mine.user_signing)
    assert alice.put_signatures({bob.user_id: {public(theirs.master): master}}) == {}
    assert alice.query(bob.user_id)["master_keys"] == {bob.user_id: master}
    for viewer in (bob, carol):
        assert viewer.query(bob.user_id)["master_keys"] == {bob.user_id: theirs.key("master")}
    assert alice.lists(before["alice"]) == (["bob"], [])
    assert bob.lists(before["bob"]) == carol.lists(before["carol"]) == ([], [])


def test_each_bad_signature_fails_alone(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice"), enter(house, "bob")
    identity, theirs = alice.sign_in_public(), bob.sign_in_public()
    good = sign_device(alice, identity)
    second = Villager.enter(house, "alice", "SECOND")
    second.upload()
    by_user = f"ed25519:{public(identity.user_signing)}"
    failures = alice.put_signatures(
        {
            alice.user_id: {
                "DEVICE": good,
                "SECOND": sign_device(second, identity, SigningKey.generate()),
                "GONE": {**good, "device_id": "GONE"},
                public(identity.master): sign_device(alice, identity),
                public(identity.self_signing): identity.key("self_signing"),
            },
            bob.user_id: {
                # Only master keys of others are signed, and only by the user-signing key.
                "DEVICE": signed(bob.device_keys, alice.user_id, by_user, identity.user_signing),
                public(theirs.master): signed(
                    theirs.key("master"), alice.user_id, f"ed25519:{public(identity.master)}", identity.master
                ),
            },
            "no user id": {"x": {}},
        }
    )
    codes = {user_id: {key: one["errcode"] for key, one in keys.items()} for user_id, keys in failures.items()}
    assert codes == {
        alice.user_id: {
            "SECOND": "M_INVALID_SIGNATURE",
            "GONE": "M_NOT_FOUND",
            public(identity.master): "M_INVALID_PARAM",
            public(identity.self_signing): "M_NOT_FOUND",
        },
        bob.user_id: {"DEVICE": "M_NOT_FOUND", public(theirs.master): "M_INVALID_SIGNATURE"},
        "no user id": {"x": "M_NOT_FOUND"},
    }
    devices = alice.query(alice.user_id)["device_keys"][alice.user_id]
    assert devices == {"DEVICE": good, "SECOND": second.device_keys}
    assert bob.query(bob.user_id)["master_keys"] == {bob.user_id: theirs.key("master")}


def test_another_key_under_the_same_name_is_not_signed(house: LivedInHouse) -> None:
    alice = enter(house, "alice")
    identity = alice.sign_in_public()
    other = {**alice.device_keys, "algorithms": ["x"]}
    device = signed(other, alice.user_id, f"ed25519:{public(identity.self_signing)}", identity.self_signing)
    failures = alice.put_signatures({alice.user_id: {"DEVICE": device}})
    assert failures[alice.user_id]["DEVICE"]["errcode"] == "M_INVALID_PARAM"


def test_a_closed_account_has_no_keys(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice"), enter(house, "bob")
    alice.sign_in_public()
    house.wait(house.house.accounts.changes.deactivate(alice.user_id, erase=False))
    seen = bob.query(alice.user_id)
    assert seen["device_keys"] == {alice.user_id: {}} and seen["master_keys"] == {}
