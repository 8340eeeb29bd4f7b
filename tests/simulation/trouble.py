"""What the adversary does to the network and to the servers themselves. Hostile servers are in `villain`.

As with `steps`: a function under `@trouble(weight)` is taken at random by the plan of a seed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from attrs import frozen

from tests.simulation.network import Weather, short

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

EVIL = "evil.example"

Work = Callable[["Simulation", Random], Awaitable[str | None]]


@frozen
class Trouble:
    name: str
    weight: int
    work: Work
    is_hostile: bool
    """Whether it takes a hostile server."""


TROUBLES: dict[str, Trouble] = {}


def trouble(weight: int, *, is_hostile: bool = False) -> Callable[[Work], Work]:
    def register(work: Work) -> Work:
        name = work.__name__
        TROUBLES[name] = Trouble(name, weight, work, is_hostile)
        return work

    return register


def _duration(dice: Random) -> float:
    """Mostly moments; sometimes long enough for servers to give each other up."""
    return dice.choice((2, 10, 10, 40, 150)) * (0.5 + dice.random())


@trouble(6)
async def wall(simulation: Simulation, dice: Random) -> str | None:
    """Two groups of servers can't reach each other for a while."""
    names = sorted(simulation.machines)
    dice.shuffle(names)
    here = names[: dice.randint(1, len(names) - 1)]
    walls = {frozenset((one, other)) for one in here for other in names if other not in here}
    seconds = _duration(dice)
    simulation.network.walls |= walls

    def fall() -> None:
        simulation.network.walls -= walls
        simulation.world.note("a wall falls")

    simulation.world.later(seconds, fall)
    return f"a wall around {', '.join(map(short, sorted(here)))} for {seconds:.0f} s"


@trouble(4)
async def argument(simulation: Simulation, dice: Random) -> str | None:
    """Behind a wall somebody changes the levels and, by the new ones, a piece of state; on this side of it somebody
    else changes the same piece later, by the old ones.
    """
    able = [
        (one, other, room_id)
        for one in simulation.people
        for other in simulation.people
        for room_id in one.rooms.keys() & other.rooms.keys()
        if one.machine is not other.machine
        and one.may_set(room_id, "m.room.power_levels")
        and other.may_set(room_id, "m.room.topic")
    ]
    if not able:
        return None
    one, other, room_id = dice.choice(sorted(able, key=lambda pair: (pair[0].name, pair[1].name, pair[2])))
    here = one.machine.name
    walls = {frozenset((here, name)) for name in simulation.machines if name != here}
    simulation.network.walls |= walls
    try:
        levels = dict(one.rooms[room_id].content("m.room.power_levels"))
        replies = [
            await one.set_state(room_id, "m.room.power_levels", {**levels, "kick": dice.randint(0, 50)}),
            await one.set_state(room_id, "m.room.topic", {"topic": f"{one.name} {dice.getrandbits(16):04x}"}),
        ]
        await simulation.world.sleep(1 + 3 * dice.random())
        replies.append(
            await other.set_state(room_id, "m.room.topic", {"topic": f"{other.name} {dice.getrandbits(16):04x}"})
        )
        await simulation.world.sleep(2 * dice.random())
    finally:
        simulation.network.walls -= walls
    told = ", ".join(map(str, replies))
    return f"{one.label} and {other.label} disagree in {simulation.called(room_id)}: {told}"


@trouble(5)
async def weather(simulation: Simulation, dice: Random) -> str | None:
    seconds = _duration(dice)
    bad = Weather(
        latency_s=dice.choice((0.05, 0.5, 2)),
        slow=dice.choice((0, 0.1, 0.3)),
        lost=dice.choice((0, 0.05, 0.3)),
        unheard=dice.choice((0, 0.05, 0.3)),
        doubled=dice.choice((0, 0.1, 0.3)),
    )
    simulation.network.weather = bad

    def clear() -> None:
        if simulation.network.weather is bad:
            simulation.network.weather = Weather()

    simulation.world.later(seconds, clear)
    return f"{bad} for {seconds:.0f} s"


@trouble(4)
async def crash(simulation: Simulation, dice: Random) -> str | None:
    able = [machine for machine in simulation.honest if machine.is_up]
    if not able:
        return None
    machine = dice.choice(able)
    machine.crash()
    seconds = _duration(dice) if dice.random() < 0.5 else 1.0
    await simulation.world.sleep(seconds)
    if machine.timers is None:
        machine.boot()
    return None


@trouble(2)
async def stop(simulation: Simulation, dice: Random) -> str | None:
    able = [machine for machine in simulation.honest if machine.is_up]
    if not able:
        return None
    machine = dice.choice(able)
    await machine.stop()
    await simulation.world.sleep(_duration(dice))
    if machine.timers is None:
        machine.boot()
    return None


@trouble(2)
async def skew(simulation: Simulation, dice: Random) -> str | None:
    """Somebody's clock is set, wrongly or right."""
    machine = dice.choice(list(simulation.machines.values()))
    machine.skew_ms = dice.choice((0, -3_600_000, -20_000, 20_000, 3_600_000))
    return f"{machine.name}'s clock is {machine.skew_ms / 1000:.0f} s wrong"


@trouble(3)
async def slow_disk(simulation: Simulation, dice: Random) -> str | None:
    machine = dice.choice(list(simulation.machines.values()))
    before = machine.slowest_s
    machine.slowest_s = dice.choice((0.5, 3.0))
    await simulation.world.sleep(_duration(dice))
    machine.slowest_s = before
    return f"{machine.name}'s disk is as before"


@trouble(3)
async def replay(simulation: Simulation, dice: Random) -> str | None:
    """Somebody sends again what was sent long ago."""
    if not simulation.network.sent:
        return None
    origin, request = dice.choice(list(simulation.network.sent))
    simulation.network.replay(origin, request)
    return f"{short(origin)} sends {short(request.destination)} {request.path[:60]} again"
