"""What this server says of its own keys, over rotations and restarts."""

from __future__ import annotations

from federation.keys.own import RENEWED_MS, VALID_MS, OwnKeys
from federation.keys.ports import OwnKey
from federation.keys.response import read_key_response
from federation.room.signing import SigningKey
from tests.federation.doubles import Calendar, outcome
from tests.federation.keys.signers import DAY_MS, HOUR_MS, US, Drawer


def test_what_we_say_others_believe() -> None:
    calendar, key = Calendar(), SigningKey.generate("a")
    value = outcome(OwnKeys(US, [key], Drawer(), calendar.now_ms).response())
    response = read_key_response(value, US, calendar.now_ms())
    assert [(each.key_id, each.verify_key) for each in response.keys] == [("ed25519:a", key.verify_key)]
    assert response.valid_until_ts == calendar.now_ms() + VALID_MS
    assert value["old_verify_keys"] == {}


def test_the_answer_is_made_anew_long_before_it_ends() -> None:
    calendar = Calendar()
    own = OwnKeys(US, [SigningKey.generate("a")], Drawer(), calendar.now_ms)
    first = outcome(own.response())
    calendar.pass_ms(RENEWED_MS - 1)
    assert outcome(own.response()) is first
    calendar.pass_ms(1)
    second = outcome(own.response())
    assert second["valid_until_ts"] == calendar.now_ms() + VALID_MS
    assert VALID_MS - RENEWED_MS > HOUR_MS, "no answer is about to expire"


def test_several_keys_are_published_and_all_sign() -> None:
    calendar = Calendar()
    keys = [SigningKey.generate("a"), SigningKey.generate("b")]
    own = OwnKeys(US, keys, Drawer(), calendar.now_ms)
    value = outcome(own.response())
    assert set(value["signatures"][US]) == set(value["verify_keys"]) == {"ed25519:a", "ed25519:b"}
    assert own.signing_key is keys[0]
    read_key_response(value, US, calendar.now_ms())


def test_a_rotation() -> None:
    """The old key is told with the time at which the server first ran without it, and for good."""
    calendar, drawer = Calendar(), Drawer()
    first, second = SigningKey.generate("a"), SigningKey.generate("b")
    outcome(OwnKeys(US, [first], drawer, calendar.now_ms).load())
    calendar.pass_ms(DAY_MS)
    changed_at = calendar.now_ms()
    for _ in range(2):  # over another restart
        value = outcome(OwnKeys(US, [second], drawer, calendar.now_ms).response())
        assert set(value["verify_keys"]) == {"ed25519:b"}
        assert value["old_verify_keys"]["ed25519:a"]["expired_ts"] == changed_at
        calendar.pass_ms(DAY_MS)
    response = read_key_response(value, US, calendar.now_ms())
    assert {key.key_id: key.valid_until_ts for key in response.keys}["ed25519:a"] == changed_at


def test_a_key_that_comes_back_is_in_use_again() -> None:
    calendar, drawer = Calendar(), Drawer()
    first, second = SigningKey.generate("a"), SigningKey.generate("b")
    for key in (first, second, first):
        value = outcome(OwnKeys(US, [key], drawer, calendar.now_ms).response())
    assert set(value["verify_keys"]) == {"ed25519:a"}
    assert set(value["old_verify_keys"]) == {"ed25519:b"}


def test_finding_own_keys() -> None:
    calendar, drawer = Calendar(), Drawer()
    drawer.own["ed25519:old"] = OwnKey("ed25519:old", b"k" * 32, 5)
    own = OwnKeys(US, [SigningKey.generate("a")], drawer, calendar.now_ms)
    now = outcome(own.find("ed25519:a"))
    old = outcome(own.find("ed25519:old"))
    assert now is not None
    assert now.valid_until_ts > calendar.now_ms()
    assert old is not None
    assert (old.verify_key, old.valid_until_ts) == (b"k" * 32, 5)
    assert outcome(own.find("ed25519:nothing")) is None
