"""One server's queue: what is sent when, together with what, and how often after what."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred

from federation.outbound.destination import Limits, State
from federation.outbound.transport import BadAnswer, Refused, Unreachable
from tests.federation.outbound.post import World

A, B = "a.org", "b.org"
NO_ANSWER = Unreachable(A, "no answer")
OBJECTION = Refused(A, 400, "M_BAD_JSON", "I do not like it")


@pytest.fixture
def world() -> World:
    return World()


def state(world: World, server: str = A) -> State:
    return world.sender.states()[server][0]


def test_what_is_committed_together_goes_together(world: World) -> None:
    for _ in range(3):
        world.say("r", A, B)
    world.run(1)
    assert world.told() == ["a.org: 1 2 3", "b.org: 1 2 3"]
    assert state(world) is State.RESTING and world.sender.queued_pdus == 0


def test_one_request_at_a_time_and_the_next_has_what_came_meanwhile(world: World) -> None:
    answer: Deferred[None] = Deferred()
    world.courier.outcomes[A] = [answer]
    world.say("r", A)
    world.run(1)
    world.say("r", A)
    world.say("r", A)
    world.run(30)
    assert world.told() == ["a.org: 1"] and state(world) is State.SENDING
    answer.callback(None)
    world.run(1)
    assert world.told() == ["a.org: 2 3"]
    assert len(set(world.courier.txn_ids)) == 2


def test_no_more_than_fifty_events_at_a_time(world: World) -> None:
    for _ in range(120):
        world.say("r", A)
    world.run(1)
    assert [len(line.split()) - 1 for line in world.told()] == [50, 50, 20]


def test_a_failed_transaction_is_repeated_as_it_was(world: World) -> None:
    world.courier.outcomes[A] = [NO_ANSWER, BadAnswer(A, "a portal"), Refused(A, 502)]
    world.say("r", A)
    world.run(0.1)
    assert world.told() == ["a.org: 1 (Unreachable)"] and state(world) is State.BACKING_OFF
    world.say("r", A)
    world.run(1.6)
    assert world.told() == ["a.org: 1 (BadAnswer)"]
    world.run(3.1)
    assert world.told() == ["a.org: 1 (Refused)"]
    world.run(6.5)
    assert world.told() == ["a.org: 1", "a.org: 2"]
    assert len(set(world.courier.txn_ids[:4])) == 1 and len(set(world.courier.txn_ids)) == 2


def test_pauses_grow_to_a_day(world: World) -> None:
    world.courier.manners[A] = "down"
    world.say("r", A)
    pauses = []
    for _ in range(20):
        world.run(0.2, 0.1)
        destination = world.sender._destinations[A]
        before = destination.failures
        started = world.clock.seconds()
        while destination.failures == before:
            world.run(max(0.1, min(60.0, (world.clock.seconds() - started) / 50)), 60)
        pauses.append(world.clock.seconds() - started)
    assert pauses[0] < 3 and pauses[1] < 5
    assert all(later >= earlier for earlier, later in pairwise(pauses) if earlier < 50_000)
    assert all(60_000 < pause <= 86_400 for pause in pauses[-3:])


def test_a_date_that_is_set_back_makes_no_pause_longer(world: World) -> None:
    world.courier.manners[A] = "down"
    world.sender.send_edu("m.x", {}, [A])
    world.run(600)
    assert state(world) is State.RESTING  # given up, and nothing is owed
    world.date_off_ms -= 86_400_000
    del world.courier.manners[A]
    world.say("r", A)
    world.run(1_200)
    assert world.told() == ["a.org: 1"]


def test_a_peer_that_asks_for_patience_gets_it(world: World) -> None:
    world.courier.outcomes[A] = [Refused(A, 429, "M_LIMIT_EXCEEDED", "slowly", 60_000)]
    world.say("r", A)
    world.run(59)
    assert world.told() == ["a.org: 1 (Refused)"]
    world.run(2)
    assert world.told() == ["a.org: 1"]


def test_a_lost_server_is_told_of_the_newest_events(world: World) -> None:
    world.courier.manners[A] = "down"
    for room in ("r", "s", "t"):
        world.say(room, A)
    world.run(120)
    for _ in range(100):
        world.say("r", A)
    assert world.sender.queued_pdus == 0 and world.sender.queued_bytes == 0
    world.run(10)
    assert world.disk.owed == {(A, "r"): 103, (A, "s"): 2, (A, "t"): 3}
    world.courier.manners[A] = "up"
    world.run(300)
    assert world.told() == ["a.org: 103", "a.org: 2 3"]  # the first finds out whether it is back
    world.say("r", A)
    world.run(20)
    assert world.told() == ["a.org: 104"]
    assert world.disk.owed == {} and world.disk.pauses == {} and world.sender.destination_count == 0


def test_a_sign_of_life_ends_the_pause(world: World) -> None:
    world.courier.manners[A] = "down"
    world.say("r", A)
    world.run(3600)
    world.courier.manners[A] = "up"
    assert world.told() == []
    world.sender.peer_is_alive(A)
    world.run(0.2)
    assert world.told() == ["a.org: 1"]
    world.sender.peer_is_alive(B)
    assert B not in world.sender.states()


def test_a_sign_of_life_puts_no_attempt_off(world: World) -> None:
    world.courier.manners[A] = "down"
    world.say("r", A)
    world.run(0.5)
    world.courier.manners[A] = "up"
    world.sender.peer_is_alive(A)
    world.run(2)
    assert world.told() == ["a.org: 1"]


def test_a_sign_of_life_of_a_server_that_nothing_waits_for_lets_it_rest(world: World) -> None:
    """Found by the simulation's seed 772."""
    world.courier.manners[A] = "down"
    world.sender.send_edu("m.typing", {"n": 1}, [A], key="k")
    world.run(120)
    assert world.sender.states() and world.sender.queued_pdus == 0  # given up after five attempts
    world.run(600)
    world.sender.peer_is_alive(A)
    world.run(11)
    assert world.disk.pauses == {} and world.sender.destination_count == 0


def test_signs_of_life_of_a_server_that_takes_nothing_cost_an_attempt_in_ten_seconds(world: World) -> None:
    world.courier.manners[A] = "down"
    world.say("r", A)
    world.run(300)
    before = len(world.courier.txn_ids)
    for _ in range(600):
        world.sender.peer_is_alive(A)
        world.run(0.1)
    assert len(world.courier.txn_ids) - before <= 7


def test_too_much_for_one_server_is_owed(world: World) -> None:
    answer: Deferred[None] = Deferred()
    world.courier.outcomes[A] = [answer]
    world.say("r", A)
    world.run(0.1)
    for _ in range(251):
        world.say("r", A, B)
    world.say("s", A)
    world.run(1)
    world.told()
    answer.callback(None)
    world.run(1)
    assert world.told() == ["a.org: 252 253"]
    world.say("s", A)
    world.run(1)
    assert world.told() == ["a.org: 254"]


def test_all_queues_together_are_bounded() -> None:
    world = World(Limits(held_pdus=10))
    world.courier.manners.update(dict.fromkeys((A, B), "down"))
    for _ in range(30):
        world.say("r", A, B)
        assert world.sender.queued_pdus <= 10
    world = World(Limits(held_bytes=5))
    world.courier.manners.update(dict.fromkeys((A, B), "down"))
    for _ in range(30):
        world.say("r", A, B)
        assert world.sender.queued_bytes <= 5


def test_an_event_is_counted_once_however_many_wait_for_it(world: World) -> None:
    world.courier.manners.update({f"{n}.org": "down" for n in range(9)})
    world.say("r", *(f"{n}.org" for n in range(9)))
    assert (world.sender.queued_pdus, world.sender.queued_bytes) == (9, 1)


def test_what_a_peer_objects_to_is_found_and_left_out(world: World) -> None:
    # It refuses whatever has 2 in it.
    world.courier.outcomes[A] = [OBJECTION, None, OBJECTION, OBJECTION]
    for _ in range(4):
        world.say("r", A)
    world.run(60)
    assert world.told() == [
        "a.org: 1 2 3 4 (Refused)",
        "a.org: 1",
        "a.org: 2 3 (Refused)",
        "a.org: 2 (Refused)",
        "a.org: 3",
        "a.org: 4",
    ]
    assert world.sender.queued_pdus == 0


def test_passing_things_that_a_peer_objects_to_are_left_out_first(world: World) -> None:
    world.courier.outcomes[A] = [OBJECTION]
    world.say("r", A)
    world.sender.send_edu("x", {}, [A])
    world.run(60)
    assert world.told() == ['a.org: 1 {"content":{},"edu_type":"x"} (Refused)', "a.org: 1"]


def test_a_proxy_in_between_that_refuses_everything_makes_nothing_lost(world: World) -> None:
    world.courier.outcomes[A] = [Refused(A, 400), Refused(A, 413), Refused(A, 413), Refused(A, 404), Refused(A, 403)]
    for _ in range(3):
        world.say("r", A)
    world.run(300)
    assert world.told()[-1] == "a.org: 3"


class TestPassingThings:
    """Typing and the like."""

    def test_a_newer_one_takes_the_place_of_the_older(self, world: World) -> None:
        answer: Deferred[None] = Deferred()
        world.courier.outcomes[A] = [answer]
        world.say("r", A)
        world.run(1)
        for number in range(5):
            world.sender.send_edu("x", {"n": number}, [A], "key")
        world.sender.send_edu("y", {}, [A])
        world.sender.send_edu("y", {}, [A])
        answer.callback(None)
        world.run(1)
        other = '{"content":{},"edu_type":"y"}'
        assert world.told() == ["a.org: 1", f'a.org: {{"content":{{"n":4}},"edu_type":"x"}} {other} {other}']

    def test_they_wait_for_company_but_no_event_waits_for_them(self, world: World) -> None:
        world.sender.send_edu("x", {}, [A, B], "key", linger_s=20)
        world.run(5)
        assert world.told() == [] and state(world) is State.GATHERING
        world.say("r", A)
        world.run(1)
        assert world.told() == ['a.org: 1 {"content":{},"edu_type":"x"}']
        world.sender.send_edu("z", {}, [B], linger_s=2)
        world.run(3)
        assert world.told() == ['b.org: {"content":{},"edu_type":"x"} {"content":{},"edu_type":"z"}']

    def test_no_more_than_a_hundred_at_a_time_and_few_wait(self, world: World) -> None:
        for number in range(1000):
            world.sender.send_edu("x", {"n": number}, [A], number)
        world.run(1)
        assert [line.count("edu_type") for line in world.told()] == [100, 100]

    def test_nobody_waits_with_them_for_a_server_that_is_lost(self, world: World) -> None:
        world.courier.manners[A] = "down"
        world.sender.send_edu("x", {}, [A])
        world.run(600)
        attempts = len(world.courier.txn_ids)
        assert attempts == 5 and state(world) is State.RESTING
        world.sender.send_edu("x", {}, [A])
        world.run(600)
        world.courier.manners[A] = "up"
        world.sender.send_edu("x", {}, [A])
        world.run(600)
        assert world.told() == ['a.org: {"content":{},"edu_type":"x"}']


def test_what_is_owed_while_the_ledger_is_asked_is_not_forgotten() -> None:
    """The answer says that nothing is owed; it was true when it was asked."""
    world = World(Limits(queued_pdus=2, patience=1))
    world.courier.manners["a.org"] = "down"
    world.say("r", "a.org")
    world.run(25)
    world.courier.manners["a.org"] = "up"
    world.save_s = 12.0
    world.sender.peer_is_alive("a.org")
    while not world.told():
        world.run(0.5)
    world.run(13)  # what was delivered is settled, and the ledger is asked for more
    world.save_s = 0.001
    for _ in range(3):
        world.say("r", "a.org")
    world.run(60)
    assert world.told()[-1:] == ["a.org: 4"]
