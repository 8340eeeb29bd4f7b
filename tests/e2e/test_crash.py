"""SIGKILL in the middle of a storm of requests, again and again: what was answered with 200 is there, nothing is there
twice, a retried request is still the same request, and every room goes on.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
import threading
from collections import Counter
from typing import Any
from urllib.parse import quote

from attrs import define, field

from tests.fixtures_server import Person, ServerProcess

KILLS = 20
ROOMS = 3
SENDERS = 6


@define
class Storm:
    """Everything that was sent: what was answered, and what each sender was about when the server died."""

    people: list[Person]
    rooms: list[str]
    answered: dict[str, str] = field(factory=dict)
    """Text → event id, of the requests that were answered with 200."""
    unanswered: list[tuple[Person, str, str]] = field(factory=list)
    """(sender, room, text): the text is the transaction id as well."""
    numbers: itertools.count[int] = field(factory=itertools.count)

    def rage(self, server: ServerProcess, seconds: float) -> None:
        """Send from all sides until the server is killed."""
        senders = [threading.Thread(target=self._send, args=(person,)) for person in self.people]
        for sender in senders:
            sender.start()
        threading.Event().wait(seconds)
        server.kill(signal.SIGKILL)
        for sender in senders:
            sender.join()

    def _send(self, person: Person) -> None:
        """On one connection, as clients do."""
        connection = http.client.HTTPConnection("127.0.0.1", person.server.port, timeout=30)
        while True:
            number = next(self.numbers)
            room, text = self.rooms[number % ROOMS], f"message-{number}"
            try:
                self.answered[text] = _put(connection, person, room, text, number)
            except (OSError, http.client.HTTPException):
                self.unanswered.append((person, room, text))
                connection.close()
                return

    def repeat(self) -> None:
        """Each sender sends again what it heard no answer to."""
        for person, room, text in self.unanswered:
            self.answered[text] = person.say(room, text, txn_id=text)
        self.unanswered.clear()


def _put(connection: http.client.HTTPConnection, person: Person, room: str, text: str, number: int) -> str:
    headers = {"Authorization": f"Bearer {person.token}"}
    base = f"/_matrix/client/v3/rooms/{quote(room)}"
    if number % 7 == 0:  # state moves, too
        connection.request("PUT", f"{base}/state/test.storm/{number % 50}", json.dumps({"n": number}), headers)
        connection.getresponse().read()
    content = json.dumps({"msgtype": "m.text", "body": text})
    connection.request("PUT", f"{base}/send/m.room.message/{quote(text)}", content, headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    assert answer.status == 200, body
    event_id: str = body["event_id"]
    return event_id


def history(person: Person, room: str) -> list[dict[str, Any]]:
    """The whole timeline of a room."""
    events: list[dict[str, Any]] = []
    query: dict[str, str | int] = {"dir": "b", "limit": 1000}
    while True:
        page = person.call("GET", f"/_matrix/client/v3/rooms/{quote(room)}/messages", query=query)
        events += page["chunk"]
        if "end" not in page:
            return events
        query["from"] = page["end"]


def test_killed_in_a_storm_twenty_times(server: ServerProcess) -> None:
    people = [server.register(f"p{number}") for number in range(SENDERS)]
    levels = {"state_default": 0}
    rooms = [people[0].create_room(preset="public_chat", power_level_content_override=levels) for _ in range(ROOMS)]
    for person in people[1:]:
        for room in rooms:
            person.join(room)
    storm, chance = Storm(people, rooms), random.Random(3)
    for _ in range(KILLS):
        storm.rage(server, chance.uniform(0.05, 0.4))
        server.start()
        storm.repeat()
        check(storm)
    assert len(storm.answered) > KILLS * SENDERS


def check(storm: Storm) -> None:
    reader = storm.people[-1]
    found: dict[str, str] = {}
    for room in storm.rooms:
        events = history(reader, room)
        ids = Counter(event["event_id"] for event in events)
        assert max(ids.values()) == 1
        messages = [event for event in events if event["type"] == "m.room.message"]
        texts = Counter(event["content"]["body"] for event in messages)
        assert max(texts.values(), default=1) == 1
        found.update((event["content"]["body"], event["event_id"]) for event in messages)
        # The state is what the timeline made of it, newest first.
        state = {event["state_key"]: event["event_id"] for event in reversed(events) if event["type"] == "test.storm"}
        told = reader.call("GET", f"/_matrix/client/v3/rooms/{quote(room)}/state")
        assert {event["state_key"]: event["event_id"] for event in told if event["type"] == "test.storm"} == state
    assert storm.answered.items() <= found.items()
