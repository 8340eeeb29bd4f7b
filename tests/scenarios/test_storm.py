"""Everything at random: people of three servers talk, rule, throw each other out and come back, while the lines between
them fail in all ways. When the weather clears, all servers have the same state, and nothing is lost that was said by
those whom nobody threw out.

STORM_SEED chooses another storm; which one it was, the test's name tells.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from random import Random

import pytest
from attrs import define, field

from homeserver.harness.client import Refused, until
from homeserver.harness.faults import Fault, Kind
from homeserver.harness.person import Person
from homeserver.harness.synapse import Synapse
from tests.fixtures_town import Cast, Casting, scenario, wait_for_agreement
from tests.scenarios.test_disasters import SEND
from tests.scenarios.test_talking import together

SECONDS = 20 if os.environ.get("ACCEPTANCE") else 6
FIRST = int(os.environ.get("STORM_SEED", "1"))


@define(eq=False)
class Actor:
    """Somebody who does something at random every now and then, in a thread of their own."""

    person: Person
    room_id: str
    others: list[Person]
    """Those whom they may throw out, and who may be made moderators."""
    chance: Random
    is_calm: bool
    """Says things, and nothing else."""
    said: dict[str, str] = field(factory=dict)
    """Text → event id of what was answered."""
    trouble: list[Exception] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._act, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(120)
        assert not self._thread.is_alive()
        assert not self.trouble, self.trouble

    def _act(self) -> None:
        deeds: list[Callable[[], object]] = [self._say, self._say, self._say]
        if not self.is_calm:
            deeds += [self._topic, self._name, self._judge, self._judge, self._levels, self._come, self._take_back]
        while not self._over.wait(self.chance.uniform(0.05, 0.4)):
            try:
                self.chance.choice(deeds)()
            except Refused as refused:
                # Not allowed just now; or no server could be reached to come back over, or that of whom they invite.
                # COMPAT Synapse: in the middle of a storm it may fail to read a state.
                allowed = (403, 404, 500, 502, 503) if isinstance(self.person.server, Synapse) else (403, 404, 502, 503)
                if refused.answer.status not in allowed or self.is_calm:
                    self.trouble.append(refused)
                    return
            except Exception as error:
                self.trouble.append(error)
                return

    def _say(self) -> None:
        text = f"{self.person.user_id} {len(self.said)}"
        self.said[text] = self.person.say(self.room_id, text)

    def _take_back(self) -> None:
        if self.said:
            text = self.chance.choice(list(self.said))
            self.person.redact(self.room_id, self.said.pop(text))

    def _topic(self) -> None:
        self.person.set_state(self.room_id, "m.room.topic", {"topic": f"{self.chance.random()}"})

    def _name(self) -> None:
        self.person.set_profile("displayname", f"{self.chance.random()}")

    def _judge(self) -> None:
        whom = self.chance.choice(self.others)
        self.chance.choice([self.person.kick, self.person.ban, self.person.unban, self.person.invite])(
            self.room_id, whom
        )

    def _levels(self) -> None:
        levels = self.person.content_of(self.room_id, "m.room.power_levels")
        whom = self.chance.choice(self.others)
        levels.setdefault("users", {})[whom.user_id] = self.chance.choice([0, 40, 50, 60])
        self.person.set_state(self.room_id, "m.room.power_levels", levels)

    def _come(self) -> None:
        if self.chance.random() < 0.3:
            self.person.leave(self.room_id)
        else:
            self.person.join(self.room_id, via=[other.server for other in self.others])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [FIRST])
@scenario("host", "guest", "third")
def test_a_storm(cast: Cast, seed: int) -> None:
    chance = Random(f"{seed} {cast.version}")
    room_id, calm = together(cast, *cast.servers)
    wild = [cast.person("wild", server) for server in cast.servers]
    for person in wild:
        person.join(room_id, via=[cast.servers[0]])
    levels = calm[0].content_of(room_id, "m.room.power_levels")
    levels.setdefault("users", {}).update({person.user_id: 60 for person in wild[:2]})
    levels["events"]["m.room.power_levels"] = 50
    calm[0].set_state(room_id, "m.room.power_levels", levels)
    for person in calm:
        until(lambda person=person: person.content_of(room_id, "m.room.power_levels"), levels)  # type: ignore[misc]

    def actor(person: Person, is_calm: bool) -> Actor:
        others = [other for other in wild if other is not person]
        return Actor(person, room_id, others, Random(chance.random()), is_calm)

    actors = [actor(person, True) for person in calm] + [actor(person, False) for person in wild]
    weather(cast, chance)
    for each in actors:
        each.end()
    # It clears. Everybody says a last word, so that all hear of all.
    last = {person.say(room_id, f"the last word of {person.user_id}"): person for person in calm}
    for person in calm:
        hear_all(person, room_id, actors, last)
    wait_for_agreement(room_id, *calm)


@pytest.mark.parametrize("cast", [Casting(("ours", "synapse", "ours"), "12")], indirect=True, ids=str)
def test_a_word_that_a_synapse_drops(cast: Cast) -> None:
    """Why somebody may have to say more after a storm: it was given a word, has not what comes before, and can't ask
    just then. With the next word it has all of them."""
    host, guest, third = cast
    room_id, (alice, bob, carol) = together(cast, host, guest, third)
    with cast.lines.parted([guest], [third]):
        with cast.lines.fault(Fault(Kind.REFUSE, origin=guest.name, destination=host.name)):
            first = carol.say(room_id, "first")
            until(lambda: first in {event["event_id"] for event in alice.history(room_id)})
            second = alice.say(room_id, "second")
            until(lambda: isinstance(guest, Synapse) and second in guest.dropped())
        assert lost(bob, room_id, [], {second}) == {second}
        last = {second: alice}
        hear_all(bob, room_id, [], last)
        assert len(last) > 1
        assert first in {event["event_id"] for event in bob.history(room_id)}


def weather(cast: Cast, chance: Random) -> None:
    """Some seconds of lines that fail, one way after the other."""
    left_s = float(SECONDS)
    while left_s > 0:
        a, b = chance.sample(cast.servers, 2)
        kinds = [Kind.LOSE, Kind.CUT, Kind.CORRUPT, Kind.REFUSE]
        some = Fault(chance.choice(kinds), origin=a.name, destination=b.name, path=chance.choice([SEND, "*"]), times=3)
        slow = Fault(Kind.DELAY, origin=b.name, destination=a.name, delay_ms=chance.randrange(50, 800))
        with contextlib.ExitStack() as stack:
            match chance.randrange(3):
                case 0:
                    stack.enter_context(cast.lines.parted([a], [server for server in cast.servers if server is not a]))
                case 1:
                    stack.enter_context(cast.lines.fault(some, slow))
                case 2:
                    stack.enter_context(cast.lines.fault(slow))
            spell_s = chance.uniform(0.5, 3)
            threading.Event().wait(spell_s)
            left_s -= spell_s


def hear_all(reader: Person, room_id: str, actors: list[Actor], last: dict[str, Person]) -> None:
    """Until somebody has all that was said by the calm, and all last words: event id → who said it.

    COMPAT Synapse: it may have taken a word, and dropped it for what it could not get in time (`Synapse.dropped`): its
    last request to a server failed a moment ago, as the weather was, and it asks nothing there for the next one or two
    seconds. It comes back to the word when it hears another that cites it, so there is one. What it was never given is
    not said again for it.
    """
    repeated: set[str] = set()

    def missing() -> set[str]:
        found = lost(reader, room_id, actors, set(last))
        if found and isinstance(reader.server, Synapse):
            for event_id in (found & last.keys() & reader.server.dropped()) - repeated:
                repeated.add(event_id)
                speaker = last[event_id]
                last[speaker.say(room_id, f"what {speaker.user_id} has to add")] = speaker
        return found

    until(missing, set(), 180)


def lost(reader: Person, room_id: str, actors: list[Actor], last: set[str]) -> set[str]:
    """What was said by the calm and is not there.

    COMPAT Synapse: where many events of a room come at once it forgets most of them again, and remembers a gap; and
    its pages end where it can't fill one, as when the one server that it asks, another Synapse, has not the state
    there. So what is in front of the gap it may have all the same; what lies in the gap it may not have, and
    whether it ever asks for it is its own affair. The last words come after all gaps.
    """
    there = {event["event_id"] for event in reader.history(room_id)}
    said = {event_id for each in actors if each.is_calm for event_id in each.said.values()}
    missing = (said | last) - there
    if isinstance(reader.server, Synapse):
        missing = {event_id for event_id in missing if not has(reader, room_id, event_id)}
        return missing & last if has_gaps(reader.server, room_id) else missing
    return missing


def has_gaps(synapse: Synapse, room_id: str) -> bool:
    """Whether it knows of events of a room that it has not. (synapse/storage/databases/main/event_federation.py:
    prune_staged_events_in_room says when it forgets what it was given.)
    """
    with contextlib.closing(
        sqlite3.connect(f"file:{synapse.directory / 'homeserver.db'}?mode=ro", uri=True)
    ) as database:
        query = "SELECT 1 FROM event_backward_extremities WHERE room_id = ? LIMIT 1"
        return database.execute(query, (room_id,)).fetchone() is not None


def has(reader: Person, room_id: str, event_id: str) -> bool:
    try:
        reader.event(room_id, event_id)
    except Refused:
        return False
    return True
