"""`python -m tests.simulation`: run seeds, or one of them with its story.

python -m tests.simulation run --seeds 1000 --first 1 --jobs 2
python -m tests.simulation replay 4711
python -m tests.simulation planted --jobs 2
"""

from __future__ import annotations

from tests.simulation.seeds import run_many  # isort: split

from os import cpu_count

import click


@click.group()
def main() -> None:
    """Several servers, one clock, one adversary."""


@main.command()
@click.option("--seeds", default=100, help="How many.")
@click.option("--first", default=1, help="The first of them.")
@click.option("--jobs", default=cpu_count() or 1, help="Processes.")
def run(seeds: int, first: int, jobs: int) -> None:
    """Run seeds; print each that fails."""
    failed = 0
    spent = 0.0
    for ran in run_many(range(first, first + seeds), jobs):
        spent += ran.cpu_s
        if ran.faults:
            failed += 1
            print(f"seed {ran.seed} ({ran.digest}) fails:", flush=True)
            for fault in ran.faults[:6]:
                print("    " + fault.strip().replace("\n", "\n    "), flush=True)
    print(f"{seeds} seeds, {failed} failed, {spent / seeds:.2f} s of CPU each")
    raise SystemExit(bool(failed))


@main.command()
@click.argument("seed", type=int)
@click.option("--without", default="", help="Numbers of steps to leave out, with commas.")
def replay(seed: int, without: str) -> None:
    """Run one seed and tell its story."""
    from tests.simulation.simulation import run_seed

    outcome = run_seed(seed, without={int(number) for number in without.split(",") if number}, is_told=True)
    print(outcome.plan)
    for line in outcome.story:
        print(line)
    print("digest", outcome.digest)
    for fault in outcome.faults:
        print("FAULT", fault)
    raise SystemExit(bool(outcome.faults))


@main.command()
@click.option("--seeds", default=200, help="How many are tried for each at most.")
@click.option("--first", default=10_001, help="The first of them.")
@click.option("--jobs", default=cpu_count() or 1, help="Processes.")
@click.option("--only", multiple=True, help="Of which mistakes; else of all.")
def planted(seeds: int, first: int, jobs: int, only: tuple[str, ...]) -> None:
    """Plant each of the known mistakes, and tell which seeds find it that find nothing without it."""
    from tests.simulation.planted import PLANTED

    numbers = range(first, first + seeds)
    missed = False
    for name in only or PLANTED:
        failed = {ran.seed: ran for ran in run_many(numbers, jobs, name) if ran.faults}
        found = [failed[ran.seed] for ran in run_many(sorted(failed), jobs) if not ran.faults]
        missed = missed or not found
        which = [ran.seed - first + 1 for ran in found]
        print(f"{name}: {len(found)} of {seeds} seeds find it; the first is number {min(which, default=None)}")
        for ran in found[:10]:
            print(f"    {ran.seed}: {ran.faults[0][:200]}", flush=True)
    raise SystemExit(missed)


if __name__ == "__main__":
    main()
