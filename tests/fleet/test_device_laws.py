"""Whatever gets lost, restarts or comes and goes: once all is well again, every list of devices that a server relies on
is the one of the person's own server, clients were told to ask wherever theirs is another, and no letter is lost or
doubled.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.encryption.village import Villager, public, signed
from tests.fixtures_fleet import Fleet, Member
from tests.fleet.test_devices import UPDATE, kept, without_edus

PEOPLE = {"ann": "a", "alf": "a", "bob": "b", "bea": "b", "cat": "c"}


STEPS = (
    "join", "join", "leave", "add", "remove", "rename", "sign", "ask", "ask", "write", "write", "sync", "run",
    "down", "up", "lose", "find", "restart", "crash",
)  # fmt: skip


class World:
    """Three servers whose people share rooms now and then."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        fleet.has_couriers = True
        self.fleet, self.random = fleet, Random(seed)
        self.servers: dict[str, Member] = {server: fleet.open(server)[0] for server in "abc"}
        self.people = {name: Villager.enter(self.servers[server], name) for name, server in PEOPLE.items()}
        self.devices: dict[str, dict[str, Villager]] = {}
        for name, person in self.people.items():
            person.upload()
            self.devices[name] = {"DEVICE": person}
        self.rooms = [self.servers["a"].create("ann", preset="public_chat") for _ in range(2)]
        self.seen: dict[tuple[str, str], Any] = {}
        """What a client got when it last asked, until it is told to ask again."""
        self.written: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.serial = 0
        for name in PEOPLE:  # what is new is told after somebody's first sync
            self.sync(name)

    def house_of(self, name: str) -> Member:
        return self.servers[PEOPLE[name]]

    def step(self) -> None:
        name, other = self.random.sample(sorted(PEOPLE), 2)
        member, room_id = self.house_of(name), self.random.choice(self.rooms)
        match self.random.choice(STEPS):
            case "join" if name != "ann" and not self.fleet.down:
                member.enter(name, room_id, self.servers["a"])
            case "leave" if name != "ann" and self.is_in(name, room_id) and not self.fleet.down:
                member.leave(name, room_id)
            case "add":
                self.serial += 1
                device = Villager.enter(member, name, f"D{self.serial}")
                device.upload()
                self.devices[name][device.device_id] = device
            case "remove" if len(self.devices[name]) > 1:
                device_id = self.random.choice(sorted(set(self.devices[name]) - {"DEVICE"}))
                del self.devices[name][device_id]
                member.wait(member.house.accounts.sessions.end_devices(member.user(name), [device_id]))
            case "rename":
                self.serial += 1
                member.wait(member.house.accounts.devices.rename(member.user(name), "DEVICE", f"name {self.serial}"))
            case "sign":
                identity = self.people[name].sign_in_public()
                by, key = f"ed25519:{public(identity.self_signing)}", identity.self_signing
                device = self.random.choice(list(self.devices[name].values()))
                whole = signed(device.device_keys, device.user_id, by, key)
                assert self.people[name].put_signatures({device.user_id: {device.device_id: whole}}) == {}
            case "ask":
                self.ask(name, other)
            case "write":
                self.serial += 1
                self.written[f"{other} {self.serial}"] += 1
                self.people[name].write(self.people[other], f"{other} {self.serial}")
            case "sync":
                self.sync(name)
            case "run":
                self.fleet.run(self.random.choice([1, 5, 40]), 1)
            case "down":
                self.fleet.down.add(f"{self.random.choice('bc')}.example")
            case "up":
                self.fleet.down.clear()
            case "lose":
                self.fleet.meddler = without_edus(UPDATE)
            case "find":
                self.fleet.meddler = None
            case "restart":
                self.restart(PEOPLE[name], self.fleet.restart)
            case "crash":
                self.restart(PEOPLE[name], self.fleet.crash)

    def restart(self, server: str, how: Any) -> None:
        again = self.servers[server] = how(self.servers[server])
        for devices in self.devices.values():
            for device in devices.values():
                if PEOPLE[device.name] == server:
                    device.house = again

    def is_in(self, name: str, room_id: str) -> bool:
        member = self.house_of(name)
        room = member.wait(member.house.rooms.get(room_id))
        return room is not None and room.membership_of(member.user(name)) == "join"

    def share(self, one: str, other: str) -> bool:
        return any(self.is_in(one, room_id) and self.is_in(other, room_id) for room_id in self.rooms)

    def keys_of(self, viewer: str, name: str) -> Any:
        """Device keys and signing keys of somebody; None where their server does not answer."""
        person = self.people[name]
        answer = self.people[viewer].query(person.user_id)
        if answer["failures"]:
            return None
        # Names of devices are left out: a client need not be told of those by the second.
        devices = answer["device_keys"].get(person.user_id, {})
        plain = {device_id: {**keys, "unsigned": None} for device_id, keys in devices.items()}
        return plain, answer["master_keys"], answer["self_signing_keys"]

    def ask(self, viewer: str, name: str) -> None:
        found = self.keys_of(viewer, name)
        if found is not None and self.share(viewer, name):
            self.seen[viewer, name] = found

    def sync(self, name: str) -> None:
        answer = self.people[name].sync()
        for event in answer.get("to_device", {}).get("events", []):
            self.got[event["content"]["text"]] += 1
        lists = answer.get("device_lists", {"changed": [], "left": []})
        for user_id in (*lists["changed"], *lists["left"]):
            self.seen.pop((name, user_id[1:].partition(":")[0]), None)

    def heal(self) -> None:
        self.fleet.down.clear()
        self.fleet.meddler = None
        for room_id in self.rooms:  # a server that missed a join hears of it by what comes next
            self.servers["a"].say("ann", room_id, "is everybody there?")
        self.fleet.run(4000, 200)
        for name in PEOPLE:  # else the last change may be one of those that got lost, and nothing tells of it
            member = self.house_of(name)
            member.wait(member.house.accounts.devices.rename(member.user(name), "DEVICE", "all is well"))
        self.fleet.run(30, 2)
        self.fleet.run(4000, 200)
        self.fleet.run(30, 2)
        for name in PEOPLE:
            self.sync(name)
            self.sync(name)


@pytest.mark.parametrize("seed", range(6))
def test_lists_are_the_same_everywhere_once_all_is_well(fleet: Fleet, seed: int) -> None:
    world = World(fleet, seed)
    for _ in range(70):
        world.step()
    world.heal()
    for name, person in world.people.items():
        own = world.keys_of(name, name)
        for server, member in world.servers.items():
            if server == PEOPLE[name]:
                continue
            theirs = kept(member, person.user_id)
            known = member.wait(member.house.encryption.remote.known.reliable([person.user_id]))  # type: ignore[union-attr]
            if known:
                assert theirs == {device_id: _bare(keys) for device_id, keys in own[0].items()}, (server, name)
        for viewer in PEOPLE:
            if viewer != name and world.share(viewer, name):
                assert world.keys_of(viewer, name) == own, (viewer, name)
                told = world.seen.get((viewer, name))
                assert told is None or told == own, f"{viewer} was not told to ask for {name} again"
    assert world.got == world.written


def _bare(keys: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if name != "unsigned"}
