"""Two at a time: each is answered as if the other had come before or after it, and the rooms are as the guild says."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from homeserver.errors import MatrixError
from tests.guilds.api import ApiHouse, at, hall
from tests.guilds.test_edit_laws import check

__all__ = ["hall"]

DONE = "200"


def both(hall: ApiHouse, *calls: tuple[str, str, str, Any]) -> list[str]:
    """Ask everything at once; for each, 200 or the status and code with which it is refused."""

    async def asked(name: str, method: str, path: str, body: Any) -> str:
        try:
            await hall.start(name, method, path, body)
        except MatrixError as error:
            return f"{error.status} {error.errcode}"
        return DONE

    started = [Deferred.fromCoroutine(asked(*call)) for call in calls]
    return list(hall.wait(gatherResults(started)))


@pytest.fixture
def place(hall: ApiHouse) -> str:
    """A guild of ann's with bob as a second administrator and cat as a member."""
    guild_id = hall.new()
    for name in ("bob", "cat"):
        hall.enter(guild_id, name)
    hall.give_role(guild_id, "bob", "admin")
    return guild_id


def test_two_admins_edit_one_role(hall: ApiHouse, place: str) -> None:
    role_id = hall.new_role(place, "red")
    path = at("guilds", place, "roles", role_id)
    first, second = {"name": "from ann", "color": "#ff0000"}, {"name": "from bob", "permissions": ["kick_members"]}
    assert both(hall, ("ann", "PATCH", path, first), ("bob", "PATCH", path, second)) == [DONE, DONE]
    roles = hall.call("ann", "GET", at("guilds", place, "roles"))["roles"]
    (role,) = [role for role in roles if role["role_id"] == role_id]
    # What only one of them wrote is there, whoever was first.
    assert role["color"] == "#ff0000" and role["permissions"] == ["kick_members"]
    assert role["name"] in ("from ann", "from bob")
    check(hall, place)


def test_a_role_that_is_edited_given_and_deleted(hall: ApiHouse, place: str) -> None:
    role_id = hall.new_role(place, "red", "view_channel")
    path = at("guilds", place, "roles", role_id)
    given = at("guilds", place, "members", hall.user("cat"), "roles", role_id)
    answers = both(
        hall, ("ann", "DELETE", path, None), ("bob", "PATCH", path, {"name": "x"}), ("bob", "PUT", given, None)
    )
    assert answers[0] == DONE and set(answers[1:]) <= {DONE, "404 M_NOT_FOUND"}
    assert role_id not in [role["role_id"] for role in hall.call("ann", "GET", at("guilds", place, "roles"))["roles"]]
    check(hall, place)


def test_a_category_is_deleted_while_channels_move(hall: ApiHouse, place: str) -> None:
    away, to = hall.new_category(place, "away"), hall.new_category(place, "to")
    private = {"deny": ["view_channel"]}
    hall.call("ann", "PUT", at("guilds", place, "categories", away, "overrides", "everyone"), private)
    inside = [hall.new_channel(place, f"in {number}", category_id=away) for number in range(3)]
    outside = hall.new_channel(place, "out", category_id=to)
    channel = at("guilds", place, "channels")
    answers = both(
        hall,
        ("ann", "PATCH", f"{channel}/{at(inside[0])}", {"category_id": to}),
        ("bob", "DELETE", at("guilds", place, "categories", away), None),
        ("ann", "PATCH", f"{channel}/{at(outside)}", {"category_id": away}),
        ("bob", "PATCH", f"{channel}/{at(inside[1])}", {"category_id": to}),
    )
    assert answers[1] == DONE and {answers[0], answers[3]} == {DONE}
    assert answers[2] in (DONE, "400 M_INVALID_PARAM", "404 M_NOT_FOUND")
    hall.rest()
    whole = hall.whole("ann", place)
    assert away not in [one["category_id"] for one in whole["categories"]]
    assert away not in [one["category_id"] for one in whole["channels"]]
    # What moved before shares what the other category says; what was still inside took along that it is private.
    moved = [room_id for room_id in inside if hall.guild(place).channels[room_id].overrides is None]
    assert inside[2] not in moved
    assert [room_id for room_id in inside if hall.membership("cat", room_id) == "join"] == moved
    check(hall, place)


def test_somebody_joins_while_being_put_out(hall: ApiHouse, place: str) -> None:
    hall.call("ann", "PATCH", at("guilds", place), {"discoverable": True})
    dan = at("guilds", place, "members", hall.user("dan"))
    for act, expected in (("kick", {"join", "leave"}), ("ban", {"ban"})):
        answers = both(
            hall, ("dan", "POST", at("guilds", place, "join"), None), ("ann", "POST", f"{dan}/{act}", {"reason": "x"})
        )
        assert set(answers) <= {DONE, "404 M_NOT_FOUND", "403 M_FORBIDDEN"}
        hall.rest()
        found = {hall.membership("dan", room_id) for room_id in (place, *hall.guild(place).channels)}
        assert len(found) == 1 and found <= expected, (act, answers)
        check(hall, place)


def test_the_last_use_of_a_code_lets_in_one(hall: ApiHouse, place: str) -> None:
    code = hall.call("ann", "POST", at("guilds", place, "invites"), {"max_uses": 1})["code"]
    answers = both(hall, *((name, "POST", at("invites", code, "join"), None) for name in ("dan", "eve", "fay")))
    assert answers.count(DONE) == 1 and len(set(answers)) == 2
    inside = [name for name in ("dan", "eve", "fay") if hall.membership(name, place) == "join"]
    assert len(inside) == 1


def test_two_orders_of_the_roles(hall: ApiHouse, place: str) -> None:
    roles = [hall.new_role(place, f"r{number}") for number in range(4)]
    path = at("guilds", place, "roles", "order")
    up, down = {"roles": roles}, {"roles": roles[::-1]}
    assert both(hall, ("ann", "PUT", path, up), ("bob", "PUT", path, down)) == [DONE, DONE]
    found = [role["role_id"] for role in hall.call("ann", "GET", at("guilds", place, "roles"))["roles"]][1:-1]
    assert found in (roles, roles[::-1])


def test_an_owner_leaves_while_handing_over_and_a_channel_goes_while_it_is_edited(hall: ApiHouse, place: str) -> None:
    path = at("guilds", place)
    answers = both(
        hall, ("ann", "POST", f"{path}/leave", None), ("ann", "POST", f"{path}/owner", {"user_id": hall.user("bob")})
    )
    assert DONE in answers and set(answers) <= {DONE, "403 M_FORBIDDEN", "404 M_NOT_FOUND"}
    owner = hall.guild(place).settings.owner
    name = owner[1:].partition(":")[0]
    assert hall.membership(name, place) == "join"
    room_id = hall.channel(place, "general")
    channel = at("guilds", place, "channels", room_id)
    answers = both(
        hall,
        (name, "DELETE", channel, None),
        (name, "PATCH", channel, {"name": "other"}),
        (name, "PUT", f"{channel}/overrides/everyone", {"deny": ["view_channel"]}),
    )
    assert answers[0] == DONE and set(answers[1:]) <= {DONE, "404 M_NOT_FOUND"}
    hall.rest()
    assert hall.membership("cat", room_id) == "leave"
    check(hall, place)
