"""Searching: what is found, by whom, in which order; and that nothing is found that may not be seen or is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from homeserver.client.search import Searching, search
from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.asks import AskReader
from homeserver.relations.bundles import Bundles
from homeserver.rooms.state_view import StateView
from homeserver.search import engine
from homeserver.search import indexer as indexing
from homeserver.search.context import Contexts
from homeserver.search.engine import Search
from storage import search as rows
from tests.fixtures_house import LivedInHouse, open_house
from tests.relations.talk import edit, ignore, parsed, relate, send

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

reader = AskReader(Searching, path=[], query=["next_batch"])


def find(house: LivedInHouse, name: str, term: str, *, next_batch: str | None = None, **more: Any) -> Any:
    """The `room_events` of an answer."""
    if "limit" in more:
        more["filter"] = {**more.get("filter", {}), "limit": more.pop("limit")}
    body = {"search_categories": {"room_events": {"search_term": term, **more}}}
    ask = reader.read([], "" if next_batch is None else f"next_batch={next_batch}", orjson.dumps(body))
    assert isinstance(ask, Searching)
    part = house.house.part
    handler = search(part(Search), part(Contexts), part(Bundles), part(StateView), part(Clock), house.who(name), ask)
    return parsed(house, handler)["search_categories"]["room_events"]


def ids(answer: Any) -> list[str]:
    return [one["result"]["event_id"] for one in answer["results"]]


def found(house: LivedInHouse, name: str, term: str, **more: Any) -> list[str]:
    return ids(find(house, name, term, **more))


def walk(house: LivedInHouse, name: str, term: str, **more: Any) -> tuple[list[str], int]:
    """All results, page by page."""
    answer = find(house, name, term, **more)
    seen, pages = ids(answer), 1
    while "next_batch" in answer:
        answer = find(house, name, term, next_batch=answer["next_batch"], **more)
        seen += ids(answer)
        pages += 1
    return seen, pages


def test_what_is_searched(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", name="The Martians", topic="All about rockets")
    said = house.say("alice", room_id, "Two martians, one rocket")
    blocks = [{"body": "Saucers"}, {"body": "<b>x</b>", "mimetype": "text/html"}]
    rich = {"topic": "Plain", "m.topic": {"m.text": blocks}}
    topic = house.set_state("alice", room_id, "m.room.topic", rich)
    send(house, "alice", room_id, {"body": "martians"}, "org.example.other")
    assert said in found(house, "alice", "martians")
    assert len(found(house, "alice", "martians")) == 2
    assert found(house, "alice", "martians", keys=["content.body"]) == [said]
    assert len(found(house, "alice", "martians", keys=["content.name"])) == 1
    assert len(found(house, "alice", "rocket", keys=["content.topic"])) == 1
    assert found(house, "alice", "rocket", keys=[]) == []
    assert found(house, "alice", "saucers") == [topic]
    assert found(house, "alice", "b") == []
    assert found(house, "alice", "MARTIANS rocket") == [said]
    assert found(house, "alice", "martians venus") == []
    assert found(house, "alice", "rock", keys=["content.body"]) == [said]
    assert found(house, "alice", '"martians one"') == [said]
    assert found(house, "alice", '"one martians"') == []
    for nothing in ("", "!?", '"', "\\x00"):
        answer = find(house, "alice", nothing)
        assert (answer["results"], answer["count"]) == ([], 0)


@pytest.mark.parametrize(
    ("text", "terms", "not_terms"),
    [
        ("今日はいい天気ですね", ["天気", "今", "今日は", "ね", "いい天気"], ["天日", "元気", "曇"]),
        ("我们明天去北京吃烤鸭", ["北京", "烤鸭", "鸭", "明天去北京"], ["南京", "京北"]),
        ("คนไทยกินก๋วยเตี๋ยว", ["คนไทย", "ก๋วยเตี๋ยว", "กิน"], ["ไทยคน", "ข้าว"]),
        ("Русский ЁЖ", ["ёж", "еж", "русск"], ["русск ёлка"]),
        ("naïve Café", ["naive", "cafe", "CAFÉ"], ["coffee"]),
        ("한국어 검색은 어렵다", ["한국어", "검색"], ["일본어"]),
        ("it's O'Neil \\ \"quoted\" & more | or | not", ["o'neil", "quoted", "or not", "not"], ["xor"]),
    ],
)
def test_languages(house: LivedInHouse, text: str, terms: list[str], not_terms: list[str]) -> None:
    room_id = house.create("alice")
    house.say("alice", room_id, "something else, 別のもの")
    said = house.say("alice", room_id, text)
    for term in terms:
        assert found(house, "alice", term) == [said], term
    for term in not_terms:
        assert found(house, "alice", term) == [], term


@pytest.mark.parametrize("order_by", ["rank", "recent"])
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_pages(house: LivedInHouse, order_by: str, limit: int) -> None:
    rooms = [house.create("alice", preset="public_chat") for _ in range(3)]
    for room_id in rooms:
        house.join("bob", room_id)
    said = [
        house.say("bob" if n % 2 else "alice", rooms[n % 3], "rocket " * (1 + n % 4) + f"and {n} words " * (n % 3))
        for n in range(10)
    ]
    seen, pages = walk(house, "alice", "rocket", order_by=order_by, limit=limit)
    assert sorted(seen) == sorted(said)
    assert pages == len(said) // limit + 1, "behind a full page comes another, be it empty"
    if order_by == "recent":
        assert seen == said[::-1]
    first = find(house, "alice", "rocket", order_by=order_by, limit=limit)
    assert first["count"] == 10
    ranks = [one["rank"] for one in find(house, "alice", "rocket", limit=50)["results"]]
    assert ranks == sorted(ranks, reverse=True) and ranks[0] > ranks[-1]
    # What is said meanwhile is not among them.
    if "next_batch" in first:
        house.say("alice", rooms[0], "rocket rocket rocket")
        answer = find(house, "alice", "rocket", order_by=order_by, limit=50, next_batch=first["next_batch"])
        assert sorted(ids(first) + ids(answer)) == sorted(said)


@pytest.mark.parametrize("order_by", ["rank", "recent"])
def test_groups(house: LivedInHouse, order_by: str) -> None:
    rooms = [house.create("alice", preset="public_chat") for _ in range(2)]
    said: dict[tuple[str, str], list[str]] = {}
    for room_id in rooms:
        house.join("bob", room_id)
        for n in range(4):
            name = "bob" if n % 2 else "alice"
            event_id = house.say(name, room_id, "rocket " * (1 + n))
            said.setdefault(("room_id", room_id), []).append(event_id)
            said.setdefault(("sender", house.user(name)), []).append(event_id)
    wanted = {"group_by": [{"key": "room_id"}, {"key": "sender"}]}
    how: dict[str, Any] = {"order_by": order_by, "groupings": wanted, "limit": 3}
    answer = find(house, "alice", "rocket", **how)
    assert set(answer["groups"]) == {"room_id", "sender"}
    for key, groups in answer["groups"].items():
        assert sorted(one for group in groups.values() for one in group["results"]) == sorted(ids(answer))
        assert sorted(group["order"] for group in groups.values()) == list(range(1, len(groups) + 1))
        for value, group in groups.items():
            seen, token = group["results"], group.get("next_batch")
            while token is not None:
                page = find(house, "alice", "rocket", next_batch=token, **how)
                seen += ids(page)
                token = page.get("next_batch")
            assert sorted(seen) == sorted(said[key, value])
    assert find(house, "alice", "rocket", limit=3)["groups"] == {}


def test_filters(house: LivedInHouse) -> None:
    one, two = house.create("alice", preset="public_chat"), house.create("alice", preset="public_chat")
    house.join("bob", one)
    mine, theirs = house.say("alice", one, "rocket"), house.say("bob", one, "rocket")
    other = house.say("alice", two, "rocket")
    assert set(found(house, "alice", "rocket", filter={"rooms": [one]})) == {mine, theirs}
    assert found(house, "alice", "rocket", filter={"not_rooms": [one]}) == [other]
    assert found(house, "alice", "rocket", filter={"senders": [house.user("bob")]}) == [theirs]
    assert set(found(house, "alice", "rocket", filter={"not_senders": [house.user("bob")]})) == {mine, other}
    assert found(house, "alice", "rocket", filter={"senders": ["@nobody:test.example"]}) == []
    assert found(house, "alice", "rocket", filter={"types": ["m.room.name"]}) == []
    assert found(house, "bob", "rocket", filter={"rooms": [two]}) == []
    ignore(house, "alice", "bob")
    answer = find(house, "alice", "rocket")
    assert (set(ids(answer)), answer["count"]) == ({mine, other}, 2)


def test_context_state_and_what_hangs_on_results(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", name="Den")
    house.join("bob", room_id)
    said = [house.say("bob", room_id, text) for text in ("1", "2", "3", "rocket", "4", "5")]
    relate(house, "alice", room_id, said[3], "m.thread")
    house.leave("bob", room_id)
    wanted = {"before_limit": 2, "after_limit": 1, "include_profile": True}
    (one,) = find(house, "alice", "rocket", event_context=wanted)["results"]
    around = one["context"]
    assert [event["content"]["body"] for event in around["events_before"]] == ["3", "2"]
    assert [event["content"]["body"] for event in around["events_after"]] == ["4"]
    assert set(around["profile_info"]) == {house.user("bob")}
    assert one["result"]["unsigned"]["m.relations"]["m.thread"]["count"] == 1
    assert one["result"]["room_id"] == room_id
    (one,) = find(house, "alice", "rocket")["results"]
    assert "context" not in one
    (one,) = find(house, "alice", "rocket", event_context={})["results"]
    assert len(one["context"]["events_before"]) == 5 and "profile_info" not in one["context"]
    state = find(house, "alice", "rocket", include_state=True)["state"]
    assert {event["type"] for event in state[room_id]} > {"m.room.name", "m.room.create"}
    house.set_state("alice", room_id, "m.room.name", {"name": "Secret"})
    theirs = find(house, "bob", "rocket", include_state=True)["state"][room_id]
    assert [event["content"]["name"] for event in theirs if event["type"] == "m.room.name"] == ["Den"]


# -- what may be seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("visibility", ["shared", "joined"])
def test_who_finds_what(house: LivedInHouse, visibility: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PIECE", 2)
    setting = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room_id = house.create("alice", preset="public_chat", initial_state=[setting])
    early = [house.say("alice", room_id, f"rocket early {n}") for n in range(3)]
    house.join("bob", room_id)
    middle = [house.say("alice", room_id, f"rocket middle {n}") for n in range(3)]
    house.leave("bob", room_id)
    late = [house.say("alice", room_id, f"rocket late {n}") for n in range(3)]
    theirs = {*middle, *(early if visibility == "shared" else ())}
    for limit in (2, 50):
        seen, _ = walk(house, "bob", "rocket", limit=limit)
        assert (set(seen), len(seen)) == (theirs, len(theirs))
    assert find(house, "bob", "late")["count"] == 0
    assert find(house, "bob", "early")["count"] == (3 if visibility == "shared" else 0)
    assert set(found(house, "alice", "rocket", limit=50)) == {*early, *middle, *late}
    assert found(house, "carol", "rocket") == []
    house.wait(house.memberships.invite(room_id, house.user("alice"), house.user("carol")))
    assert found(house, "carol", "rocket") == []
    house.join("carol", room_id)
    assert len(found(house, "carol", "rocket")) == (9 if visibility == "shared" else 0)
    house.wait(house.memberships.forget(room_id, house.user("bob")))
    assert found(house, "bob", "rocket") == []


def test_an_edit_that_is_not_seen_is_not_searched(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    said = house.say("alice", room_id, "rocket")
    house.leave("bob", room_id)
    assert found(house, "bob", "rocket") == [said]
    edit(house, "alice", room_id, said, "secret")
    for term in ("secret", "rocket"):
        answer = find(house, "bob", term)
        assert (answer["results"], answer["count"]) == ([], 0)
    assert found(house, "alice", "secret") == [said]


def test_not_in_encrypted_rooms(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.say("alice", room_id, "rocket")
    assert len(found(house, "alice", "rocket")) == 1
    house.set_state("alice", room_id, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    house.set_state("alice", room_id, "m.room.name", {"name": "rocket"})
    answer = find(house, "alice", "rocket")
    assert (answer["results"], answer["count"]) == ([], 0)


# -- what changes ------------------------------------------------------------------------------------------------


def words_in_the_index(house: LivedInHouse) -> str:
    def look(cursor: Any) -> str:
        table = "search_words" if cursor.dialect == "sqlite" else "search_docs"
        return str(cursor.execute(f"SELECT words FROM {table}").fetchall())

    return house.wait(house.house.database.run(look))


def test_what_is_taken_back_is_gone(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    indexed, waiting = house.say("alice", room_id, "rocket one"), ""
    assert found(house, "alice", "rocket") == [indexed]
    house.redact("alice", room_id, indexed)
    assert "rocket" not in words_in_the_index(house)  # before anybody looks
    waiting = house.say("alice", room_id, "rocket two")
    house.redact("alice", room_id, waiting)
    assert found(house, "alice", "rocket") == []
    assert "rocket" not in words_in_the_index(house)


def test_the_newest_text_counts(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    said = house.say("alice", room_id, "apple")
    first = edit(house, "alice", room_id, said, "banana")
    assert found(house, "alice", "banana") == [said]
    assert found(house, "alice", "apple") == []
    second = edit(house, "alice", room_id, said, "cherry")
    edit(house, "bob", room_id, said, "durian")
    assert found(house, "alice", "banana") == []
    assert found(house, "alice", "cherry") == [said]
    assert found(house, "alice", "durian") == []
    (one,) = find(house, "alice", "cherry")["results"]
    assert one["result"]["content"]["body"] == "apple"
    assert one["result"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == second
    house.redact("alice", room_id, second)
    assert "cherry" not in words_in_the_index(house)
    assert found(house, "alice", "banana") == [said]
    house.redact("alice", room_id, first)
    assert found(house, "alice", "apple") == [said]
    house.redact("alice", room_id, said)
    assert found(house, "alice", "apple") == []


def test_a_redaction_between_reading_and_writing(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cut into words before it was taken back does not come into the index after."""
    room_id = house.create("alice", preset="public_chat")
    said = house.say("alice", room_id, "rocket")
    prepared = indexing._prepare

    def prepare_slowly(cursor: Any, events: Any) -> Any:
        docs = prepared(cursor, events)
        if any(stored.event.event_id == said for stored in events):
            slow.append(docs)
        return docs

    slow: list[Any] = []
    monkeypatch.setattr(indexing, "_prepare", prepare_slowly)
    assert found(house, "alice", "rocket") == [said]
    house.redact("alice", room_id, said)
    house.wait(house.house.database.write(rows.write, slow[0]))
    assert "rocket" not in words_in_the_index(house)


@on_sqlite
def test_a_closed_account(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.say("bob", room_id, "rocket")
    assert len(found(house, "alice", "rocket")) == 1
    from homeserver.departures import Departures

    (departures,) = [one for one in house.house.accounts.listeners.accounts if isinstance(one, Departures)]
    house.wait(departures.account_deactivated(house.user("bob"), erase=True))
    assert found(house, "alice", "rocket") == []
    assert "rocket" not in words_in_the_index(house)


# -- restarts ----------------------------------------------------------------------------------------------------


def test_what_a_crash_left_out(tmp_path: Path, database_url: str) -> None:
    """Nothing of the index is written; then all of it is looked for, room by room, once more where that ends early."""
    house = open_house(tmp_path, database_url)
    rooms = [house.create("alice", preset="public_chat") for _ in range(3)]
    said = [house.say("alice", room_id, f"rocket {n}") for room_id in rooms for n in range(120)]
    changed = edit(house, "alice", rooms[0], said[0], "comet")
    house.house.indexer._waiting.clear()  # as if it had crashed
    house.wait(house.house.close())

    house = open_house(tmp_path, database_url)
    assert found(house, "alice", "rocket") == []
    late = house.say("alice", rooms[0], "rocket late")
    assert found(house, "alice", "rocket") == [late]
    house.wait(house.house.database.write(_forget_relations))
    house.wait(house.house.indexer.start())
    assert find(house, "alice", "rocket", limit=1)["count"] == len(said)
    assert found(house, "alice", "comet") == [said[0]]
    (one,) = find(house, "alice", "comet")["results"]
    assert one["result"]["unsigned"]["m.relations"]["m.replace"]["event_id"] == changed
    mark = int(house.wait(house.house.database.run(rows.mark, rows.UPTO)))
    assert mark == house.house.hub.position
    house.say("alice", rooms[1], "rocket again")
    house.wait(house.house.close())

    house = open_house(tmp_path, database_url)
    assert find(house, "alice", "rocket", limit=1)["count"] == len(said) + 1  # written when it was closed
    house.wait(house.house.close())


def _forget_relations(cursor: Any) -> None:
    cursor.execute("DELETE FROM relations")


@on_sqlite
def test_a_walk_that_is_interrupted(tmp_path: Path, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    rooms = [house.create("alice", preset="public_chat") for _ in range(3)]
    for room_id in rooms:
        house.say("alice", room_id, "rocket")
    upto = house.house.hub.position
    done = house.wait(house.house.rooms.require(rooms[1])).nid
    house.house.indexer._waiting.clear()
    house.wait(house.house.database.write(rows_mark, f"{upto} {done}"))
    for room_id in rooms:
        house.say("alice", room_id, "rocket late")
    house.house.indexer._waiting.clear()
    house.wait(house.house.close())
    house = open_house(tmp_path, database_url)
    house.wait(house.house.indexer.start())
    # The last room from before the interruption, and all of what came after.
    assert len(found(house, "alice", "rocket")) == 4
    house.wait(house.house.close())


def rows_mark(cursor: Any, value: str) -> None:
    rows.set_mark(cursor, rows.WALKED, value)


@on_sqlite
def test_more_than_can_be_held(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "MOST_WAITING", 5)
    house.wait(house.house.indexer.start())
    room_id = house.create("alice", preset="public_chat")
    for n in range(20):
        house.say("alice", room_id, f"rocket {n}")
    while house.house.tasks.names:
        house.wait(house.house.database.run(lambda cursor: None))
    assert len(found(house, "alice", "rocket", limit=50)) == 20
    assert int(house.wait(house.house.database.run(rows.mark, rows.UPTO))) == house.house.hub.position


@on_sqlite
def test_it_is_written_by_itself_after_a_while(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.say("alice", room_id, "rocket")
    assert "rocket" not in words_in_the_index(house)
    house.advance(indexing.WAIT_S)
    while house.house.tasks.names:
        house.wait(house.house.database.run(lambda cursor: None))
    assert "rocket" in words_in_the_index(house)


# -- bad input ---------------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("token", ["x", "q1_", "q1_!!", "q1_W10", "q1_bnVsbA", "t1_5", "q1_WyJhIl0"])
def test_tokens_of_others(house: LivedInHouse, token: str) -> None:
    with pytest.raises(InvalidParam):
        find(house, "alice", "rocket", next_batch=token)


@on_sqlite
def test_limits(house: LivedInHouse) -> None:
    with pytest.raises(InvalidParam):
        find(house, "alice", "x" * 5_000)
    with pytest.raises(InvalidParam):
        find(house, "alice", "x", event_context={"before_limit": -1})
    room_id = house.create("alice")
    house.say("alice", room_id, "rocket")
    assert find(house, "alice", "rocket", limit=0)["results"] == []
    assert find(house, "alice", "rocket " + " ".join(f"word{n}" for n in range(100)))["results"] == []
    (one,) = find(house, "alice", "rocket", event_context={"before_limit": 10**9, "after_limit": 0})["results"]
    assert one["context"]["events_before"]
