"""Laws: a one-time key is given out once whoever asks when; what memory tells of lists of devices, the tables tell too;
and many small syncs of them add up to one large one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from homeserver.encryption.queries import ClaimAnswer, KeyQueries
from homeserver.encryption.uploads import KeyUploads, check_upload
from tests.encryption.village import OTK, Villager
from tests.fixtures_house import LivedInHouse, open_house


def claim(house: LivedInHouse, *devices: Villager) -> Deferred[ClaimAnswer]:
    """A claim that nobody waits for yet."""
    wanted: dict[str, dict[str, str]] = {}
    for one in devices:
        wanted.setdefault(one.user_id, {})[one.device_id] = OTK
    return Deferred.fromCoroutine(house.house.part(KeyQueries).claim(wanted))


def upload(owner: Villager, keys: Mapping[str, Any]) -> Deferred[Any]:
    house = owner.house.house
    checked = check_upload(owner.user_id, owner.device_id, None, keys, {})
    return Deferred.fromCoroutine(house.part(KeyUploads).upload(owner.who, checked))


@pytest.mark.parametrize("seed", range(3))
def test_each_key_is_given_out_once(house: LivedInHouse, tmp_path: Path, database_url: str, seed: int) -> None:
    """Many claim at once, while the owners upload more, and some of it again; then the server starts anew."""
    random = Random(seed)
    owners = [Villager.enter(house, name, device) for name in ("ann", "bob") for device in ("PHONE", "LAPTOP")]
    brought: dict[tuple[str, str], dict[str, Any]] = {(one.user_id, one.device_id): {} for one in owners}
    given: Counter[tuple[str, str, str]] = Counter()
    for _ in range(2):
        claims: list[Deferred[ClaimAnswer]] = []
        uploads: list[Deferred[Any]] = []
        for _ in range(120):
            owner = random.choice(owners)
            mine = brought[owner.user_id, owner.device_id]
            match random.choice(["claim", "claim", "claim all", "upload", "again"]):
                case "claim":
                    claims.append(claim(house, owner))
                case "claim all":
                    claims.append(claim(house, *owners))
                case "upload":
                    new = owner.new_keys(random.randint(1, 5))
                    mine.update(new)
                    uploads.append(upload(owner, new))
                case "again" if mine:
                    names = random.sample(sorted(mine), min(len(mine), 4))
                    uploads.append(upload(owner, {name: mine[name] for name in names}))
        for uploading in uploads:
            house.wait(uploading)
        for claiming in claims:
            for user_id, devices in house.wait(claiming).one_time_keys.items():
                for device_id, keys in devices.items():
                    for name, key in keys.items():
                        assert orjson.loads(orjson.dumps(key)) == brought[user_id, device_id][name]
                        given[user_id, device_id, name] += 1
        for owner in owners:
            mine = brought[owner.user_id, owner.device_id]
            gone = sum((owner.user_id, owner.device_id, name) in given for name in mine)
            assert owner.sync()["device_one_time_keys_count"] == {OTK: len(mine) - gone}
        house.wait(house.house.close())
        again = open_house(tmp_path, database_url)
        house.house, house.reactor = again.house, again.reactor
    assert given and set(given.values()) == {1}


NAMES = ("ann", "bob", "cat", "dan")


class Town:
    """People who come, go and change their devices as dice will have it."""

    def __init__(self, house: LivedInHouse, seed: int) -> None:
        self.house, self.random = house, Random(seed)
        self.people = {name: Villager.enter(house, name) for name in NAMES}
        for person in self.people.values():
            person.upload()
        self.rooms = [house.create("ann", preset="public_chat") for _ in range(3)]
        self.devices = 0

    def step(self) -> None:
        name, room_id = self.random.choice(NAMES), self.random.choice(self.rooms)
        is_in = self.membership(name, room_id) == "join"
        match self.random.choice(["join", "join", "leave", "device", "kick", "invite", "say", "sign", "idle"]):
            case "join":
                self.house.join(name, room_id)
            case "leave" if is_in and name != "ann":
                self.house.leave(name, room_id)
            case "device":
                self.devices += 1
                Villager.enter(self.house, name, f"D{self.devices}").upload()
            case "kick" if is_in and name != "ann":
                memberships = self.house.memberships
                self.house.wait(memberships.kick(room_id, self.house.user("ann"), self.house.user(name)))
            case "invite" if not is_in:
                memberships = self.house.memberships
                self.house.wait(memberships.invite(room_id, self.house.user("ann"), self.house.user(name)))
            case "say":
                self.house.say("ann", room_id, str(self.random.random()))
            case "sign":
                self.people[name].sign_in_public("master")
            case "idle":
                self.house.advance(700)
                self.house.house.hub.close_idle_feeds()

    def membership(self, name: str, room_id: str) -> str | None:
        return self.house.wait(self.house.house.rooms.require(room_id)).membership_of(self.house.user(name))

    def share(self, one: str, other: str) -> bool:
        return one == other or any(
            self.membership(one, room_id) == self.membership(other, room_id) == "join" for room_id in self.rooms
        )


@pytest.mark.parametrize("seed", range(4))
def test_memory_and_tables_say_the_same(house: LivedInHouse, seed: int) -> None:
    town = Town(house, seed)
    for person in town.people.values():
        person.sync()
    changed: dict[str, set[str]] = {name: set() for name in NAMES}
    first = {name: person.since for name, person in town.people.items()}
    watched: dict[str, set[str]] = {name: {other for other in NAMES if town.share(name, other)} for name in NAMES}
    for _ in range(12):
        for _ in range(town.random.randint(1, 4)):
            town.step()
        for name, person in town.people.items():
            if town.random.random() < 0.6:
                continue
            assert person.since is not None
            from_tables = person.lists_from_tables(person.since)
            lists = person.lists()
            assert lists == from_tables
            changed[name].update(lists[0])
            watched[name] = (watched[name] | set(lists[0])) - set(lists[1])
    for name, person in town.people.items():
        lists = person.lists()
        changed[name].update(lists[0])
        watched[name] = (watched[name] | set(lists[0])) - set(lists[1])
        since = first[name]
        assert since is not None
        whole_changed, whole_left = person.lists_from_tables(since)
        # Who was told of step by step and has left since is not among those of the whole.
        assert set(whole_changed) <= changed[name]
        assert {other for other in watched[name] if not town.share(name, other)} == set(), "whom to watch no more"
        assert {other for other in NAMES if town.share(name, other)} - {name} <= watched[name]
        assert not set(whole_left) & watched[name]
