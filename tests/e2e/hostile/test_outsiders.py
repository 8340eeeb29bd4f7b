"""Whoever is not in a room tries every endpoint that names a room or an event, under each history visibility.

    early    said before any of the outsiders came         open to all who were in the room later, if it is `shared`
    while    said while those who left were in the room    open to them
    late     said after they had gone                      open to nobody outside

In each time there is a message and a piece of state, each with words that are looked for in every answer; and some that
hide behind others: state that was replaced early (`buried`), the reason of a late redaction, and what hangs on the
early message: in each time an edit of it, something in its thread and something that refers to it (`early edit` …).
Where the room is `world_readable`, all of it is open to all; nothing may be changed from outside anywhere.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from attrs import define, field

from homeserver.http.route import Route
from tests.e2e.hostile.calls import ROUTES, Call, Scene, evolve
from tests.e2e.hostile.line import Line, describe, flaws, segment
from tests.fixtures_server import Person, ServerProcess

API = "/_matrix/client/v3"
DELAYED = "/_matrix/client/v1/delayed_events"
SETTINGS = ["world_readable", "shared", "invited", "joined"]
TIMES = ["early", "while", "late"]
HANGING = {"edit": "m.replace", "reply": "m.thread", "reference": "m.reference"}

NEVER_IN = ["outsider", "guest", "ignored", "invited", "knocking", "declined", "turned away", "took back"]
ONCE_IN = ["left", "kicked", "banned", "unbanned", "invited again"]
FORGOT = ["forgot"]
OUTSIDERS = [*NEVER_IN, *ONCE_IN, *FORGOT]


def may_read(who: str, setting: str) -> set[str]:
    """Which words an outsider may come upon."""
    if setting == "world_readable":
        return {
            *TIMES,
            *(f"{time} {what}" for time in TIMES for what in ("state", *HANGING)),
            "buried",
            "sticky",
            "reason",
        }
    if who not in ONCE_IN:
        return set()
    # State was there to be seen by whoever was in the room, whenever it was set.
    seen = {"while", "early state", "while state", *(f"while {what}" for what in HANGING)}
    return seen | ({"early", "buried", *(f"early {what}" for what in HANGING)} if setting == "shared" else set())


@define
class Room:
    """A room with its history, and those who are outside of it now."""

    owner: Person
    friend: Person
    room_id: str
    setting: str
    outsiders: dict[str, Person] = field(factory=dict)
    words: dict[str, str] = field(factory=dict)
    """What was said → the words themselves."""
    events: dict[str, str] = field(factory=dict)
    """What was said → event id."""
    tokens: dict[str, str] = field(factory=dict)
    """The owner's sync tokens, by time."""
    delay_id: str = ""
    """Of something that the owner says later."""
    own_tokens: dict[str, str] = field(factory=dict)
    """The outsiders' sync tokens from before it got late."""
    own_pos: dict[str, str] = field(factory=dict)
    """And the pos of a sliding sync each."""

    @property
    def path(self) -> str:
        return f"{API}/rooms/{segment(self.room_id)}"

    def speak(self, time: str) -> None:
        self.events[time] = self.owner.say(self.room_id, self.new_words(time))
        self.put(f"{time} state", time)
        for what, rel_type in HANGING.items():
            words = self.new_words(f"{time} {what}")
            relation = {"rel_type": rel_type, "event_id": self.events["early"]}
            text = {"msgtype": "m.text", "body": words}
            content = {**text, "m.new_content": text, "m.relates_to": relation}
            path = f"{self.path}/send/m.room.message/{secrets.token_hex(4)}"
            self.events[f"{time} {what}"] = self.owner.call("PUT", path, content)["event_id"]
        self.tokens[time] = self.owner.sync()["next_batch"]

    def new_words(self, name: str) -> str:
        self.words[name] = f"{name.replace(' ', '-')}-{secrets.token_hex(6)}"
        return self.words[name]

    def put(self, name: str, state_key: str) -> None:
        state = f"{self.path}/state/org.example.secret/{state_key}"
        self.events[name] = self.owner.call("PUT", state, {"words": self.new_words(name)})["event_id"]

    def act(self, verb: str, who: str) -> None:
        self.owner.call("POST", f"{self.path}/{verb}", {"user_id": self.outsiders[who].user_id})

    def found_in(self, text: str) -> set[str]:
        return {name for name, words in self.words.items() if words in text}

    def said_by(self, user_id: str) -> int:
        """How many of the room's events somebody sent."""
        page = self.owner.call("GET", f"{self.path}/messages", query={"dir": "b", "limit": 1000})
        return sum(event["sender"] == user_id for event in page["chunk"])


def play(server: ServerProcess, setting: str) -> Room:
    """The room's story."""
    tag = secrets.token_hex(4)
    owner, friend = server.register(f"owner{tag}"), server.register(f"friend{tag}")
    rules = [
        {"type": "m.room.history_visibility", "content": {"history_visibility": setting}},
        {"type": "m.room.join_rules", "content": {"join_rule": "knock"}},
        {"type": "m.room.guest_access", "content": {"guest_access": "forbidden"}},
    ]
    room = Room(owner, friend, owner.create_room(initial_state=rules, invite=[friend.user_id]), setting)
    friend.join(room.room_id)
    for number, who in enumerate(OUTSIDERS):
        room.outsiders[who] = register_guest(server) if who == "guest" else server.register(f"outsider{number}.{tag}")
    room.put("buried", "early")
    room.speak("early")
    for who in (*ONCE_IN, *FORGOT):
        room.act("invite", who)
        room.outsiders[who].join(room.room_id)
    room.speak("while")
    spoiled = [
        owner.say(room.room_id, "never mind"),
        owner.call("PUT", f"{room.path}/state/org.example.s/", {})["event_id"],
    ]
    for who in ("left", "invited again", "forgot"):
        room.outsiders[who].call("POST", f"{room.path}/leave", {})
    room.outsiders["forgot"].call("POST", f"{room.path}/forget", {})
    room.act("kick", "kicked")
    for who in ("banned", "unbanned"):
        room.act("ban", who)
    room.act("unban", "unbanned")
    for who in ("invited", "invited again", "declined"):
        room.act("invite", who)
    room.outsiders["declined"].call("POST", f"{room.path}/leave", {})
    for who in ("knocking", "turned away", "took back"):
        room.outsiders[who].call("POST", f"{API}/knock/{segment(room.room_id)}", {})
    room.act("kick", "turned away")
    room.outsiders["took back"].call("POST", f"{room.path}/leave", {})
    ignored = f"{API}/user/{segment(owner.user_id)}/account_data/m.ignored_user_list"
    owner.call("PUT", ignored, {"ignored_users": {room.outsiders["ignored"].user_id: {}}})
    room.own_tokens = {who: person.sync()["next_batch"] for who, person in room.outsiders.items()}
    room.own_pos = {who: slide(room, person)["pos"] for who, person in room.outsiders.items()}
    room.speak("late")
    stick = f"{room.path}/send/org.example.sticky/{secrets.token_hex(4)}"
    sticky = {"org.matrix.msc4354.sticky_duration_ms": 3_600_000}
    room.events["sticky"] = owner.call("PUT", stick, {"words": room.new_words("sticky")}, sticky)["event_id"]
    wait = (
        f"{API.replace('v3', 'v1')}/rooms/{segment(room.room_id)}/delayed_event/m.room.message/{secrets.token_hex(4)}"
    )
    later = {"delay_ms": 3_600_000, "content": {"msgtype": "m.text", "body": room.new_words("delayed")}}
    room.delay_id = owner.call("PUT", wait, later)["delay_id"]
    room.new_words("reason")
    for event_id in spoiled:
        redact = f"{room.path}/redact/{segment(event_id)}/{secrets.token_hex(4)}"
        room.events[f"reason for {event_id}"] = owner.call("PUT", redact, {"reason": room.words["reason"]})["event_id"]
        room.events[f"spoiled {event_id}"] = event_id
    owner.call("PUT", f"{room.path}/typing/{segment(owner.user_id)}", {"typing": True})
    owner.call("POST", f"{room.path}/receipt/m.read/{segment(room.events['late'])}", {})
    status = {"presence": "online", "status_msg": room.new_words("status")}
    owner.call("PUT", f"{API}/presence/{segment(owner.user_id)}/status", status)
    for what in ("account_data/org.example.data", f"rooms/{segment(room.room_id)}/account_data/org.example.data"):
        owner.call("PUT", f"{API}/user/{segment(owner.user_id)}/{what}", {"words": room.words["late"]})
    return room


def report(wrong: list[str]) -> str:
    return "\n".join([f"{len(wrong)} answers are wrong", *wrong[:20]])


SLIDING = f"{API.removesuffix('/v3')}/unstable/org.matrix.simplified_msc3575/sync"
STABLE = f"{API.removesuffix('/v3')}/v4/sync"


def look_at_all(room: Room) -> dict[str, Any]:
    """A sliding sync that asks for whatever there is."""
    wanted = {"timeline_limit": 100, "required_state": [["*", "*"]]}
    more = (
        "io.element.msc4308.thread_subscriptions",
        "org.matrix.msc4354.sticky_events",
        "org.matrix.msc4262.profiles",
    )
    names = ("to_device", "e2ee", "account_data", "receipts", "typing", *more)
    return {
        "lists": {"all": {**wanted, "ranges": [[0, 99]]}},
        "room_subscriptions": {room.room_id: wanted},
        "extensions": {name: {"enabled": True} for name in names},
    }


def look_at_all_by_stable(room: Room) -> dict[str, Any]:
    """The same in the form that was accepted."""
    wanted = {"timeline_limit": 100, "required_state": {"include": [{}]}}
    return {**look_at_all(room), "lists": {"all": wanted}, "room_subscriptions": {room.room_id: wanted}}


def slide(room: Room, person: Person) -> Any:
    return person.call("POST", SLIDING, look_at_all(room))


def register_guest(server: ServerProcess) -> Person:
    made = server.call("POST", f"{API}/register", {}, {"kind": "guest"})
    return Person(server, made["user_id"], made["device_id"], made["access_token"])


def names_a_room(route: Route) -> bool:
    return re.search(r"\{(room_id|room_id_or_alias|event_id|room_alias)\}", route.path) is not None


READING = [route for route in ROUTES if route.method == "GET" and names_a_room(route)]
WRITING = [route for route in ROUTES if route.method != "GET" and names_a_room(route)]
#: What an outsider may do about its own membership, where the rules of the room let it.
OWN_PLACE = {"join", "leave", "forget", "{room_id_or_alias}"}
#: What people may write down for themselves about rooms that they have had to do with.
OWN_NOTES = re.compile(r"/user/\{user_id\}/rooms/")
#: Anybody may do that, and is told nothing by it.
REPORT = re.compile(r"/rooms/\{room_id\}/report$")


def readings(room: Room, who: str) -> Iterator[tuple[str, str]]:
    """Everything that an outsider could read the room by: method and target."""
    person = room.outsiders[who]
    scene = Scene(person, room.room_id, "", room.friend, "0", "#none:localhost")
    for route in READING:
        if "{event_id}" in route.path:
            for event_id in room.events.values():
                scene.event_id = event_id
                yield "GET", scene.call(route).target
        elif "{state_key}" in route.path:
            for time in TIMES:
                scene.more = {"event_type": "org.example.secret", "state_key": time}
                yield "GET", scene.call(route).target
                yield "GET", evolve(scene.call(route), query={"format": "event"}).target
        else:
            yield "GET", scene.call(route).target
    for time, token in room.tokens.items():
        at = quote(token, safe="")
        yield "GET", f"{room.path}/messages?dir=b&limit=100&from={at}"
        yield "GET", f"{room.path}/messages?dir=f&limit=100&from={at}"
        yield "GET", f"{room.path}/messages?dir=f&limit=100&to={at}"
        yield "GET", f"{room.path}/members?at={at}"
        yield "GET", f"{API}/sync?since={at}"
        yield "GET", f"{API}/sync?since={at}&full_state=true"
        yield "GET", f"{room.path}/context/{segment(room.events[time])}?limit=100"
    yield "GET", f"{room.path}/messages?dir=b&limit=1000"
    yield "GET", f"{room.path}/messages?dir=f&limit=1000"
    leave = quote(json.dumps({"room": {"include_leave": True, "timeline": {"limit": 100}}}))
    yield "GET", f"{API}/sync"
    yield "GET", f"{API}/sync?full_state=true&use_state_after=true&filter={leave}"
    for more in ("", "&full_state=true", f"&filter={leave}", "&use_state_after=true"):
        yield "GET", f"{API}/sync?since={quote(room.own_tokens[who], safe='')}{more}"
    for token in (room.tokens["early"], room.own_tokens[who]):
        yield "GET", f"{API}/events?from={quote(token, safe='')}"
        yield "GET", f"{API}/events?from={quote(token, safe='')}&room_id={segment(room.room_id)}"
    yield "GET", f"{API}/initialSync?limit=100&archived=true"
    yield "GET", f"{API}/rooms/{segment(room.room_id)}/initialSync?limit=100"
    yield "GET", f"{API}/notifications?limit=500"
    yield "GET", f"{DELAYED}"
    yield "GET", f"{DELAYED}/{room.delay_id}"
    yield "GET", f"{API}/joined_rooms"
    yield "GET", f"{API}/publicRooms"
    yield "GET", f"{API}/presence/{segment(room.owner.user_id)}/status"
    for user in (room.owner, room.friend):
        for what in ("account_data/org.example.data", f"rooms/{segment(room.room_id)}/account_data/org.example.data"):
            yield "GET", f"{API}/user/{segment(user.user_id)}/{what}"


def writings(room: Room, who: str) -> Iterator[Call]:
    """Everything that an outsider could change the room by, but for its own place in it."""
    scene = Scene(room.outsiders[who], room.room_id, "", room.friend, "0", f"#{secrets.token_hex(6)}:localhost")
    for route in WRITING:
        if route.path.rpartition("/")[2] in OWN_PLACE or OWN_NOTES.search(route.path) or REPORT.search(route.path):
            continue
        for event_id in room.events.values() if "{event_id}" in route.path else [room.events["late"]]:
            scene.event_id = event_id
            call = scene.call(route)
            if route.path.endswith("/read_markers"):
                call = evolve(call, body={"m.fully_read": event_id, "m.read": event_id})
            if not (route.method == "DELETE" and "{room_alias}" in route.path):
                yield call


@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_leaks(besieged: ServerProcess, line: Line, setting: str) -> None:
    room = play(besieged, setting)
    wrong: list[str] = []
    for who, person in room.outsiders.items():
        seen: set[str] = set()
        slidings = [("POST", f"{SLIDING}{pos}") for pos in (f"?pos={room.own_pos[who]}", "")] + [("POST", STABLE)]
        for method, target in [*readings(room, who), *slidings]:
            look = {SLIDING: look_at_all, STABLE: look_at_all_by_stable}.get(target.partition("?")[0])
            answer = line.ask(method, target, None if look is None else look(room), token=person.token)
            found = room.found_in(answer.body.decode())
            seen |= found
            wrong += [describe((who, target), answer, flaw) for flaw in flaws(answer)]
            wrong += [describe((who, target), answer, f"{name} leaked") for name in found - may_read(who, setting)]
            passing = [
                kind for kind in ("m.typing", "m.receipt", "m.fully_read") if f'"{kind}"' in answer.body.decode()
            ]
            wrong += [describe((who, target), answer, f"{kind} leaked") for kind in passing]
        if not seen >= may_read(who, setting):
            wrong.append(f"{who} reads {seen} only")
    assert not wrong, report(wrong)


def search(line: Line, person: Person, words: str) -> Any:
    wanted = {"search_term": words, "event_context": {"before_limit": 50, "after_limit": 50}, "include_state": True}
    body = {"search_categories": {"room_events": wanted}}
    return line.ask("POST", f"{API}/search", body, token=person.token)


@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_is_found(besieged: ServerProcess, line: Line, setting: str) -> None:
    """By a search, nor is it told how much there would be. Who never was there finds nothing even in an open room."""
    room = play(besieged, setting)
    wrong: list[str] = []
    for who, person in room.outsiders.items():
        if who == "guest":
            continue
        allowed = may_read(who, setting) if who in ONCE_IN else set()
        for name, words in room.words.items():
            answer = search(line, person, words)
            wrong += [describe((who, name), answer, flaw) for flaw in flaws(answer)]
            found = answer.json["search_categories"]["room_events"]
            told = {*room.found_in(json.dumps(found["results"])), *room.found_in(json.dumps(found.get("state", {})))}
            wrong += [describe((who, name), answer, f"{one} leaked") for one in told - allowed]
            # What was said early is found by its newest text, the late edit.
            if name in ("while", "late", *(f"{time} reply" for time in TIMES)):
                expected = int(name in allowed)
                if (found["count"], len(found["results"])) != (expected, expected):
                    wrong.append(describe((who, name), answer, f"{expected} expected"))
    assert not wrong, report(wrong)


@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_is_changed(besieged: ServerProcess, line: Line, setting: str) -> None:
    room = play(besieged, setting)
    wrong: list[str] = []
    before = {who: room.said_by(person.user_id) for who, person in room.outsiders.items()}
    for who, person in room.outsiders.items():
        for call in writings(room, who):
            answer = call.send(line, person.token)
            wrong += [describe((who, call), answer, flaw) for flaw in flaws(answer)]
            wrong += [describe((who, call), answer, f"{name} leaked") for name in room.found_in(answer.body.decode())]
            if answer.status not in (403, 404):
                wrong.append(describe((who, call), answer, "not refused"))
        for action in ("send", "cancel", "restart"):
            answer = line.ask("POST", f"{DELAYED}/{room.delay_id}/{action}", {}, token=person.token)
            if answer.status != 404:
                wrong.append(describe((who, action), answer, "not refused"))
    after = {who: room.said_by(person.user_id) for who, person in room.outsiders.items()}
    assert room.owner.call("GET", f"{DELAYED}/{room.delay_id}").get("outcome") is None
    assert not wrong, report(wrong)
    assert after == before
    assert room.owner.sync()["rooms"]["join"][room.room_id]["ephemeral"]["events"]


#: Who may come in at once by themselves.
MAY_JOIN = {"invited", "invited again"}
#: These tell whether there is such a room: somebody may have been told of it, and wants to know why they can't come in;
#: and the specification wants it of the directory, and of what is shown of a room at whose door anybody may knock.
TELLING = re.compile(
    r"/(join|\{room_id_or_alias\}|directory/list/room/\{room_id\}|hierarchy|\{room_id_or_alias\}/summary)$"
)


def test_a_room_that_is_none_looks_the_same(besieged: ServerProcess, line: Line) -> None:
    """What is forbidden does not tell whether there is anything."""
    room = play(besieged, "joined")
    none = "!" + secrets.token_urlsafe(32)
    wrong: list[str] = []
    for who in ("outsider", "guest", "ignored"):
        person = room.outsiders[who]
        for route in (*READING, *WRITING):
            if TELLING.search(route.path):
                continue
            answers: list[Mapping[str, Any]] = []
            for room_id in (room.room_id, none):
                scene = Scene(person, room_id, room.events["late"], room.friend, "0", "#none:localhost")
                answer = scene.call(route).send(line, person.token)
                answers.append({"status": answer.status, "body": answer.body.decode().replace(room_id, "ROOM")})
            if answers[0] != answers[1]:
                wrong.append(f"{who} {route.method} {route.path}: {answers}")
    assert not wrong, report(wrong)


@pytest.mark.parametrize("setting", ["shared", "joined"])
def test_who_comes_in(besieged: ServerProcess, line: Line, setting: str) -> None:
    """Only the invited may, and read then what the room lets newcomers read."""
    room = play(besieged, setting)
    wrong: list[str] = []
    for who, person in room.outsiders.items():
        answer = line.ask("POST", f"{API}/join/{segment(room.room_id)}", {}, token=person.token)
        wrong += [describe(who, answer, flaw) for flaw in flaws(answer)]
        if (answer.status == 200) != (who in MAY_JOIN):
            wrong.append(describe(who, answer, "joined" if answer.status == 200 else "not joined"))
        if answer.status == 200:
            said: set[str] = set()
            for target in (f"{room.path}/messages?dir=b&limit=1000", f"{room.path}/state", f"{API}/sync"):
                said |= room.found_in(line.ask("GET", target, token=person.token).body.decode())
            state = {f"{time} state" for time in TIMES}
            there = {"while", *(f"while {what}" for what in HANGING)} if who in ONCE_IN else set()
            expected = room.words.keys() - {"delayed"} if setting == "shared" else state | there | {"sticky"}
            # What sticks is for all who are in, whatever the history is (MSC4354).
            # Whoever was there may be told why what they saw is gone; and now they share a room with its owner.
            if said - {"reason", "status"} != expected - {"reason", "status"}:
                wrong.append(f"{who} reads {said}")
    assert not wrong, report(wrong)


def test_what_is_forgotten_stays_closed(besieged: ServerProcess, line: Line) -> None:
    """After forgetting a room, a former member is as much outside as anybody."""
    room = play(besieged, "shared")
    for who in ("left", "kicked", "banned"):
        person = room.outsiders[who]
        person.call("POST", f"{room.path}/forget", {})
        for method, target in readings(room, who):
            answer = line.ask(method, target, token=person.token)
            # What was synced is not unsaid, but nothing of it comes again.
            assert not room.found_in(answer.body.decode()), (who, target)


def test_the_ignored_are_not_heard(besieged: ServerProcess, line: Line) -> None:
    """Somebody in the room ignores somebody else in it: nothing that they say comes through, anywhere."""
    room = play(besieged, "shared")
    bully = room.friend
    own = f"{API}/user/{segment(room.owner.user_id)}"
    since = room.owner.sync()["next_batch"]
    room.owner.call("PUT", f"{own}/account_data/m.ignored_user_list", {"ignored_users": {bully.user_id: {}}})
    words = f"boo-{secrets.token_hex(6)}"
    said = bully.say(room.room_id, words)
    for event_id in (said, room.events["late"]):
        content = {"msgtype": "m.text", "body": words, "m.relates_to": {"rel_type": "m.thread", "event_id": event_id}}
        bully.call("PUT", f"{room.path}/send/m.room.message/{secrets.token_hex(4)}", content)
    other = bully.create_room(invite=[room.owner.user_id], name=words)
    for target in (
        f"{API}/sync",
        f"{API}/sync?since={since}",
        f"{API}/sync?full_state=true&since={since}",
        f"{room.path}/messages?dir=b",
        f"{room.path}/initialSync",
        f"{API}/initialSync",
        f"{API}/events?from={since}",
        f"{API}/events?from={since}&room_id={segment(room.room_id)}",
        f"{API}/notifications",
        f"{room.path}/context/{segment(room.events['late'])}",
        f"{room.path}/event/{segment(room.events['late'])}",
        f"/_matrix/client/v1/rooms/{segment(room.room_id)}/relations/{segment(room.events['late'])}",
        f"/_matrix/client/v1/rooms/{segment(room.room_id)}/threads",
    ):
        answer = line.ask("GET", target, token=room.owner.token)
        assert answer.status == 200
        assert words not in answer.body.decode(), target
        assert other not in answer.body.decode(), target
    assert words not in search(line, room.owner, room.words["late"]).body.decode()
    assert search(line, room.owner, words).json["search_categories"]["room_events"]["results"] == []
