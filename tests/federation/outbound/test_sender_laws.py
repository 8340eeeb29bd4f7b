"""Whatever outages, restarts and overflows happen: every event that was committed is delivered to all whom it concerns,
or comes before one that was, and so is all news of people; each letter is delivered; each topic's in order; and when
all is well again, nothing is left in memory or on disk.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from federation.outbound.destination import Limits
from federation.outbound.parcels import LETTERS
from tests.federation.outbound.post import World

SERVERS = ("a.org", "b.org")
ROOMS = ("r", "s", "t")
PEOPLE = ("@ann", "@bob")

says = st.tuples(st.just("say"), st.sampled_from(ROOMS), st.integers(1, 8))
waits = st.tuples(
    st.just("run"), st.sampled_from([0.0, 0.005, 0.03, 0.1, 0.3, 1.0, 3.0, 5.0, 8.0, 10.2, 100.0, 5000.0])
)
kills = st.tuples(st.just("kill"))
steps = st.one_of(
    says,
    st.tuples(st.just("say to all"), st.integers(1, 3)),
    st.tuples(st.just("change"), st.sampled_from(PEOPLE), st.integers(1, 3)),
    st.tuples(st.just("write"), st.sampled_from(SERVERS), st.integers(1, 8)),
    waits,
    waits,
    st.tuples(st.just("manner"), st.sampled_from(SERVERS), st.sampled_from(["up", "up", "down", "deaf", "picky"])),
    kills,
    st.one_of(
        st.tuples(st.just("put out"), st.sampled_from(ROOMS), st.sampled_from(SERVERS)),
        st.tuples(st.just("come in"), st.sampled_from(ROOMS), st.sampled_from(SERVERS)),
        st.tuples(st.just("alive"), st.sampled_from(SERVERS)),
        st.tuples(st.just("passing"), st.sampled_from(SERVERS)),
        st.tuples(st.just("stop")),
        st.tuples(st.just("disk"), st.booleans()),
    ),
)


def act(world: World, step: tuple) -> None:
    match step:
        case "say", room, count:
            for _ in range(count):
                world.say(room, *sorted(world.members[room]))
        case "say to all", count:
            for _ in range(count):
                for room in ROOMS:
                    world.say(room, *sorted(world.members[room]))
        case "change", person, count:
            for _ in range(count):
                world.change(person, *SERVERS)
        case "write", server, count:
            for _ in range(count):
                world.write(server)
        case "put out", room, server:
            if server in world.members[room]:
                world.put_out(room, server)
        case "come in", room, server:
            world.members[room].add(server)
        case "manner", server, manner:
            world.courier.manners[server] = manner
        case "alive", server:
            world.sender.peer_is_alive(server)
        case "passing", server:
            world.sender.send_edu("x", {}, [server], "key", 3.0)
        case "run", seconds:
            world.run(seconds, max(0.05, seconds / 100))
        case ("kill",):
            world.kill()
            world.start()
        case ("stop",):
            world.stop()
            world.start()
        case "disk", fails:
            world.ledger.fails = world.disk_fails = fails


# A disk that fails at the start, and begins to work while something newer is on its way.
NOT_AT_FIRST = [
    [("disk", True), ("say to all", 1), ("say to all", 2), ("say to all", 1), ("kill",), ("say", "t", 7)],
]
NOT_FOR_LONG = [
    [("disk", True), ("say", "s", 1), ("kill",), ("say to all", 1), ("disk", False), *2 * [("say to all", 1)]],
]
PUT_OUT_BEFORE = [[("say to all", 1), ("disk", True), ("kill",), ("put out", "r", "a.org")]]


@settings(max_examples=100)
@example(NOT_AT_FIRST, 6374, 0.02, 1.0)
@example(NOT_FOR_LONG, 0, 0.02, 0.001)
@example(PUT_OUT_BEFORE, 0, 0.0, 0.001)
@given(
    st.lists(st.lists(steps, min_size=2, max_size=15), min_size=1, max_size=10),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.02, 0.4, 4.0]),
    st.sampled_from([0.001, 0.05, 1.0]),
)
def test_nothing_is_lost(chapters: list[list[tuple]], seed: int, travel_s: float, save_s: float) -> None:
    limits = Limits(queued_pdus=6, patience=2, held_pdus=15, proven_at_once=2, unproven_at_once=1)
    world = World(limits, travel_s, Random(seed))
    world.save_s = save_s
    for room in ROOMS:
        world.members[room].update(SERVERS)
    for chapter in chapters:
        for step in chapter:
            act(world, step)
            assert world.sender.queued_pdus <= limits.held_pdus
        heal(world)
        check(world)


def heal(world: World) -> None:
    """Everybody is up again, and two days pass."""
    world.ledger.fails = world.disk_fails = False
    for server in SERVERS:
        world.courier.manners[server] = "up"
    world.run(30, 1)
    world.run(2 * 86_400, 900)
    world.run(60, 1)


def check(world: World) -> None:
    delivered: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line in world.log:
        server, _, words = line.partition(": ")
        for word in words.split():
            if word.isdigit() and int(word) not in delivered[server, world.events[int(word)][0]]:
                delivered[server, world.events[int(word)][0]].append(int(word))
    for positions in delivered.values():
        assert positions == sorted(positions), "in the order of the topic"
    newest = {key: positions[-1] for key, positions in delivered.items() if positions}
    for position, (room, servers) in world.events.items():
        for server in servers:
            assert newest.get((server, room), 0) >= position, f"{server} never hears of {position}"
            assert room != LETTERS or position in delivered[server, LETTERS], f"{server} never gets {position}"

    assert world.sender.queued_pdus == world.sender.queued_bytes == world.sender.sending == 0
    assert world.sender.destination_count == 0
    assert not any(world.disk.letters.values())
    assert world.disk.owed == {} and world.disk.pauses == {} and world.disk.upto == world.position
    assert len(world.clock.getDelayedCalls()) == 1, "the book-keeping"
    assert world.errors == []
