"""Whose devices a client is told to ask for again, and whose it need not watch any more."""

from __future__ import annotations

from pathlib import Path

from tests.encryption.village import Villager
from tests.fixtures_house import QUIET, LivedInHouse, open_house


def enter(house: LivedInHouse, *names: str) -> list[Villager]:
    """People with a device each, that has keys; all that is new they know."""
    found = [Villager.enter(house, name) for name in names]
    for villager in found:
        villager.upload()
    for villager in found:
        villager.sync()
    return found


def told(villager: Villager) -> tuple[list[str], list[str]]:
    """What a sync tells since the last one; the tables must say the same."""
    since = villager.since
    assert since is not None
    from_tables = villager.lists_from_tables(since)
    lists = villager.lists()
    assert lists == from_tables
    return lists


def test_those_who_share_a_room_hear_of_new_keys(house: LivedInHouse) -> None:
    alice, bob, carol = enter(house, "alice", "bob", "carol")
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    for one in (alice, bob):
        one.sync()
    Villager.enter(house, "alice", "SECOND").upload()
    assert told(alice) == told(bob) == (["alice"], [])
    assert told(carol) == ([], [])
    house.wait(house.house.accounts.sessions.end_devices(alice.user_id, ["SECOND"]))
    assert told(alice) == told(bob) == (["alice"], [])
    bob.sign_in_public()
    assert told(alice) == told(bob) == (["bob"], [])
    assert set(alice.sync()) == QUIET


def test_a_device_without_keys_is_no_news(house: LivedInHouse) -> None:
    (alice,) = enter(house, "alice")
    Villager.enter(house, "alice", "SECOND")
    house.wait(house.house.accounts.sessions.end_devices(alice.user_id, ["SECOND"]))
    alice.upload(5)
    assert set(alice.sync()) == QUIET


def test_who_waits_is_woken(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice", "bob")
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    since = bob.sync()["next_batch"]
    waiting = house.start_sync("bob", since, timeout_ms=30_000)
    Villager.enter(house, "alice", "SECOND").upload()
    house.advance(0)
    assert b'"device_lists":{"changed":["@alice:test.example"],"left":[]}' in house.wait(waiting)
    assert alice.lists() == (["alice", "bob"], [])


def test_coming_and_going(house: LivedInHouse) -> None:
    alice, bob, carol = enter(house, "alice", "bob", "carol")
    room_id = house.create("alice", preset="public_chat")
    assert told(alice) == (["alice"], [])
    house.join("bob", room_id)
    assert told(alice) == (["bob"], [])
    assert told(bob) == (["alice", "bob"], [])
    house.join("carol", room_id)
    assert told(alice) == told(bob) == (["carol"], [])
    assert told(carol) == (["alice", "bob", "carol"], [])
    house.leave("bob", room_id)
    assert told(alice) == told(carol) == ([], ["bob"])
    assert told(bob) == ([], ["alice", "carol"])
    house.join("bob", room_id)
    assert told(alice) == told(carol) == (["bob"], [])


def test_who_shares_another_room_has_not_left(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice", "bob")
    rooms = [house.create("alice", preset="public_chat") for _ in range(2)]
    for room_id in rooms:
        house.join("bob", room_id)
    alice.sync()
    bob.sync()
    house.leave("bob", rooms[0])
    assert told(alice) == told(bob) == ([], [])
    house.leave("bob", rooms[1])
    assert told(alice) == ([], ["bob"])
    assert told(bob) == ([], ["alice"])


def test_who_came_and_went_between_two_syncs(house: LivedInHouse) -> None:
    alice, bob, carol = enter(house, "alice", "bob", "carol")
    room_id = house.create("alice", preset="public_chat")
    alice.sync()
    house.join("bob", room_id)
    house.leave("bob", room_id)
    house.join("carol", room_id)
    house.leave("carol", room_id)
    house.join("carol", room_id)
    assert told(alice) == (["carol"], ["bob"])
    assert told(carol) == (["alice", "carol"], [])
    assert told(bob) == ([], ["alice"])


def test_who_has_left_hears_no_more(house: LivedInHouse) -> None:
    _, bob, carol = enter(house, "alice", "bob", "carol")
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    bob.sync()
    house.leave("bob", room_id)
    Villager.enter(house, "alice", "SECOND").upload()
    house.join("carol", room_id)
    assert told(bob) == ([], ["alice"]), "who came afterwards is none of his business"
    Villager.enter(house, "alice", "THIRD").upload()
    assert told(bob) == ([], [])
    assert set(carol.lists()[0]) == {"alice", "carol"}


def test_an_invitation_tells_nothing_of_who_is_there(house: LivedInHouse) -> None:
    alice, bob = enter(house, "alice", "bob")
    room_id = house.create("alice", invite=[bob.user_id])
    assert told(bob) == ([], [])
    house.leave("bob", room_id)
    assert told(bob) == ([], [])
    assert told(alice) == (["alice"], [])


def test_a_first_sync_tells_of_no_changes(house: LivedInHouse) -> None:
    (alice,) = enter(house, "alice")
    house.create("alice")
    alice.since = None
    assert "device_lists" not in alice.sync()


def test_an_old_token_is_answered_from_the_tables(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    alice, bob, carol = enter(house, "alice", "bob", "carol")
    room_id = house.create("alice", preset="public_chat")
    house.join("bob", room_id)
    house.join("carol", room_id)
    for one in (alice, bob, carol):
        one.sync()
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    house.house, house.reactor = again.house, again.reactor
    Villager.enter(house, "alice", "SECOND").upload()
    house.leave("carol", room_id)
    assert told(bob) == (["alice"], ["carol"])
    assert told(carol) == ([], ["alice", "bob"])
    assert told(alice) == (["alice"], ["carol"])
