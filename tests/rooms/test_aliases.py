"""Names of rooms: who may make and remove them, and which ones a room may call its own."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from homeserver.client.aliases import (
    AliasesOfRoom,
    NewAlias,
    OneAlias,
    delete_alias,
    get_alias,
    get_aliases_of_room,
    set_alias,
)
from homeserver.errors import BadJson, Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.aliases import ResolvedAlias
from homeserver.rooms.compose import Template
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_rooms import Town, user

HERE = f"#here:{SERVER_NAME}"


def make(town: Town, name: str, alias: str, room_id: str, is_admin: bool = False) -> None:
    town.answer(set_alias(town.aliases, town.who(name, is_admin), NewAlias(alias, room_id)))


def remove(town: Town, who: Requester, alias: str) -> None:
    town.answer(delete_alias(town.aliases, who, OneAlias(alias)))


def look_up(town: Town, alias: str) -> Any:
    return town.answer(get_alias(town.aliases, OneAlias(alias)))


def test_an_alias_from_its_making_to_its_end(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    with pytest.raises(NotFound):
        look_up(town, HERE)
    make(town, "alice", HERE, room_id)
    assert look_up(town, HERE) == {"room_id": room_id, "servers": [SERVER_NAME]}
    with pytest.raises(MatrixError) as caught:
        make(town, "alice", HERE, room_id)
    assert (caught.value.status, caught.value.errcode) == (409, "M_UNKNOWN")
    remove(town, town.who("alice"), HERE)
    with pytest.raises(NotFound):
        look_up(town, HERE)
    with pytest.raises(NotFound):
        remove(town, town.who("alice"), HERE)


@pytest.mark.parametrize("alias", ["#slash/and#hash:test.example", "#ünïcode:test.example", "#🐈:test.example"])
def test_aliases_may_be_odd(town: Town, alias: str) -> None:
    room_id = town.create("alice")
    make(town, "alice", alias, room_id)
    assert look_up(town, alias)["room_id"] == room_id


@pytest.mark.parametrize(
    "alias",
    [
        "here",
        "#here",
        "#:test.example",
        "!here:test.example",
        "#a b:test.example",
        "#a\x00:test.example",
        "#" + "x" * 256,
    ],
)
def test_what_is_no_alias(town: Town, alias: str) -> None:
    room_id = town.create("alice")
    with pytest.raises(InvalidParam):
        make(town, "alice", alias, room_id)


def test_aliases_elsewhere_are_made_elsewhere(town: Town) -> None:
    room_id = town.create("alice")
    with pytest.raises(InvalidParam):
        make(town, "alice", "#here:elsewhere.example", room_id)
    with pytest.raises(NotFound):
        remove(town, town.who("alice"), "#here:elsewhere.example")
    with pytest.raises(NotFound):
        look_up(town, "#here:elsewhere.example")

    class Elsewhere:
        async def look_up(self, alias: str) -> ResolvedAlias | None:
            return ResolvedAlias("!far:elsewhere.example", ["elsewhere.example"])

    federated = attrs.evolve(town, aliases=attrs.evolve(town.aliases, remote=Elsewhere()))
    assert look_up(federated, "#here:elsewhere.example")["room_id"] == "!far:elsewhere.example"


def test_only_members_and_administrators_name_a_room(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    with pytest.raises(Forbidden):
        make(town, "stranger", HERE, room_id)
    with pytest.raises(Forbidden):
        make(town, "stranger", HERE, "!nowhere:test.example")
    with pytest.raises(InvalidParam):
        make(town, "stranger", HERE, "nowhere")
    make(town, "stranger", HERE, room_id, is_admin=True)
    town.join("bob", room_id)
    make(town, "bob", f"#bobs:{SERVER_NAME}", room_id)


@pytest.mark.parametrize(
    ("name", "is_admin", "allowed"),
    [
        ("bob", False, True),  # made it
        ("alice", False, True),  # may set the room's main alias
        ("carol", False, False),  # is merely in the room
        ("stranger", False, False),
        ("stranger", True, True),
    ],
)
def test_who_may_remove_an_alias(town: Town, name: str, is_admin: bool, allowed: bool) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    town.join("carol", room_id)
    make(town, "bob", HERE, room_id)
    if allowed:
        remove(town, town.who(name, is_admin), HERE)
        with pytest.raises(NotFound):
            look_up(town, HERE)
    else:
        with pytest.raises(Forbidden):
            remove(town, town.who(name, is_admin), HERE)
        assert look_up(town, HERE)["room_id"] == room_id


def test_a_removed_alias_is_advertised_no_more(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat", room_alias_name="here")
    other = f"#other:{SERVER_NAME}"
    make(town, "alice", other, room_id)
    town.send("alice", room_id, "m.room.canonical_alias", {"alias": HERE, "alt_aliases": [other, HERE]}, "")
    remove(town, town.who("alice"), HERE)
    stored = town.wait(town.state.piece(room_id, user("alice"), ("m.room.canonical_alias", "")))
    assert stored.event.content == {"alt_aliases": [other]}


def test_an_alias_goes_even_if_the_room_may_not_be_told(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat", room_alias_name="here")
    town.join("bob", room_id)
    bobs = f"#bobs:{SERVER_NAME}"
    make(town, "bob", bobs, room_id)
    town.send("alice", room_id, "m.room.canonical_alias", {"alias": bobs}, "")
    remove(town, town.who("bob"), bobs)
    stored = town.wait(town.state.piece(room_id, user("alice"), ("m.room.canonical_alias", "")))
    assert stored.event.content == {"alias": bobs}


def test_a_rooms_own_list(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat", room_alias_name="here")
    make(town, "alice", f"#again:{SERVER_NAME}", room_id)
    town.join("bob", room_id)
    town.leave("bob", room_id)

    def listed(name: str) -> list[str]:
        ask = AliasesOfRoom(room_id)
        found: list[str] = town.answer(get_aliases_of_room(town.aliases, town.who(name), ask))["aliases"]
        return found

    assert sorted(listed("alice")) == [f"#again:{SERVER_NAME}", HERE]
    for name in ("stranger", "bob"):
        with pytest.raises(Forbidden):
            listed(name)
    town.send("alice", room_id, "m.room.history_visibility", {"history_visibility": "world_readable"}, "")
    assert len(listed("stranger")) == len(listed("bob")) == 2


def check(town: Town, room_id: str, content: Any, current: Any = None) -> None:
    template = Template("m.room.canonical_alias", user("alice"), content, "")
    town.wait(town.aliases.check_canonical_alias(room_id, template, current))


def test_a_room_calls_only_its_own_aliases_its_own(town: Town) -> None:
    room_id, other_id = town.create("alice"), town.create("alice", room_alias_name="other")
    make(town, "alice", HERE, room_id)
    other, nowhere = f"#other:{SERVER_NAME}", f"#nowhere:{SERVER_NAME}"
    contents: list[Any] = [
        {},
        {"alias": None},
        {"alias": ""},
        {"alias": HERE},
        {"alt_aliases": [HERE]},
        {"alt_aliases": None},
    ]
    for fine in contents:
        check(town, room_id, fine)
    for wrong in (other, nowhere, "#far:elsewhere.example"):
        foreign: list[Any] = [{"alias": wrong}, {"alias": HERE, "alt_aliases": [HERE, wrong]}]
        for content in foreign:
            with pytest.raises(MatrixError) as caught:
                check(town, room_id, content)
            assert (caught.value.status, caught.value.errcode) == (400, "M_BAD_ALIAS")
            # What stood there already is not looked at again, wherever it stood.
            check(town, room_id, content, {"alt_aliases": [wrong]})
            check(town, room_id, content, {"alias": wrong})
    wrong_text: list[Any] = [{"alias": "here"}, {"alt_aliases": ["#here"]}, {"alt_aliases": [""]}]
    for content in wrong_text:
        with pytest.raises(InvalidParam):
            check(town, room_id, content)
    wrong_shape: list[Any] = [{"alias": 1}, {"alt_aliases": HERE}, {"alt_aliases": [1]}]
    for content in wrong_shape:
        with pytest.raises(BadJson):
            check(town, room_id, content)
    check(town, other_id, {"alias": other})
