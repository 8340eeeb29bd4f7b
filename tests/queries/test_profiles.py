"""Profiles of other servers' people: asked for once in a while, and shown only as far as they make sense."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, MatrixError
from homeserver.http.answer import encode_json
from homeserver.queries.profiles import MOST_BYTES_EACH, REMEMBERED_MS
from tests.federation.doubles import begin, outcome
from tests.queries.asking import DEEP, HERE, NOT_ANSWERS, PEER, Scene

BOB = f"@bob:{PEER}"


@pytest.fixture
def scene() -> Scene:
    return Scene.open()


def profile(scene: Scene, user_id: str = BOB) -> Any:
    found = outcome(scene.asking.profiles.get(user_id))
    return None if found is None else orjson.loads(encode_json(found))


def test_a_profile(scene: Scene) -> None:
    fields = {"displayname": "Bob", "avatar_url": "mxc://peer.example/bob", "m.tz": "Europe/Rome", "org.x": [1.5, None]}
    heard = scene.writes_down(fields)
    assert profile(scene) == fields
    assert heard == [("GET", "/_matrix/federation/v1/query/profile?user_id=%40bob%3Apeer.example", None)]


def test_it_is_remembered_for_a_moment(scene: Scene) -> None:
    scene.answers({"displayname": "Bob"})
    assert profile(scene) == profile(scene) == {"displayname": "Bob"}
    scene.calendar.pass_ms(REMEMBERED_MS - 1)
    scene.answers({"displayname": "Robert"})
    assert profile(scene) == {"displayname": "Bob"}
    scene.calendar.pass_ms(1)
    assert profile(scene) == {"displayname": "Robert"}
    assert len(scene.network.asked()) == 2


def test_what_is_not_there_is_remembered_too(scene: Scene) -> None:
    scene.refuses(404, "M_NOT_FOUND")
    assert profile(scene) is None and profile(scene) is None
    assert len(scene.network.asked()) == 1


def test_who_changes_an_answer_changes_nobody_elses(scene: Scene) -> None:
    scene.answers({"org.x": {"a": [1]}})
    found = outcome(scene.asking.profiles.get(BOB))
    assert found is not None
    found["org.x"]["a"].append(2)
    assert profile(scene) == {"org.x": {"a": [1]}}


def test_large_profiles_are_not_remembered(scene: Scene) -> None:
    scene.answers({"org.x": "x" * MOST_BYTES_EACH})
    profile(scene)
    profile(scene)
    assert len(scene.network.asked()) == 2


def test_many_at_once_ask_once(scene: Scene) -> None:
    scene.answers({"displayname": "Bob"})
    scene.network.held = []
    waiting = [begin(scene.asking.profiles.get(BOB)) for _ in range(5)]
    (gate,) = scene.network.held
    gate.callback(None)
    assert waiting == [[{"displayname": "Bob"}]] * 5


@pytest.mark.parametrize("user_id", [f"@ann:{HERE}", f"@b\u00fcb:{PEER}", f"@:{PEER}", "bob", ""])
def test_who_is_not_asked_for(scene: Scene, user_id: str) -> None:
    """People of this server, and ids that nobody may have outside of old events."""
    assert profile(scene, user_id) is None
    assert scene.network.asked() == []


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({}, {}),
        ({"displayname": None, "avatar_url": None}, {}),
        ({"displayname": 5, "avatar_url": {"a": 1}, "m.tz": []}, {}),
        ({"displayname": "x" * 257, "avatar_url": "https://evil.example/track"}, {}),
        ({"x" * 256: 1, "ü" * 128: 1, "": 1}, {"": 1}),
        (b'{"a":' + b"9" * 30 + b',"b":18446744073709551615}', {"b": 2**64 - 1}),
        (b'{"a":' + b"[" * 250 + b"]" * 250 + b',"b":' + b"[" * 199 + b"]" * 199 + b"}", None),
        ({"displayname": "\0\u202e"}, {"displayname": "\0\u202e"}),
        (b'{"displayname":"a","displayname":"b"}', {"displayname": "b"}),
    ],
)
def test_odd_profiles(scene: Scene, body: object, shown: object) -> None:
    scene.answers(body)
    found = profile(scene)
    assert found == shown if shown is not None else [*found] == ["b"]


@pytest.mark.parametrize("body", [*NOT_ANSWERS, b'{"x":' + DEEP * 2 + b"}"])
def test_nonsense(scene: Scene, body: bytes) -> None:
    scene.answers(body)
    with pytest.raises(MatrixError) as caught:
        profile(scene)
    assert caught.value.status == 502


def test_refusals_and_silence(scene: Scene) -> None:
    with pytest.raises(MatrixError, match="can't be reached"):
        profile(scene)
    scene.asking.patience.heard_of(PEER)
    scene.refuses(403, "M_FORBIDDEN", "it is secret")
    with pytest.raises(Forbidden, match="it is secret"):
        profile(scene)
    scene.answers({"displayname": "Bob"})
    assert profile(scene) == {"displayname": "Bob"}, "failures are not remembered"
