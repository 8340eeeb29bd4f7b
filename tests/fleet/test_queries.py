"""What servers ask each other by name, through both: aliases, directories, profiles."""

from __future__ import annotations

from typing import Any

import pytest

from federation.outbound.transport import Refused
from homeserver.errors import InvalidParam, MatrixError, NotFound
from homeserver.queries.profiles import REMEMBERED_MS
from homeserver.rooms.aliases import MOST_ASKED, Aliases
from homeserver.rooms.directory import Directory, ListAsk
from homeserver.userdata.profiles import Profiles
from storage.accounts import Account, add_account
from tests.fixtures_fleet import Fleet, Member

QUERY = "/_matrix/federation/v1/query"
ROOMS = "/_matrix/federation/v1/publicRooms"


def register(member: Member, name: str, **fields: Any) -> None:
    member.wait(member.house.database.write(add_account, Account(member.user(name), None, 0)))
    for key, value in fields.items():
        member.wait(member.house.part(Profiles).set_field(member.user(name), key, value))


def profile(member: Member, user_id: str) -> dict[str, Any]:
    return member.wait(member.house.part(Profiles).get(user_id))


def refusal(member: Member, other: Member, path: str, body: object = None, **query: str) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        member.ask(other, "GET" if body is None else "POST", path, body, **query)
    return caught.value.status, caught.value.errcode


# -- profiles ----------------------------------------------------------------------------------------------------


def test_profiles_of_people_elsewhere(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    register(b, "bob", displayname="Bob", avatar_url="mxc://b.example/bob", **{"org.x": {"y": [1, None]}})
    register(b, "blank")
    shown = {"displayname": "Bob", "avatar_url": "mxc://b.example/bob", "org.x": {"y": [1, None]}}
    assert profile(a, "@bob:b.example") == profile(b, "@bob:b.example") == shown
    assert profile(a, "@blank:b.example") == {}
    field = a.house.part(Profiles).get_field
    assert a.wait(field("@bob:b.example", "org.x")) == {"y": [1, None]}
    for user_id, key in (("@bob:b.example", "m.tz"), ("@nobody:b.example", "displayname")):
        with pytest.raises(NotFound):
            a.wait(field(user_id, key))
    with pytest.raises(NotFound):
        profile(a, "@nobody:b.example")
    assert len(any_fleet.asked("query/profile")) == 3


def test_a_profile_that_changes(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    register(b, "bob", displayname="Bob")
    assert profile(a, "@bob:b.example") == {"displayname": "Bob"}
    b.wait(b.house.part(Profiles).set_field("@bob:b.example", "displayname", "Robert"))
    fleet.down.add("b.example")
    assert profile(a, "@bob:b.example") == {"displayname": "Bob"}
    for _ in range(REMEMBERED_MS // 10):
        a.house.clock.now_ms()  # the clock of a fleet moves by 10 ms with each look at it
    with pytest.raises(MatrixError, match="can't be reached"):
        profile(a, "@bob:b.example")


def test_one_field_of_a_profile(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    register(b, "bob", displayname="Bob", avatar_url="mxc://b.example/bob")
    whole = a.ask(b, "GET", f"{QUERY}/profile", user_id="@bob:b.example")
    assert whole == {"displayname": "Bob", "avatar_url": "mxc://b.example/bob"}
    for field, shown in (("displayname", {"displayname": "Bob"}), ("m.tz", {}), ("", {}), ("\0", {})):
        assert a.ask(b, "GET", f"{QUERY}/profile", user_id="@bob:b.example", field=field) == shown


@pytest.mark.parametrize(
    ("user_id", "answer"),
    [
        ("@nobody:b.example", (404, "M_NOT_FOUND")),
        ("@ann:a.example", (400, "M_INVALID_PARAM")),
        ("@bob:elsewhere.example", (400, "M_INVALID_PARAM")),
        ("@bob:b.example:http", (400, "M_INVALID_PARAM")),
        ("bob", (400, "M_INVALID_PARAM")),
        ("", (400, "M_INVALID_PARAM")),
        ("@\0:b.example", (400, "M_INVALID_PARAM")),
        ("@" + "x" * 300 + ":b.example", (400, "M_INVALID_PARAM")),
    ],
)
def test_profiles_that_are_not_told(fleet: Fleet, user_id: str, answer: tuple[int, str]) -> None:
    a, b = fleet.open("a", "b")
    assert refusal(a, b, f"{QUERY}/profile", user_id=user_id) == answer
    assert fleet.asked("query") == [("a.example", "b.example")], "and nobody else was asked"


def test_a_query_says_what_it_is_about(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    assert refusal(a, b, f"{QUERY}/profile") == (400, "M_MISSING_PARAM")
    assert refusal(a, b, f"{QUERY}/directory") == (400, "M_MISSING_PARAM")
    assert refusal(a, b, f"{QUERY}/weather") == (404, "M_UNRECOGNIZED")


# -- aliases -----------------------------------------------------------------------------------------------------


def test_an_alias_leads_into_the_room(any_fleet: Fleet) -> None:
    a, b, c = any_fleet.open("a", "b", "c")
    room_id = a.create("ann", preset="public_chat", room_alias_name="tea/and#cake")
    b.enter("bob", room_id, a)
    found = c.wait(c.house.part(Aliases).resolve("#tea/and#cake:a.example"))
    assert found.room_id == room_id and sorted(found.servers) == ["a.example", "b.example"]
    c.wait(c.memberships.join(found.room_id, c.user("cat"), via=found.servers))
    assert c.membership("cat", room_id) == "join"


def test_aliases_that_are_not_there(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    aliases = a.house.part(Aliases)
    for alias in ("#none:b.example", "#none:a.example"):
        with pytest.raises(NotFound):
            a.wait(aliases.resolve(alias))
    with pytest.raises(MatrixError, match=r"gone.example can't be reached") as caught:
        a.wait(aliases.resolve("#tea:gone.example"))
    assert caught.value.status == 502
    assert refusal(a, b, f"{QUERY}/directory", room_alias="#none:b.example") == (404, "M_NOT_FOUND")
    for alias in ("#tea:a.example", "#tea:elsewhere.example", "tea", "", "#:b.example", "#\0:b.example"):
        assert refusal(a, b, f"{QUERY}/directory", room_alias=alias) == (400, "M_INVALID_PARAM"), alias


def test_a_room_may_have_aliases_elsewhere(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("ann", preset="public_chat")
    b.enter("bob", room_id, a)
    b.create("bob", room_alias_name="other")
    b.wait(b.house.part(Aliases).create(b.who("bob"), "#tea:b.example", room_id))
    for alias in ("#other:b.example", "#none:b.example"):
        with pytest.raises(MatrixError) as caught:
            a.set_state("ann", room_id, "m.room.canonical_alias", {"alias": alias})
        assert caught.value.errcode == "M_BAD_ALIAS"
    a.set_state("ann", room_id, "m.room.canonical_alias", {"alias": "#tea:b.example"})
    asked = len(fleet.asked("query/directory"))
    many = {"alias": "#tea:b.example", "alt_aliases": [f"#x:s{number}.example" for number in range(MOST_ASKED + 1)]}
    with pytest.raises(InvalidParam, match="at a time"):
        a.set_state("ann", room_id, "m.room.canonical_alias", many)
    assert len(fleet.asked("query/directory")) == asked


# -- directories -------------------------------------------------------------------------------------------------


def listed(member: Member, server: str, ask: ListAsk | None = None) -> dict[str, Any]:
    return member.wait(member.house.part(Directory).list(ask or ListAsk(), server))


def test_the_directory_of_another_server(any_fleet: Fleet) -> None:
    a, b = any_fleet.open("a", "b")
    for name in ("Tea", "Coffee", "Teapots"):
        b.create("bob", preset="public_chat", visibility="public", name=name)
    b.create("bob", name="Secret tea")
    b.create("bob", visibility="public", name="Space", creation_content={"type": "m.space"})
    everything = listed(a, "b.example")
    assert everything == listed(b, "b.example") and everything["total_room_count_estimate"] == 4
    named = listed(a, "b.example", ListAsk(term="tea"))
    assert sorted(room["name"] for room in named["chunk"]) == ["Tea", "Teapots"]
    spaces = listed(a, "b.example", ListAsk(room_types=["m.space"]))
    assert [room["name"] for room in spaces["chunk"]] == ["Space"]
    first = listed(a, "b.example", ListAsk(limit=3))
    second = listed(a, "b.example", ListAsk(limit=3, since=first["next_batch"]))
    assert first["chunk"] + second["chunk"] == everything["chunk"] and "next_batch" not in second
    assert listed(a, "b.example", ListAsk(network="irc"))["chunk"] == []
    assert listed(a, "a.example")["chunk"] == []


def test_a_directory_that_can_t_be_asked(fleet: Fleet) -> None:
    a, _ = fleet.open("a", "b")
    with pytest.raises(InvalidParam):
        listed(a, "no server")
    with pytest.raises(MatrixError) as caught:
        listed(a, "gone.example")
    assert caught.value.status == 502
    with pytest.raises(MatrixError) as caught:
        listed(a, "b.example", ListAsk(since="nonsense"))
    assert caught.value.status == 502 and "M_INVALID_PARAM" in caught.value.error


@pytest.mark.parametrize(
    ("query", "body", "errcode"),
    [
        ({"limit": "-1"}, None, "M_INVALID_PARAM"),
        ({"limit": "many"}, None, "M_INVALID_PARAM"),
        ({"since": "x"}, None, "M_INVALID_PARAM"),
        ({"include_all_networks": "perhaps"}, None, "M_INVALID_PARAM"),
        ({}, {"limit": -1}, "M_INVALID_PARAM"),
        ({}, {"limit": 2**60}, "M_BAD_JSON"),
        ({}, {"filter": []}, "M_BAD_JSON"),
        ({}, {"filter": {"room_types": "m.space"}}, "M_BAD_JSON"),
        ({}, {"filter": {"generic_search_term": 5}}, "M_BAD_JSON"),
        ({}, {"since": "\0"}, "M_INVALID_PARAM"),
    ],
)
def test_lists_that_nobody_gets(fleet: Fleet, query: dict[str, str], body: object, errcode: str) -> None:
    a, b = fleet.open("a", "b")
    assert refusal(a, b, ROOMS, body, **query) == (400, errcode)
