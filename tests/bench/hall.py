"""A large room that a Synapse hosts.

Strangers furnish it over the federation, which takes a Synapse minutes. So it may be kept from one run to the next, in
the folder that HALL names: the host's database and key, and the strangers' names and keys.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from federation.room.signing import read_signing_keys, write_signing_key
from homeserver.harness.server import Server, free_port
from homeserver.harness.town import Door, Place, Town
from tests.bench.rivals import THEIR_STATES, bytes_of, deliver, sees
from tests.bench.stranger import Stranger, Strangers, enter
from tests.fixtures_town import find_synapse

MEMBERS = int(os.environ.get("MEMBERS", "2000"))
STATE = int(os.environ.get("STATE", "5000"))
"""State events of the large room, the members among them."""
HOMES = 20
"""Servers that its members are of."""
HOST = "127.0.5.1"


class Hall(msgspec.Struct, frozen=True):
    """What is to be known of it."""

    host: str
    """The host's name."""
    room_id: str
    homes: dict[str, str]
    """The strangers' signing keys, by name."""
    state_bytes: int
    """By how much the tables of states grew on the host."""


def open_hall(town: Town, strangers: Strangers, directory: Path) -> tuple[Server, Hall]:
    """The host, which runs, and its room."""
    kept = Path(os.environ["HALL"]) if "HALL" in os.environ else None
    if kept is not None and (kept / "hall.json").exists():
        return _reopen(town, strangers, kept)
    name = f"{HOST}:{free_port(HOST)}"
    host = town.synapse(find_synapse(), place=_place(name))
    host.start()
    homes = [strangers.add() for _ in range(HOMES)]
    before, _ = bytes_of(host, THEIR_STATES, directory)
    room_id = furnish(host, homes, MEMBERS, STATE)
    after, _ = bytes_of(host, THEIR_STATES, directory)
    hall = Hall(name, room_id, {home.name: write_signing_key(home.key) for home in homes}, after - before)
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(host.directory / "signing.key", kept)
        with (
            closing(sqlite3.connect(f"file:{host.directory}/homeserver.db?mode=ro", uri=True, timeout=30)) as source,
            closing(sqlite3.connect(kept / "homeserver.db")) as target,
        ):
            source.backup(target)
        (kept / "hall.json").write_bytes(msgspec.json.encode(hall))
    return host, hall


def _reopen(town: Town, strangers: Strangers, kept: Path) -> tuple[Server, Hall]:
    hall = msgspec.json.decode((kept / "hall.json").read_bytes(), type=Hall)
    for name, key in hall.homes.items():
        strangers.add(name, read_signing_keys(key)[0])
    host = town.synapse(find_synapse(), place=_place(hall.host))
    for file in ("signing.key", "homeserver.db"):
        shutil.copy(kept / file, host.directory)
    host.start()
    return host, hall


def _place(name: str) -> Place:
    host, _, port = name.partition(":")
    return Place(name, (Door(host, int(port), host),))


def furnish(server: Server, homes: Sequence[Stranger], members: int, state: int) -> str:
    """A large room on a server, whose people are of other servers; each of its state events is a change of its own."""
    alice = server.register("host")
    porter = homes[0].person("porter")
    powers = {"users": {alice.user_id: 100, porter: 50}}
    room_id = alice.create_room(
        preset="public_chat", name="Hall", room_version="11", power_level_content_override=powers
    )
    branch = enter(homes[0], server, room_id, porter)
    there = len(alice.state(room_id))
    newcomers = [(home, home.person(f"m{n}")) for n in range(members // len(homes) + 1) for home in homes]
    events = [branch.join(home, user_id) for home, user_id in newcomers[: members - 2]]
    events += [
        branch.set(homes[0], porter, "org.example.item", str(number), {"number": number, "text": "x" * 50})
        for number in range(state - there - len(events))
    ]
    deliver(homes[0], server, events)
    sees(alice, room_id, events[-1])
    assert len(alice.state(room_id)) == state and len(alice.joined(room_id)) == members
    return room_id
