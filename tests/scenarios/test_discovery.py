"""Each step of the ladder by which servers find each other, with a Synapse that climbs it too.

Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
from attrs import field, frozen

from homeserver.harness.client import until
from homeserver.harness.town import Door, Place, Town
from tests.fixtures_town import wait_for_agreement, wait_for_members
from tests.scenarios.small_internet import Services, furnish, run_inside


@frozen
class Rung:
    """A server that is found by one step: where it is, and what the names around it say."""

    place: Place
    hosts: dict[str, str] = field(factory=dict)
    services: Services = field(factory=dict)


RUNGS = {
    "1": Rung(Place("127.1.0.1", (Door("127.1.0.1", 8448, "127.1.0.1"),))),
    "2": Rung(Place("two.test:8450", (Door("127.1.0.2", 8450, "two.test"),)), {"two.test": "127.1.0.2"}),
    "3.1": Rung(
        Place(
            "three-one.test",
            (
                Door("127.1.0.31", 443, "three-one.test", well_known="127.1.1.31:8451"),
                Door("127.1.1.31", 8451, "127.1.1.31"),
            ),
        ),
        {"three-one.test": "127.1.0.31"},
    ),
    "3.2": Rung(
        Place(
            "three-two.test",
            (
                Door("127.1.0.32", 443, "three-two.test", well_known="fed.three-two.test:8452"),
                Door("127.1.1.32", 8452, "fed.three-two.test"),
            ),
        ),
        {"three-two.test": "127.1.0.32", "fed.three-two.test": "127.1.1.32"},
    ),
    "3.3": Rung(
        Place(
            "three-three.test",
            (
                Door("127.1.0.33", 443, "three-three.test", well_known="fed.three-three.test"),
                Door("127.1.1.33", 8453, "fed.three-three.test"),
            ),
        ),
        {"three-three.test": "127.1.0.33", "machine.three-three.test": "127.1.1.33"},
        {"_matrix-fed._tcp.fed.three-three.test": (8453, "machine.three-three.test")},
    ),
    "3.4": Rung(
        Place(
            "three-four.test",
            (
                Door("127.1.0.34", 443, "three-four.test", well_known="fed.three-four.test"),
                Door("127.1.1.34", 8454, "fed.three-four.test"),
            ),
        ),
        {"three-four.test": "127.1.0.34", "machine.three-four.test": "127.1.1.34"},
        {"_matrix._tcp.fed.three-four.test": (8454, "machine.three-four.test")},
    ),
    "3.5": Rung(
        Place(
            "three-five.test",
            (
                Door("127.1.0.35", 443, "three-five.test", well_known="fed.three-five.test"),
                Door("127.1.1.35", 8448, "fed.three-five.test"),
            ),
        ),
        {"three-five.test": "127.1.0.35", "fed.three-five.test": "127.1.1.35"},
    ),
    "4": Rung(
        Place("four.test", (Door("127.1.0.4", 8455, "four.test"),)),
        {"machine.four.test": "127.1.0.4"},
        {"_matrix-fed._tcp.four.test": (8455, "machine.four.test")},
    ),
    "5": Rung(
        Place("five.test", (Door("127.1.0.5", 8456, "five.test"),)),
        {"machine.five.test": "127.1.0.5"},
        {"_matrix._tcp.five.test": (8456, "machine.five.test")},
    ),
    "6": Rung(Place("six.test", (Door("127.1.0.6", 8448, "six.test"),)), {"six.test": "127.1.0.6"}),
}

#: Where the Synapse stands, and where ours do.
GROUPS = [("3.3", "4", "3.2")]
if os.environ.get("ACCEPTANCE"):
    GROUPS += [("1", "3.1", "3.4"), ("2", "3.3", "3.5"), ("3.1", "5", "6"), ("3.2", "1", "4"), ("3.4", "2", "3.3")]
    GROUPS += [("3.5", "6", "3.1"), ("4", "3.4", "5"), ("5", "3.5", "1"), ("6", "3.2", "2")]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("rungs", GROUPS, ids="-".join)
def test_servers_find_each_other(rungs: tuple[str, ...], synapse_python: Path) -> None:
    done = run_inside([sys.executable, "-m", "tests.scenarios.test_discovery", str(synapse_python), *rungs], 300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def converse(synapse_python: Path, rungs: list[Rung]) -> None:
    """In a small internet: the first server is a Synapse, all others are ours; everybody hears everybody."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        hosts = {name: ip for rung in rungs for name, ip in rung.hosts.items()}
        services = {name: service for rung in rungs for name, service in rung.services.items()}
        with furnish(directory, hosts, services), Town.built(directory / "town") as town:
            first, *others = rungs
            synapse = town.synapse(synapse_python, place=first.place)
            ours = [town.ours(place=rung.place) for rung in others]
            town.start()
            people = [server.register("someone") for server in (synapse, *ours)]
            room_id = people[0].create_room(preset="public_chat", room_alias_name="pub")
            for number, person in enumerate(people[1:], 2):
                person.join(f"#pub:{synapse.name}")
                wait_for_members(room_id, *people[:number])
            for number, person in enumerate(people):
                person.say(room_id, f"{number}")
                for reader in people:
                    until(lambda reader=reader: len(reader.texts(room_id)), number + 1)  # type: ignore[misc]
            wait_for_agreement(room_id, *people)
            for server in ours:
                server.check_log()


if __name__ == "__main__":
    converse(Path(sys.argv[1]), [RUNGS[name] for name in sys.argv[2:]])
