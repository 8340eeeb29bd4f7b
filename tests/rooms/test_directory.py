"""The directory of published rooms: what it tells, whom it lets in, and that it never shows yesterday's news."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred, gatherResults

from homeserver.client.directory import IsPublished, Publish, is_published, publish
from homeserver.client.public_rooms import (
    PublicRooms,
    RoomsFilter,
    SearchPublicRooms,
    list_public_rooms,
    search_public_rooms,
)
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound
from homeserver.rooms.directory import Directory, DirectoryPolicy, ListAsk, NoRemoteDirectory
from homeserver.rooms.summary import plain_topic
from tests.fixtures_db import SERVER_NAME
from tests.fixtures_rooms import Town


def listed(town: Town, **query: Any) -> Any:
    return town.answer(list_public_rooms(town.directory, PublicRooms(**query)))


def search(town: Town, term: str | None = None, room_types: list[str | None] | None = None, **body: Any) -> Any:
    ask = SearchPublicRooms(filter=RoomsFilter(term, room_types), **body)
    return town.answer(search_public_rooms(town.directory, town.who("alice"), ask))


def names(answer: Any) -> list[str]:
    return [room.get("name", "") for room in answer["chunk"]]


def set_published(town: Town, name: str, room_id: str, visibility: str, is_admin: bool = False) -> None:
    town.answer(publish(town.directory, town.who(name, is_admin), Publish(room_id, visibility)))  # type: ignore[arg-type]


def visibility(town: Town, room_id: str) -> str:
    return str(town.answer(is_published(town.directory, IsPublished(room_id)))["visibility"])


def restart(town: Town) -> Town:
    """The same town with a directory that knows nothing yet."""
    policy = DirectoryPolicy(SERVER_NAME, True)
    return attrs.evolve(town, directory=Directory(town.database, town.rooms, town.aliases, policy, NoRemoteDirectory()))


def test_what_is_told_of_a_room(town: Town) -> None:
    town.create("alice", visibility="private", name="Secret")
    room_id = town.create(
        "alice",
        visibility="public",
        name="Gardeners",
        topic="All that grows",
        room_alias_name="garden",
        creation_content={"type": "m.space"},
        initial_state=[
            {"type": "m.room.avatar", "content": {"url": "mxc://test.example/leaf"}},
            {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}},
            {"type": "m.room.guest_access", "content": {"guest_access": "can_join"}},
        ],
    )
    town.join("bob", room_id)
    for place in (town, restart(town)):
        assert listed(place) == {
            "chunk": [
                {
                    "room_id": room_id,
                    "name": "Gardeners",
                    "topic": "All that grows",
                    "canonical_alias": f"#garden:{SERVER_NAME}",
                    "avatar_url": "mxc://test.example/leaf",
                    "room_type": "m.space",
                    "join_rule": "public",
                    "num_joined_members": 2,
                    "world_readable": True,
                    "guest_can_join": True,
                }
            ],
            "total_room_count_estimate": 1,
        }


def test_odd_state_does_not_get_through(town: Town) -> None:
    room_id = town.create("alice", visibility="public")
    for kind, key in (("name", "name"), ("topic", "topic"), ("avatar", "url"), ("canonical_alias", "alias")):
        town.send("alice", room_id, f"m.room.{kind}", {key: {"a": [1]}}, "")
    entry = listed(town)["chunk"][0]
    assert entry == {
        "room_id": room_id,
        "join_rule": "public",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
    }


@pytest.mark.parametrize(
    ("content", "topic"),
    [
        ({}, None),
        ({"topic": "old"}, "old"),
        ({"topic": ""}, None),
        ({"topic": "old", "m.topic": {"m.text": [{"body": "<b>", "mimetype": "text/html"}, {"body": "new"}]}}, "new"),
        ({"topic": "old", "m.topic": {"m.text": [{"body": "<b>", "mimetype": "text/html"}]}}, "old"),
        ({"topic": 1, "m.topic": {"m.text": "new"}}, None),
        ({"topic": "old", "m.topic": {"m.text": [1, {"body": 2}]}}, "old"),
    ],
)
def test_the_plain_topic(content: Any, topic: str | None) -> None:
    assert plain_topic(content) == topic


def test_changes_are_seen_at_once(town: Town) -> None:
    assert listed(town)["chunk"] == []
    room_id = town.create("alice", visibility="public", name="Before")
    assert names(listed(town)) == ["Before"]
    town.send("alice", room_id, "m.room.name", {"name": "After"}, "")
    town.join("bob", room_id)
    entry = listed(town)["chunk"][0]
    assert (entry["name"], entry["num_joined_members"]) == ("After", 2)
    town.leave("bob", room_id)
    assert listed(town)["chunk"][0]["num_joined_members"] == 1
    set_published(town, "alice", room_id, "private")
    assert (listed(town)["chunk"], visibility(town, room_id)) == ([], "private")
    set_published(town, "alice", room_id, "public")
    assert (names(listed(town)), visibility(town, room_id)) == (["After"], "public")


def test_a_change_while_the_directory_is_being_read(town: Town) -> None:
    room_id = town.create("alice", visibility="public", name="Before")

    async def both() -> Any:
        first = Deferred.fromCoroutine(town.directory.list(ListAsk()))
        second = Deferred.fromCoroutine(town.directory.list(ListAsk()))
        join = Deferred.fromCoroutine(town.memberships.join(room_id, "@bob:test.example"))
        return await gatherResults([first, second, join])

    town.wait(both())
    assert listed(town)["chunk"][0]["num_joined_members"] == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_forwards_and_back(town: Town, limit: int) -> None:
    expected: list[str] = []
    for number in range(5):
        room_id = town.create("alice", visibility="public", name=f"Room {number}")
        for guest in range(number):
            town.join(f"guest{guest}", room_id)
        expected.insert(0, f"Room {number}")
    found: list[str] = []
    pages = [listed(town, limit=limit)]
    while "next_batch" in pages[-1]:
        pages.append(listed(town, limit=limit, since=pages[-1]["next_batch"]))
    for page in pages:
        assert page["total_room_count_estimate"] == 5
        found += names(page)
    assert found == expected, "largest first"
    assert len(pages) == -(-5 // limit)
    back = pages[-1]
    for earlier in reversed(pages[:-1]):
        back = listed(town, limit=limit, since=back["prev_batch"])
        assert names(back) == names(earlier)
    assert "prev_batch" not in back


def test_search(town: Town) -> None:
    town.create("alice", visibility="public", name="Straße", topic="Wege und Plätze")
    town.create("alice", visibility="public", name="Garden", room_alias_name="roses")
    town.create("alice", visibility="public", name="Guild", creation_content={"type": "m.space"})
    assert names(search(town, "STRASSE")) == ["Straße"]
    assert names(search(town, "plätze")) == ["Straße"]
    assert names(search(town, "#roses")) == ["Garden"]
    assert sorted(names(search(town, "g"))) == ["Garden", "Guild", "Straße"]
    assert names(search(town, "nothing of the kind")) == []
    assert names(search(town, None, ["m.space"])) == ["Guild"]
    assert sorted(names(search(town, None, [None]))) == ["Garden", "Straße"]
    assert len(search(town, None, [None, "m.space"])["chunk"]) == 3
    assert search(town, None, [])["chunk"] == []
    assert names(search(town, "garden", [None], limit=1)) == ["Garden"]
    assert search(town, third_party_instance_id="irc-freenode")["chunk"] == []
    assert len(search(town, third_party_instance_id="x", include_all_networks=True)["chunk"]) == 3


def test_wrong_questions(town: Town) -> None:
    for query in ({"since": "x"}, {"since": "€"}, {"since": "WzEsMiwzXQ"}, {"limit": -1}, {"server": "not a server"}):
        with pytest.raises(InvalidParam):
            listed(town, **query)
    with pytest.raises(MatrixError) as caught:
        listed(town, server="elsewhere.example")
    assert caught.value.status == 502
    assert listed(town, server=SERVER_NAME)["chunk"] == []


def test_who_may_publish(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    for name in ("bob", "stranger"):
        with pytest.raises(Forbidden):
            set_published(town, name, room_id, "public")
    with pytest.raises(NotFound):
        set_published(town, "alice", "!nowhere:test.example", "public")
    with pytest.raises(NotFound):
        visibility(town, "!nowhere:test.example")
    assert visibility(town, room_id) == "private"
    set_published(town, "stranger", room_id, "public", is_admin=True)
    assert visibility(town, room_id) == "public"

    policy = DirectoryPolicy(SERVER_NAME, False)
    strict = attrs.evolve(
        town, directory=Directory(town.database, town.rooms, town.aliases, policy, NoRemoteDirectory())
    )
    set_published(strict, "alice", room_id, "private")
    with pytest.raises(Forbidden):
        set_published(strict, "alice", room_id, "public")


def test_a_room_at_whose_door_one_knocks_is_listed_as_such(town: Town) -> None:
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
    room_id = town.create("alice", visibility="public", name="Club", initial_state=[rules])
    assert [(one["room_id"], one["join_rule"]) for one in listed(town)["chunk"]] == [(room_id, "knock")]
    town.send("alice", room_id, "m.room.join_rules", {"join_rule": "knock_restricted", "allow": []}, "")
    assert [one["join_rule"] for one in listed(town)["chunk"]] == ["knock_restricted"]
