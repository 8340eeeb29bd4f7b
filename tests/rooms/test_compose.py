"""How a refusal by the room's rules is told: lacking power is one thing, content that nobody may send another."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import BadJson, Forbidden, MatrixError
from tests.fixtures_rooms import Town, user


@pytest.mark.parametrize(
    ("version", "content"),
    [
        ("12", {"users": {user("alice"): 100}}),
        ("11", {"ban": "50"}),
        ("11", {"events": []}),
        ("1", {"users": {user("bob"): {}}}),
        ("11", {"users": {user("alice"): 100, "bob": 1}}),
    ],
)
def test_power_levels_that_nobody_may_set(town: Town, version: str, content: dict[str, Any]) -> None:
    room_id = town.create("alice", preset="public_chat", room_version=version)
    with pytest.raises(BadJson) as caught:
        town.send("alice", room_id, "m.room.power_levels", content, "")
    assert (caught.value.status, caught.value.errcode) == (400, "M_BAD_JSON")
    # Whoever is not in the room hears nothing but that.
    with pytest.raises(Forbidden):
        town.send("bob", room_id, "m.room.power_levels", content, "")
    with pytest.raises(MatrixError) as made:
        town.create("alice", room_version=version, power_level_content_override=content)
    assert (made.value.status, made.value.errcode) == (400, "M_INVALID_ROOM_STATE")


def test_power_levels_that_lack_power(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    with pytest.raises(Forbidden):
        town.send("bob", room_id, "m.room.power_levels", {"users": {user("bob"): 100}}, "")
