"""All destinations together: turns, starts and ends, and what is written down."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from federation.outbound.destination import Limits
from federation.outbound.parcels import Pause
from federation.outbound.transport import Unreachable
from tests.federation.outbound.post import START_MS, US, World

A, B = "a.org", "b.org"


def servers(count: int, prefix: str = "s") -> list[str]:
    return [f"{prefix}{number}.org" for number in range(count)]


def test_we_tell_ourselves_nothing() -> None:
    world = World()
    world.say("r", US, A)
    world.sender.send_edu("x", {}, [US])
    world.run(1)
    assert world.told() == ["a.org: 1"]


def test_at_rest_nothing_is_remembered_and_nothing_written() -> None:
    world = World()
    world.say("r", A, B)
    world.run(60)
    assert world.sender.destination_count == 0 and world.disk.upto == 1
    saves = world.disk.saves
    world.run(600)
    assert world.disk.saves == saves
    assert len(world.clock.getDelayedCalls()) == 1  # the book-keeping


def test_while_peers_answer_only_the_mark_is_written() -> None:
    world = World(travel_s=0.1)
    for _ in range(200):
        world.say("r", A, B)
        world.run(1, 0.1)
        assert world.disk.owed == {}
    assert world.disk.saves <= 21


def test_many_requests_at_once_but_not_too_many() -> None:
    world = World(Limits(unproven_at_once=7, proven_at_once=9), travel_s=0.1)
    world.say("r", *servers(100))
    world.run(60)
    assert len(world.told()) == 100 and world.courier.most_at_once == 7
    world.say("r", *servers(100))
    world.run(60)
    assert len(world.told()) == 100 and world.courier.most_at_once == 9


def test_servers_that_hang_hold_up_none_that_answers() -> None:
    world = World(Limits(unproven_at_once=5, proven_at_once=5))
    alive, hanging = servers(20, "up"), servers(50, "down")
    world.say("r", *alive)
    world.run(1)
    assert sorted(world.told()) == sorted(f"{name}: 1" for name in alive)
    for name in hanging:
        world.courier.outcomes[name] = [Deferred()]
    world.say("r", *hanging, *alive)
    world.run(1)
    told = world.told()
    assert {f"{name}: 2" for name in alive} <= set(told) and world.sender.sending == 5


def test_many_dead_servers_cost_next_to_nothing() -> None:
    world = World()
    dead = servers(150, "dead")
    world.courier.manners.update(dict.fromkeys(dead, "down"))
    world.say("r", *dead)
    world.run(20_000, 10)
    attempts, saves = len(world.courier.txn_ids), world.disk.saves
    world.run(40_000, 10)
    assert len(world.courier.txn_ids) - attempts <= 3 * 150
    assert world.disk.saves - saves <= 150 * 4
    assert world.sender.queued_pdus == 0 and world.sender.queued_bytes == 0
    world.say("r", *dead, A)
    world.run(1)
    assert world.told() == ["a.org: 2"]


def test_stopped_in_good_order_everything_is_written_down() -> None:
    world = World()
    answer: Deferred[None] = Deferred()
    world.courier.outcomes[A] = [answer]
    world.say("r", A, B)
    world.run(1)
    world.say("s", A)
    world.stop()
    assert world.disk.upto == 2 and world.disk.owed == {(A, "r"): 1, (A, "s"): 2}
    answer.callback(None)
    world.told()
    world.start()
    world.run(20)
    assert world.told() == ["a.org: 1 2"] and world.disk.owed == {}
    assert len(set(world.courier.txn_ids)) == len(world.courier.txn_ids)


def test_killed_between_commit_and_sending_nothing_is_lost() -> None:
    world = World()
    world.say("r", A, B)
    world.kill()
    world.run(1)
    world.told()
    world.start()
    world.run(20)
    assert world.told() == ["a.org: 1", "b.org: 1"]


def test_killed_after_sending_costs_a_repetition_at_most() -> None:
    world = World()
    world.say("r", A)
    world.run(1)
    world.kill()
    world.start()
    world.run(20)
    assert world.told() == ["a.org: 1", "a.org: 1"]
    world.run(20)
    world.kill()
    world.start()
    world.run(20)
    assert world.told() == []


def test_what_takes_long_is_written_down_while_it_is_under_way() -> None:
    world = World()
    answer: Deferred[None] = Deferred()
    world.courier.outcomes[A] = [answer]
    world.say("r", A)
    world.run(25)
    assert world.disk.owed == {(A, "r"): 1} and world.disk.upto == 1
    answer.callback(None)
    world.run(25)
    assert world.disk.owed == {} and world.sender.destination_count == 0


def test_pauses_are_kept_over_restarts() -> None:
    world = World()
    world.courier.manners[A] = "down"
    world.say("r", A)
    world.run(5000)
    failures = world.sender._destinations[A].failures
    until_ms = world.sender._destinations[A].retry_at_ms
    world.kill()
    assert world.disk.pauses == {A: Pause(failures, until_ms)} and failures > 8
    attempts = len(world.courier.txn_ids)
    world.start()
    world.courier.manners[A] = "up"
    now_ms = START_MS + world.clock.seconds() * 1000
    assert until_ms > now_ms + 60_000
    world.run((until_ms - now_ms) / 1000 - 10)
    assert len(world.courier.txn_ids) == attempts
    world.run(20)
    assert world.told() == ["a.org: 1"]
    world.run(20)
    assert world.disk.pauses == {}


def test_the_one_who_failed_long_ago_is_forgotten() -> None:
    world = World()
    world.courier.manners[A] = "down"
    world.sender.send_edu("x", {}, [A])
    world.run(1000)
    assert world.disk.pauses.keys() == {A} and world.sender.destination_count == 1
    world.run(2 * 86_400, 60)
    assert world.disk.pauses == {} and world.sender.destination_count == 0


def test_a_disk_that_fails_for_a_while() -> None:
    world = World()
    world.courier.outcomes[A] = [Unreachable(A, "no")] * 6
    world.say("r", A)
    world.ledger.fails = True
    world.run(200)
    world.say("r", A, B)
    assert world.disk.owed == {} and world.disk.pauses == {}
    world.ledger.fails = False
    world.run(1000)
    told = world.told()
    assert told[-1] == "a.org: 2" and "b.org: 2" in told
    assert world.disk.owed == {} and world.disk.pauses == {} and world.disk.upto == 2
    assert world.sender.destination_count == 0


def test_put_out_of_a_room_while_away() -> None:
    world = World()
    world.courier.manners[A] = "down"
    world.say("r", A, B)
    world.run(300)
    put_out = world.put_out("r", A)
    world.say("r", B)
    world.run(300)
    world.told()
    world.courier.manners[A] = "up"
    world.sender.peer_is_alive(A)
    world.run(60)
    assert world.told() == [f"a.org: {put_out}"]


def test_killed_after_a_round_of_book_keeping_with_something_on_its_way() -> None:
    world = World()
    world.courier.outcomes[A] = [Deferred()]
    world.run(9)
    world.say("r", A)
    world.run(2)
    assert world.disk.owed == {}
    world.kill()
    world.told()
    world.start()
    world.run(20)
    assert world.told() == ["a.org: 1"]


def test_what_comes_while_the_books_are_kept_is_kept_too() -> None:
    world = World()
    world.courier.manners[A] = "down"
    world.say("r", A)
    world.run(55)
    world.save_s = 4.0
    world.say("r", A)
    world.run(7)
    assert world.disk.owed == {(A, "r"): 1}
    world.say("s", A)
    world.say("r", A)
    world.run(25)
    assert world.disk.owed == {(A, "r"): 4, (A, "s"): 3}


def test_debts_are_not_cleared_with_what_was_only_written_down_for_safety() -> None:
    world = World(Limits(queued_pdus=2))
    answer: Deferred[None] = Deferred()
    world.courier.outcomes[A] = [answer, Deferred()]
    world.say("r", A)
    world.run(25)
    for room in ("r", "s", "t"):
        world.say(room, A)
    answer.callback(None)
    world.run(25)
    assert world.told() == ["a.org: 1", "a.org: 2 3 4"]
    world.kill()
    world.start()
    world.run(20)
    assert world.told() == ["a.org: 2 3 4"]
