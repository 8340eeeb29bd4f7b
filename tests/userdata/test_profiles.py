"""Profiles: fields, their limits, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from homeserver.encryption.whereabouts import Whereabouts
from homeserver.errors import MatrixError, NotFound
from homeserver.userdata.profiles import MAX_PROFILE_BYTES, Profiles
from storage.accounts import Account, add_account, deactivate_account
from tests.fixtures_userdata import Household, user

ANN = user("ann")


class Scene:
    def __init__(self, household: Household) -> None:
        self.household = household
        self.told: list[tuple[str, str]] = []
        self.profiles = Profiles(household.town.database, Whereabouts(household.town.database))
        self.profiles.listeners.append(self)
        household.wait(household.town.database.write(add_account, Account(ANN, None, 0)))

    async def profile_changed(self, user_id: str, field: str) -> None:
        self.told.append((user_id, field))

    def set(self, key: str, value: Any) -> None:
        self.household.wait(self.profiles.set_field(ANN, key, value))

    def refusal(self, key: str, value: Any) -> str:
        with pytest.raises(MatrixError) as caught:
            self.set(key, value)
        assert caught.value.status == 400
        return caught.value.errcode

    def get(self) -> dict[str, Any]:
        return self.household.wait(self.profiles.get(ANN))

    def names(self) -> tuple[str | None, str | None]:
        return self.household.wait(self.profiles.displayname_and_avatar(ANN))


def test_fields_are_set_read_and_removed(household: Household) -> None:
    scene = Scene(household)
    assert scene.get() == {} and scene.names() == (None, None)
    fields: dict[str, Any] = {
        "displayname": "Ann \0 Ü",
        "avatar_url": "mxc://a.org/picture",
        "m.tz": "Europe/Berlin",
        "org.example.any-thing_2": {"deep": [None, 0.5, {}]},
        "nick": None,
    }
    for key, value in fields.items():
        scene.set(key, value)
    assert scene.get() == fields and scene.names() == ("Ann \0 Ü", "mxc://a.org/picture")
    assert household.wait(scene.profiles.get_field(ANN, "org.example.any-thing_2")) == {"deep": [None, 0.5, {}]}
    assert household.wait(scene.profiles.get_field(ANN, "nick")) is None
    household.wait(scene.profiles.delete_field(ANN, "displayname"))
    household.wait(scene.profiles.delete_field(ANN, "org.never"))
    scene.set("avatar_url", "no URI at all")
    assert scene.names() == (None, "no URI at all")
    scene.set("avatar_url", "")
    assert scene.names() == (None, None) and set(scene.get()) == set(fields) - {"displayname", "avatar_url"}
    assert [field for _, field in scene.told] == [*fields, "displayname", "org.never", "avatar_url", "avatar_url"]
    with pytest.raises(NotFound):
        household.wait(scene.profiles.get_field(ANN, "displayname"))


@pytest.mark.parametrize(
    ("key", "value", "errcode"),
    [
        ("displayname", 1, "M_BAD_JSON"),
        ("displayname", None, "M_BAD_JSON"),
        ("displayname", "x" * 257, "M_INVALID_PARAM"),
        ("avatar_url", {}, "M_BAD_JSON"),
        ("avatar_url", "https://a.org/x.png", "M_INVALID_PARAM"),
        ("avatar_url", "//a.org", "M_INVALID_PARAM"),
        ("avatar_url", "data:x", "M_INVALID_PARAM"),
        ("avatar_url", "mxc://" + "x" * 1000, "M_INVALID_PARAM"),
        ("m.tz", 7, "M_BAD_JSON"),
        ("m.tz", "x" * 200, "M_INVALID_PARAM"),
        ("", "x", "M_INVALID_PARAM"),
        ("Org.Example", "x", "M_INVALID_PARAM"),
        ("1.org", "x", "M_INVALID_PARAM"),
        ("org.exämple", "x", "M_INVALID_PARAM"),
        ("org.example\0", "x", "M_INVALID_PARAM"),
        ("x" * 256, "x", "M_KEY_TOO_LARGE"),
        ("org.example", "x" * MAX_PROFILE_BYTES, "M_PROFILE_TOO_LARGE"),
    ],
)
def test_what_does_not_fit_is_refused(household: Household, key: str, value: Any, errcode: str) -> None:
    scene = Scene(household)
    assert scene.refusal(key, value) == errcode
    assert scene.get() == {} and scene.told == []


def test_a_whole_profile_has_its_limit(household: Household) -> None:
    scene = Scene(household)
    scene.set("displayname", "Ann")  # {"displayname":"Ann"} has 21 bytes
    # and ,"org.x":"" another 11
    assert scene.refusal("org.x", "x" * (MAX_PROFILE_BYTES - 21 - 11 + 1)) == "M_PROFILE_TOO_LARGE"
    scene.set("org.x", "x" * (MAX_PROFILE_BYTES - 21 - 11))
    assert scene.refusal("org.y", 1) == "M_PROFILE_TOO_LARGE"
    scene.set("org.x", "small")
    scene.set("org.y", 1)


def test_names_are_remembered_and_never_old(household: Household) -> None:
    scene = Scene(household)
    scene.set("displayname", "Ann")
    assert scene.profiles.peek(ANN) is None
    assert scene.names() == ("Ann", None) == scene.profiles.peek(ANN)
    # A look at the database that is overtaken by a write leaves nothing behind.
    household.wait(scene.profiles.delete_field(ANN, "org.x"))
    looking = Deferred.fromCoroutine(scene.profiles.displayname_and_avatar(ANN))
    writing = Deferred.fromCoroutine(scene.profiles.set_field(ANN, "displayname", "Anna"))
    household.wait(looking)
    household.wait(writing)
    assert scene.names() == ("Anna", None)


def test_who_is_not_known_here_has_no_profile(household: Household) -> None:
    scene = Scene(household)
    for user_id in (user("nobody"), "@ann:elsewhere.org"):
        with pytest.raises(NotFound):
            household.wait(scene.profiles.get(user_id))
        assert household.wait(scene.profiles.displayname_and_avatar(user_id)) == (None, None)


def test_accounts_come_and_go(household: Household) -> None:
    scene = Scene(household)
    household.wait(scene.profiles.account_registered(ANN, "A" * 300))
    assert scene.names() == ("A" * 256, None) and scene.told == []
    household.wait(scene.profiles.account_registered(ANN, None))
    household.wait(scene.profiles.account_deactivated(ANN, erase=False))
    assert scene.names()[0] is not None
    household.wait(scene.profiles.account_deactivated(ANN, erase=True))
    household.wait(household.town.database.write(deactivate_account, ANN, erase=True))
    assert scene.names() == (None, None)
    with pytest.raises(NotFound):
        scene.get()
