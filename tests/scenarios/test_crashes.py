"""Servers that die in the middle of it: what was answered is everywhere, once, and all agree in the end."""

from __future__ import annotations

import http.client
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
from attrs import define, field

from homeserver.harness.client import Refused, until
from homeserver.harness.person import Person
from homeserver.harness.server import Server
from homeserver.harness.town import Town
from tests.fixtures_town import wait_for_agreement, wait_for_members

KILLS = 3
PAUSE_S = 0.15
"""Between two things that somebody says: what counts is when servers die, not how much they can carry."""


@define(eq=False)
class Talker:
    """Somebody who says one thing after the other, and says again what was not answered, as a client does."""

    person: Person
    room_id: str
    answered: dict[str, str] = field(factory=dict)
    """Text → event id."""
    _ending: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread = field(init=False)
    trouble: list[Exception] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        name = self.person.user_id.partition(":")[0]
        while not self._ending.is_set():
            text = f"{name} {len(self.answered)}"
            try:
                self.answered[text] = self.person.say(self.room_id, text, txn_id=text)
            except (OSError, http.client.HTTPException):
                self._ending.wait(0.05)  # it is down; the same again
            except Refused as refused:
                self.trouble.append(refused)
                return
            self._ending.wait(PAUSE_S)

    def end(self) -> None:
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not self.trouble, self.trouble


@pytest.mark.timeout(600)
def test_killed_and_away(new_town: Town, synapse_python: Path) -> None:
    a, b, synapse = new_town.ours(), new_town.ours(), new_town.synapse(synapse_python)
    new_town.start()
    alice, bob, carol = a.register("alice"), b.register("bob"), synapse.register("carol")
    killed_in_the_middle_of_a_conversation((a, b, synapse), alice, bob, carol)
    away_for_long((a, synapse), alice, carol)


def killed_in_the_middle_of_a_conversation(
    servers: tuple[Server, Server, Server], alice: Person, bob: Person, carol: Person
) -> None:
    a, b, synapse = servers
    room_id = carol.create_room(preset="public_chat")
    alice.join(room_id, via=[synapse])
    wait_for_members(room_id, carol, alice)
    bob.join(room_id, via=[a])
    wait_for_members(room_id, alice, bob, carol)
    talkers = [Talker(person, room_id) for person in (alice, bob, carol)]
    chance = random.Random(11)
    for number in range(KILLS):
        threading.Event().wait(chance.uniform(0.5, 2))
        victim = (a, b)[number % 2]
        kill_and_start(victim, chance)
    for talker in talkers:
        talker.end()
    # The last word of each reaches the others, and with it what was before it.
    for talker in talkers:
        talker.person.say(room_id, f"goodbye from {talker.person.user_id}")
    answered = [text for talker in talkers for text in talker.answered]
    goodbyes = [f"goodbye from {person.user_id}" for person in (alice, bob, carol)]
    assert all(len(talker.answered) > KILLS for talker in talkers)
    for reader in (alice, bob, carol):
        until(lambda reader=reader: lacking(reader, room_id, answered + goodbyes), Counter(), 120)  # type: ignore[misc]
        texts = Counter(reader.texts(room_id))
        # At most what was said again after the end: one of each talker may have been answered to nobody.
        assert max(texts.values()) == 1
    wait_for_agreement(room_id, alice, bob, carol)


def kill_and_start(server: Server, chance: random.Random) -> None:
    server.kill(signal.SIGKILL)
    threading.Event().wait(chance.uniform(0, 0.5))
    server.start()


def lacking(reader: Person, room_id: str, texts: list[str]) -> Counter[str]:
    return Counter(texts) - Counter(reader.texts(room_id))


def away_for_long(servers: tuple[Server, Server], alice: Person, carol: Person) -> None:
    """What happened in several rooms while a server was away reaches it when it is back, without anybody saying more
    in them."""
    a, synapse = servers
    rooms = [person.create_room(preset="public_chat") for person in (carol, carol, alice)]
    for room_id, comer, host in zip(rooms, (alice, alice, carol), (synapse, synapse, a), strict=True):
        comer.join(room_id, via=[host])
        wait_for_members(room_id, alice, carol)
    a.stop()
    for room_id in rooms:
        for number in range(12):
            carol.say(room_id, f"{number}")
        carol.send(room_id, "org.example.last", {})
    a.start()
    alice.say(rooms[0], "back")  # so that Synapse hears of it, and does not wait
    wanted = Counter(f"{number}" for number in range(12))
    for room_id in rooms:
        until(lambda room_id=room_id: wanted - Counter(alice.texts(room_id)), Counter(), 120)  # type: ignore[misc]
        wait_for_agreement(room_id, alice, carol)
