"""Finding people: by which words, and who is found by whom."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.people.directory import PeopleDirectory
from homeserver.people.words import MOST_WORDS, matches, words_for, words_in
from homeserver.userdata.profiles import Profiles
from storage.accounts import Account, add_account
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse
from tests.fixtures_rooms import user


def register(house: LivedInHouse, name: str, displayname: str | None = None) -> str:
    user_id = house.user(name)
    house.wait(house.house.database.write(add_account, Account(user_id, None, 0)))
    for listener in (house.house.part(Profiles), house.house.part(PeopleDirectory)):
        house.wait(listener.account_registered(user_id, displayname))
    return user_id


def search(house: LivedInHouse, name: str, term: str, limit: int | None = None) -> dict[str, Any]:
    return house.wait(house.house.part(PeopleDirectory).search(house.user(name), term, limit))


def found(house: LivedInHouse, name: str, term: str) -> list[str]:
    return [one["user_id"] for one in search(house, name, term)["results"]]


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("Alice Cooper", "alice"), ("Alice Cooper", "COOP"), ("Alice Cooper", "cooper ali"), ("Ünal Straße", "ünal"),
        ("Straße", "strass"), ("\uff21\uff2cICE", "alice"), ("snake_case", "case"),
        ("\u5c71\u7530\u592a\u90ce", "\u592a\u90ce"), ("\ud64d\uae38\ub3d9", "\uae38\ub3d9"),
        (None, "zed"), ("Alice", "@zed"), ("Alice", "zed:home"),
    ],
)  # fmt: skip
def test_words_that_find(name: str | None, term: str) -> None:
    assert matches(words_in(term), words_for(name, "@zed:home.example"))


@pytest.mark.parametrize("term", ["lice", "alice b", "cooperative", "ed", "-", "  ", "\0", "\ud800"])
def test_words_that_do_not_find(term: str) -> None:
    searched = words_in(term)
    assert not searched or not matches(searched, words_for("Alice Cooper", "@zed:home.example"))


def test_words_are_bounded() -> None:
    assert len(words_for("x" * 10_000 + " " + " ".join(map(str, range(1000))) + "山" * 1000, "@a:b")) <= MOST_WORDS
    assert all(len(word) <= 64 and "\0" not in word for word in words_for("a\0b" * 500, "@a:b"))


def test_who_is_found_by_whom(house: LivedInHouse) -> None:
    alice, bob, carol = (register(house, name, name.title()) for name in ("alice", "bob", "carol"))
    register(house, "eve")
    private = house.create("alice", preset="private_chat", invite=[bob])
    house.join("bob", private)
    assert found(house, "alice", "bob") == [bob] and found(house, "bob", "alice") == [alice]
    assert found(house, "eve", "alice") == found(house, "eve", "bob") == found(house, "bob", "carol") == []
    house.create("carol", preset="public_chat")
    assert found(house, "eve", "carol") == found(house, "bob", "CAR") == [carol]
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    house.create("bob", preset="private_chat", initial_state=[readable])
    assert found(house, "eve", "bob") == [bob] and found(house, "eve", "eve") == []
    house.leave("bob", private)
    assert found(house, "bob", "alice") == []


def test_what_is_shown_is_the_profile(house: LivedInHouse) -> None:
    alice = register(house, "alice", "Alice Cooper")
    register(house, "bob")
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.set_state("alice", room_id, "m.room.member", {"membership": "join", "displayname": "Freddy"}, alice)
    assert search(house, "bob", "cooper")["results"] == [{"user_id": alice, "display_name": "Alice Cooper"}]
    assert found(house, "bob", "freddy") == []
    profiles = house.house.part(Profiles)
    house.wait(profiles.set_field(alice, "displayname", "Vince"))
    house.wait(profiles.set_field(alice, "avatar_url", "mxc://test.example/snake"))
    assert search(house, "bob", "vince")["results"] == [
        {"user_id": alice, "display_name": "Vince", "avatar_url": "mxc://test.example/snake"}
    ]
    assert found(house, "bob", "cooper") == []
    house.wait(house.house.part(PeopleDirectory).account_deactivated(alice, erase=False))
    assert found(house, "bob", "vince") == []


def test_the_best_come_first_and_no_more_than_asked(house: LivedInHouse) -> None:
    names = {"a1": "Uncle Bob", "a2": None, "bob": None, "a3": "Bob Marley", "a4": "bobby"}
    ids = {name: register(house, name, shown) for name, shown in names.items()}
    room_id = house.create("a1", preset="public_chat")
    for name in ("a2", "bob", "a3", "a4"):
        house.join(name, room_id)
    assert found(house, "a2", "bob") == [ids["a3"], ids["a4"], ids["a1"], ids["bob"]]
    short = search(house, "a2", "bob", 2)
    assert [one["user_id"] for one in short["results"]] == [ids["a3"], ids["a4"]] and short["limited"]
    assert not search(house, "a2", "bob", 4)["limited"]
    assert search(house, "a2", "bob", 0) == {"results": [], "limited": True}
    assert search(house, "a2", "?") == {"results": [], "limited": False}


def test_accounts_of_before_there_was_a_directory(house: LivedInHouse) -> None:
    bob = user("bob")
    house.wait(house.house.database.write(add_account, Account(bob, None, 0)))
    house.wait(house.house.part(Profiles).set_field(bob, "displayname", "Robert"))
    house.create("bob", preset="public_chat")
    house.wait(house.house.part(PeopleDirectory).start())
    assert found(house, "alice", "robert") == [bob]


def test_people_of_other_servers(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    for room, preset in (("open", "public_chat"), ("closed", "private_chat")):
        room_id = a.create("alice", preset=preset)
        name = f"{room}bob"
        a.invite("alice", f"@{name}:b.example", room_id)
        b.wait(b.house.part(Profiles).set_field(f"@{name}:b.example", "displayname", f"Bob {room.title()}"))
        b.enter(name, room_id, via=a)
        fleet.settle()
    for _ in range(5):
        fleet.reactor.timers.advance(0)
        a.wait(a.house.database.write(lambda cursor: None))
    shown = a.wait(a.house.part(PeopleDirectory).search("@carol:a.example", "bob"))["results"]
    assert shown == [{"user_id": "@openbob:b.example", "display_name": "Bob Open"}]
