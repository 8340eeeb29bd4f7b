"""Statuses: what is chosen holds, and who is invisible is offline to everyone else, whatever is looked at."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.ephemeral.inbound.presence import PresenceThere
from homeserver.ephemeral.person import GONE_MS, IDLE_MS, Person
from homeserver.ephemeral.presence import PresenceBoard
from homeserver.errors import MatrixError
from homeserver.federation_out.passing import for_servers
from homeserver.userdata.profiles import Profiles
from tests.fixtures_house import open_house
from tests.friends.people import FriendHouse, street
from tests.guilds.api import at

__all__ = ["street"]

PHONE = "PHONE"


def seen(person: Person) -> str:
    return person.state


def test_busy_holds_as_long_as_a_device_is_here() -> None:
    person = Person("@ann:a.org")
    person.sync(PHONE, None, 0, 30_000)
    assert person.choose(PHONE, "busy", 10) and seen(person) == "busy"
    person.sync(PHONE, "online", 20, 3 * IDLE_MS)
    assert not person.act(30) and not person.look(2 * IDLE_MS) and seen(person) == "busy"
    assert person.look(20 + 3 * IDLE_MS + GONE_MS) and seen(person) == "offline"
    assert person.sync(PHONE, None, 4 * IDLE_MS, 0) and seen(person) == "busy"
    assert person.choose(PHONE, None, 4 * IDLE_MS) and seen(person) == "online"


def test_a_device_may_say_busy_by_itself() -> None:
    person = Person("@ann:a.org")
    assert person.say(PHONE, "busy", None, 0) and seen(person) == "busy"
    assert not person.act(5) and seen(person) == "busy"
    assert person.say(PHONE, "online", None, 10) and seen(person) == "online"


steps = st.lists(
    st.tuples(st.sampled_from(["sync", "online", "say", "act", "look"]), st.integers(0, 400_000)), max_size=30
)


@given(steps)
def test_nothing_that_the_invisible_do_is_seen(story: list[tuple[str, int]]) -> None:
    person = Person("@ann:a.org")
    person.sync(PHONE, None, 1000, 30_000)
    person.choose(PHONE, "invisible", 2000)
    before = (person.state, person.currently_active, person.last_active_ms)
    now = 2000
    for what, later in story:
        now += later
        match what:
            case "sync" | "online":
                differs = person.sync(PHONE, None if what == "sync" else "online", now, 30_000)
            case "say":
                differs = person.say(PHONE, "online", f"here {now}", now)
            case "act":
                differs = person.act(now)
            case _:
                differs = person.look(now)
        assert not differs
        assert (person.state, person.currently_active, person.last_active_ms) == before == ("offline", False, 1000)


def presence_of(street: FriendHouse, viewer: str, name: str, since: str | None = None) -> dict[str, Any]:
    """What a sync tells somebody of somebody; {}: nothing."""
    events = street.sync(viewer, since).get("presence", {}).get("events", [])
    return next((one["content"] for one in events if one["sender"] == street.user(name)), {})


def friends(street: FriendHouse) -> None:
    street.ask("ann", "bob")
    street.ask("bob", "ann")
    street.rest()


def status_of(street: FriendHouse, viewer: str) -> dict[str, Any]:
    (friend,) = street.call(viewer, "GET", "friends")["friends"]
    return {name: friend[name] for name in ("status", "status_msg", "last_seen_ts")}


def test_statuses_are_told(street: FriendHouse) -> None:
    friends(street)
    board = street.house.part(PresenceBoard)
    for status, state in (("online", "online"), ("away", "unavailable"), ("busy", "busy"), ("online", "online")):
        street.call("ann", "PUT", "status", {"status": status, "status_msg": "at sea"})
        street.advance(0.6)
        street.rest()
        told = street.wait(board.status(street.user("bob"), street.user("ann")))
        assert (told["presence"], told["status_msg"]) == (state, "at sea") and "chat.guildhall.status" not in told
        found = status_of(street, "bob")
        assert (found["status"], found["status_msg"]) == (status, "at sea") and found["last_seen_ts"] > 0
    street.call("ann", "PUT", "status", {"status": "busy"})
    street.advance(0.6)
    street.rest()
    assert presence_of(street, "bob", "ann") | {"last_active_ago": 0} == {
        "presence": "busy", "status_msg": "at sea", "last_active_ago": 0,
    }  # fmt: skip
    for body in ({}, {"status": "dancing"}, {"status": "busy", "status_msg": "x" * 1001}, {"status": 5}):
        assert street.refused("ann", "PUT", "status", body).startswith("400")


def test_invisible_is_offline_to_everyone_else(street: FriendHouse) -> None:
    friends(street)
    board = street.house.part(PresenceBoard)
    ann, bob = street.user("ann"), street.user("bob")
    board.seen(ann, None, PHONE, 30_000)
    street.advance(0.6)
    street.rest()
    assert status_of(street, "bob")["status"] == "online"
    street.call("ann", "PUT", "status", {"status": "invisible"})
    street.advance(0.6)
    street.rest()
    since = street.sync("bob")["next_batch"]
    gone = status_of(street, "bob")
    assert gone["status"] == "offline"
    assert presence_of(street, "ann", "ann")["chat.guildhall.status"] == "invisible"
    # Whatever she does, and over a restart: nobody is told, and it looks as if she had not been here.
    street.set_state("ann", street.dm("ann", "bob"), "m.room.topic", {"topic": "x"})
    board.set(ann, PHONE, "online", "here after all")
    board.seen(ann, "online", PHONE, 30_000)
    street.advance(0.6)
    street.rest()
    assert status_of(street, "bob") == gone and presence_of(street, "bob", "ann", since) == {}
    assert presence_of(street, "bob", "ann") == {}
    assert "here after all" not in str(street.wait(board.status(bob, ann)))
    assert street.wait(board.status(ann, ann))["status_msg"] == "here after all"
    street.call("ann", "PUT", "status", {"status": "online"})
    street.advance(0.6)
    street.rest()
    assert status_of(street, "bob")["status"] == "online"


def test_invisible_over_a_restart(tmp_path: Any, database_url: str) -> None:
    house = open_house(tmp_path, database_url)
    room_id = house.create("ann", preset="public_chat")
    house.join("bob", room_id)
    ann, bob = house.user("ann"), house.user("bob")
    house.house.part(PresenceBoard).seen(ann, None, PHONE, 30_000)
    house.wait(house.house.part(PresenceBoard).choose(ann, PHONE, "invisible"))
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    board = again.house.part(PresenceBoard)
    again.wait(board.start())
    since = again.sync("bob")["next_batch"]
    heard: list[str] = []

    class Listener:
        def presence_told(self, room_nids: Any, user_id: str, content: Any) -> None:
            heard.append(user_id)

    board.listeners.append(Listener())
    board.seen(ann, "online", PHONE, 30_000)
    assert board.peek(ann) == "offline" and "m.presence" not in str(again.sync("bob"))
    again.advance(0.6)
    again.wait(again.house.database.run(lambda cursor: None))
    again.wait(again.house.database.run(lambda cursor: None))
    assert ann not in heard and again.wait(board.status(bob, ann))["presence"] == "offline"
    assert "m.presence" not in str(again.sync("bob", since))
    assert again.wait(board.status(ann, ann))["chat.guildhall.status"] == "invisible"
    again.wait(again.house.close())


def test_busy_between_servers(street: FriendHouse) -> None:
    """To those that know nothing of it somebody is away, with words; to ours busy."""
    out = for_servers({"presence": "busy", "last_active_ago": 5})
    assert (out["presence"], out["status_msg"]) == ("unavailable", "Busy")
    assert for_servers({"presence": "busy", "status_msg": "at sea"})["status_msg"] == "at sea"
    assert for_servers({"presence": "online"}) == {"presence": "online"}
    heard: dict[str, Any] = {}

    class Board:
        async def receive(self, said: Any) -> None:
            heard.update(said)

    far = "@zoe:far.example"
    for sent, state, words in (
        (out, "busy", None),
        (for_servers({"presence": "busy", "status_msg": "at sea"}), "busy", "at sea"),
        ({"presence": "unavailable", "status_msg": "Busy"}, "unavailable", "Busy"),
        ({"presence": "online", "chat.guildhall.status": "busy"}, "online", None),
        ({"presence": "online", "chat.guildhall.status": [5]}, "online", None),
    ):
        street.wait(PresenceThere(Board())("far.example", {"push": [{**sent, "user_id": far}]}))  # type: ignore[arg-type]
        assert (heard[far].state, heard[far].status_msg) == (state, words)


@pytest.mark.parametrize("room", ["join", "none"])
def test_muting(street: FriendHouse, room: str) -> None:
    room_id = street.create("ann", preset="public_chat") if room == "join" else "!none"
    if room == "none":
        assert street.refused("ann", "PUT", at("mutes", room_id), {}).startswith("403")
        assert street.refused("ann", "DELETE", at("mutes", room_id)).startswith("404")
        return
    book = street.house.push.book

    def muted() -> bool:
        rules = street.wait(book.of(street.user("ann")))["override"]
        return any(rule["rule_id"] == room_id and rule["enabled"] and not rule["actions"] for rule in rules)

    assert street.refused("bob", "PUT", at("mutes", room_id), {}).startswith("403")
    street.call("ann", "PUT", at("mutes", room_id), {})
    assert muted()
    street.call("ann", "DELETE", at("mutes", room_id))
    assert not muted() and street.refused("ann", "DELETE", at("mutes", room_id)).startswith("404")
    now = street.house.clock.now_ms()
    street.call("ann", "PUT", at("mutes", room_id), {"until_ts": now + 5_000})
    assert muted()
    # The test's clock moves on by itself when it is looked at; its timers do when they are told to.
    while street.house.clock.now_ms() < now + 5_000:
        pass
    street.advance(6)
    street.rest()
    assert not muted()
    # One that has no end, and one whose end came while the server was down.
    street.call("ann", "PUT", at("mutes", room_id), {"until_ts": street.house.clock.now_ms() + 1_000})
    street.call("ann", "PUT", at("mutes", room_id), {})
    street.advance(60)
    street.rest()
    assert muted()
    until = street.house.clock.now_ms() + 1_000
    street.call("ann", "PUT", at("mutes", room_id), {"until_ts": until})
    street.house.friends.mutes.close()
    while street.house.clock.now_ms() < until:
        pass
    assert muted()
    street.wait(street.house.friends.mutes.start())
    assert not muted()
    for body in ({"until_ts": 5}, {"until_ts": "x"}, {"until_ts": -1}, {"until_ts": 1.5}):
        refusal = street.refused("ann", "PUT", at("mutes", room_id), body)
        assert refusal.startswith("400") and "until_ts" in refusal


def test_what_profiles_may_say(street: FriendHouse) -> None:
    profiles, ann = street.house.part(Profiles), street.user("ann")
    street.wait(profiles.set_field(ann, "chat.guildhall.description", "A sailor"))
    street.wait(profiles.set_field(ann, "chat.guildhall.banner", "mxc://a/b"))
    assert street.wait(profiles.get(ann))["chat.guildhall.description"] == "A sailor"
    for key, value in (("description", 5), ("description", "x" * 2001), ("banner", "https://a/b"), ("banner", {})):
        with pytest.raises(MatrixError) as caught:
            street.wait(profiles.set_field(ann, f"chat.guildhall.{key}", value))
        assert caught.value.status == 400 and key in caught.value.error
