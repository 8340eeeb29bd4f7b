"""What a seed is about: which servers and people, which rooms, and what happens when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attrs import evolve, frozen

from tests.simulation import steps, trouble, villain
from tests.simulation.world import World

assert villain  # it puts what it can into the book of troubles
NAMES = ("ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida")


@frozen
class PlannedStep:
    number: int
    """In the whole plan: it keeps its number, and with it its dice, whatever is left out."""
    at_s: float
    """Since the trouble began."""
    name: str


@frozen
class Plan:
    seed: int
    servers: Sequence[str]
    people: Sequence[tuple[str, str]]
    """Server and localpart. The first person of a server that has one is always there."""
    rooms: Sequence[tuple[int, str]]
    """Founder (by place in `people`) and version."""
    slowest_s: float
    """How long a database may take for something."""
    keeps: int
    """State that a server keeps in memory; 0: as usual."""
    steps: Sequence[PlannedStep]

    def leave_out(self, numbers: Collection[int]) -> Plan:
        return evolve(self, steps=[step for step in self.steps if step.number not in numbers])

    def __str__(self) -> str:
        rooms = ", ".join(f"{self.people[founder][1]}'s of version {version}" for founder, version in self.rooms)
        return f"{len(self.servers)} servers, {len(self.people)} people, {len(self.steps)} steps; rooms: {rooms}"


def make_plan(seed: int) -> Plan:
    dice = World(seed).dice("plan")
    servers = [f"{letter}.example" for letter in "abcd"[: dice.choice((2, 3, 3, 4))]]
    is_hostile = dice.random() < 0.5
    if is_hostile:
        servers.append(trouble.EVIL)
    people = []
    names = iter(NAMES)
    for server in servers:
        for _ in range(1 if server == trouble.EVIL else dice.choice((1, 1, 2))):
            people.append((server, next(names)))
    honest = [place for place, (server, _) in enumerate(people) if server != trouble.EVIL]
    rooms = [(dice.choice(honest), dice.choice(steps.VERSIONS)) for _ in range(dice.choice((1, 1, 2)))]
    weights: dict[str, int] = {name: step.weight for name, step in steps.STEPS.items()}
    for name, one in trouble.TROUBLES.items():
        if is_hostile or not one.is_hostile:
            weights[name] = one.weight
    weights = _flavoured(weights, dice)
    planned = []
    at_s = 0.0
    names_, odds = list(weights), list(weights.values())
    for number in range(dice.randint(30, 70)):
        at_s += dice.expovariate(1 / 8) if dice.random() < 0.5 else 0.2 * dice.random()
        planned.append(PlannedStep(number, at_s, dice.choices(names_, odds)[0]))
    return Plan(
        seed=seed,
        servers=servers,
        people=people,
        rooms=rooms,
        slowest_s=dice.choice((0.005, 0.02, 0.3)),
        keeps=dice.choice((0, 0, 0, 30)),
        steps=planned,
    )


def _flavoured(weights: Mapping[str, int], dice: object) -> dict[str, int]:
    """Each seed is about some things more than about others."""
    from random import Random

    assert isinstance(dice, Random)
    return {name: weight * dice.choice((0, 1, 1, 1, 4)) for name, weight in weights.items()}
