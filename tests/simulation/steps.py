"""What people do: one function for each thing, taken at random by the plan of a seed.

A step is `async def step(scene, dice) -> str | None`: it picks somebody who can do it, does it through the
client-server API, and says what came of it; None if nobody could. To add one, write the function under `@step(weight)`.

People go by what their clients know, which may be old: much of what they try is refused, and must be refused alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Protocol
from urllib.parse import quote

from attrs import frozen

from federation.room.identifiers import server_of
from tests.simulation.people import V3, Person, Reply, Seen

VERSIONS = ("2", "6", "10", "11", "12")
MOST_ROOMS = 4
SOFT_LEVELS = (0, 0, 25, 50, 100)


class Scene(Protocol):
    """What a step needs of the simulation."""

    people: list[Person]
    rooms: dict[str, str]
    """Ids of the rooms that were made → what the story calls them."""
    versions: dict[str, str]

    def called(self, room_id: str) -> str: ...

    def found(self, room_id: str, version: str) -> None:
        """A room was made."""


Work = Callable[[Scene, Random], Awaitable[str | None]]


@frozen
class Step:
    name: str
    weight: int
    work: Work


STEPS: dict[str, Step] = {}


def step(weight: int) -> Callable[[Work], Work]:
    def register(work: Work) -> Work:
        name = work.__name__
        STEPS[name] = Step(name, weight, work)
        return work

    return register


# -- who can ---------------------------------------------------------------------------------------------------------


def somewhere(scene: Scene, dice: Random) -> tuple[Person, Seen] | None:
    """Somebody, and a room that they are in as far as they know."""
    able = [person for person in scene.people if person.rooms]
    if not able:
        return None
    person = dice.choice(able)
    return person, person.rooms[dice.choice(sorted(person.rooms))]


def told(scene: Scene, person: Person, what: str, room_id: str, reply: Reply) -> str:
    return f"{person.label} {what} in {scene.called(room_id)}: {reply}"


# -- talking ---------------------------------------------------------------------------------------------------------


@step(30)
async def say(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    text = f"{person.label} {dice.getrandbits(32):08x}"
    return told(scene, person, f"says {text!r}", seen.room_id, await person.say(seen.room_id, text))


@step(4)
async def redact(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    mine = [
        event_id
        for event_id in seen.timeline
        if dice.random() < 0.2 or seen.known[event_id]["sender"] == person.user_id
    ]
    if not mine:
        return None
    event_id = dice.choice(mine)
    return told(scene, person, f"redacts {event_id[:8]}", seen.room_id, await person.redact(seen.room_id, event_id))


@step(3)
async def receipt(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    if not seen.timeline:
        return None
    what = f"/receipt/m.read/{quote(seen.timeline[-1], safe='')}"
    return told(scene, person, "has read", seen.room_id, await person.room("POST", seen.room_id, what, {}))


@step(2)
async def typing(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    body = {"typing": dice.random() < 0.7, "timeout": 5_000}
    what = f"/typing/{quote(person.user_id, safe='')}"
    return told(scene, person, "types", seen.room_id, await person.room("PUT", seen.room_id, what, body))


@step(3)
async def read_back(scene: Scene, dice: Random) -> str | None:
    """Page into the past, which may have to be fetched from others."""
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    token: str | None = None
    count = 0
    for _ in range(dice.randint(1, 4)):
        query: dict[str, Any] = {"dir": "b", "limit": dice.choice((1, 5, 30))}
        if token is not None:
            query["from"] = token
        reply = await person.room("GET", seen.room_id, "/messages", **query)
        if not reply.is_well:
            return told(scene, person, "reads back", seen.room_id, reply)
        count += len(reply.json["chunk"])
        token = reply.json.get("end")
        if token is None:
            break
    return f"{person.label} reads {count} events back in {scene.called(seen.room_id)}"


@step(2)
async def look_around(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    what = dice.choice(("/members", "/state", "/joined_members"))
    return told(scene, person, f"asks for {what}", seen.room_id, await person.room("GET", seen.room_id, what))


@step(2)
async def go_away(scene: Scene, dice: Random) -> str | None:
    person = dice.choice(scene.people)
    if person.is_away:
        return None
    person.is_away = True
    seconds = 5 + 60 * dice.random()
    person.machine.world.later(seconds, _come_back, person)
    return f"{person.label} goes away for {seconds:.0f} s"


def _come_back(person: Person) -> None:
    person.is_away = False


# -- what rooms are like -----------------------------------------------------------------------------------------------


async def set_state(scene: Scene, dice: Random, event_type: str, content: Any) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    body = content(person, seen) if callable(content) else content
    if body is None:
        return None
    reply = await person.set_state(seen.room_id, event_type, body)
    return told(scene, person, f"sets {event_type.removeprefix('m.room.')} {body}", seen.room_id, reply)


@step(5)
async def topic(scene: Scene, dice: Random) -> str | None:
    return await set_state(scene, dice, "m.room.topic", {"topic": f"{dice.getrandbits(16):04x}"})


@step(3)
async def name(scene: Scene, dice: Random) -> str | None:
    return await set_state(scene, dice, "m.room.name", {"name": f"{dice.getrandbits(16):04x}"})


@step(6)
async def power_levels(scene: Scene, dice: Random) -> str | None:
    def content(person: Person, seen: Seen) -> Any:
        levels = dict(seen.content("m.room.power_levels"))
        users = dict(levels.get("users", {}))
        for _ in range(dice.randint(1, 2)):
            what = dice.choice(
                ("users", "users", "users", "events_default", "state_default", "kick", "ban", "invite", "topic")
            )
            level = dice.choice(SOFT_LEVELS)
            if what == "users":
                users[dice.choice(scene.people).user_id] = level
            elif what == "topic":
                levels["events"] = {**levels.get("events", {}), "m.room.topic": level}
            elif what != "events_default" or level <= 25:
                levels[what] = level
        if scene.versions[seen.room_id] == "12":
            creator = seen.state.get(("m.room.create", ""), {}).get("sender")
            users.pop(creator, None)
        return {**levels, "users": users}

    return await set_state(scene, dice, "m.room.power_levels", content)


@step(4)
async def join_rules(scene: Scene, dice: Random) -> str | None:
    def content(person: Person, seen: Seen) -> Any:
        rule = dice.choice(("public", "public", "invite", "knock", "restricted"))
        if rule == "restricted":
            other = dice.choice(sorted(scene.rooms))
            return {"join_rule": rule, "allow": [{"type": "m.room_membership", "room_id": other}]}
        return {"join_rule": rule}

    return await set_state(scene, dice, "m.room.join_rules", content)


@step(2)
async def history_visibility(scene: Scene, dice: Random) -> str | None:
    setting = dice.choice(("shared", "shared", "world_readable", "joined", "invited"))
    return await set_state(scene, dice, "m.room.history_visibility", {"history_visibility": setting})


@step(2)
async def server_acl(scene: Scene, dice: Random) -> str | None:
    """Shut out servers that are not there. (Those who are shut out go on with a room of their own.)"""
    deny = dice.choice(([], ["*.bad"], ["*.bad", "worse.example"]))
    return await set_state(scene, dice, "m.room.server_acl", {"allow": ["*"], "deny": deny, "allow_ip_literals": False})


@step(2)
async def display_name(scene: Scene, dice: Random) -> str | None:
    person = dice.choice(scene.people)
    path = f"{V3}/profile/{quote(person.user_id, safe='')}/displayname"
    reply = await person.ask("PUT", path, {"displayname": f"{person.name} {dice.getrandbits(8)}"})
    return f"{person.label} takes another name: {reply}"


# -- rooms and who is in them ------------------------------------------------------------------------------------------


@step(2)
async def create_room(scene: Scene, dice: Random) -> str | None:
    if len(scene.rooms) >= MOST_ROOMS:
        return None
    return await make_room(scene, dice, dice.choice(scene.people))


async def make_room(scene: Scene, dice: Random, person: Person, version: str | None = None) -> str:
    version = version or dice.choice(VERSIONS)
    body: dict[str, Any] = {"preset": dice.choice(("public_chat", "private_chat")), "room_version": version}
    others = [other for other in scene.people if other.machine is person.machine and other is not person]
    if others and dice.random() < 0.3:
        body["invite"] = [dice.choice(others).user_id]
    if dice.random() < 0.3:
        body["name"] = "a name"
    reply = await person.ask("POST", V3 + "/createRoom", body)
    if not reply.is_well:
        return f"{person.label} could not make a room: {reply}"
    scene.found(reply.json["room_id"], version)
    return f"{person.label} makes {scene.called(reply.json['room_id'])} of version {version}"


def _outsider(scene: Scene, dice: Random, room_id: str) -> Person | None:
    able = [person for person in scene.people if room_id not in person.rooms]
    return dice.choice(able) if able else None


def _way_in(scene: Scene, dice: Random, room_id: str) -> str | None:
    able = sorted({person.machine.name for person in scene.people if room_id in person.rooms})
    return dice.choice(able) if able else None


async def enter(scene: Scene, person: Person, room_id: str, via: str | None) -> str:
    query: dict[str, Any] = {} if via is None else {"via": via}
    reply = await person.ask("POST", f"{V3}/join/{quote(room_id, safe='')}", {}, **query)
    return told(scene, person, f"joins through {via}", room_id, reply)


@step(10)
async def join(scene: Scene, dice: Random) -> str | None:
    if not scene.rooms:
        return None
    room_id = dice.choice(sorted(scene.rooms))
    person, via = _outsider(scene, dice, room_id), _way_in(scene, dice, room_id)
    if person is None:
        return None
    return await enter(scene, person, room_id, via)


@step(3)
async def knock(scene: Scene, dice: Random) -> str | None:
    if not scene.rooms:
        return None
    room_id = dice.choice(sorted(scene.rooms))
    person, via = _outsider(scene, dice, room_id), _way_in(scene, dice, room_id)
    if person is None or via is None:
        return None
    reply = await person.ask("POST", f"{V3}/knock/{quote(room_id, safe='')}", {}, via=via)
    return told(scene, person, f"knocks through {via}", room_id, reply)


@step(7)
async def invite(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    knocking = seen.members("knock")
    if knocking and dice.random() < 0.7:
        target = dice.choice(knocking)
    else:
        present = seen.members("join", "invite")
        able = [other.user_id for other in scene.people if other.user_id not in present]
        if not able:
            return None
        target = dice.choice(able)
    reply = await person.room("POST", seen.room_id, "/invite", {"user_id": target})
    return told(scene, person, f"invites {target}", seen.room_id, reply)


@step(8)
async def answer_invitation(scene: Scene, dice: Random) -> str | None:
    able = [person for person in scene.people if person.invited]
    if not able:
        return None
    person = dice.choice(able)
    room_id = dice.choice(sorted(person.invited))
    if dice.random() < 0.8:
        return await enter(scene, person, room_id, None)
    return told(scene, person, "declines", room_id, await person.room("POST", room_id, "/leave", {}))


@step(2)
async def take_back_knock(scene: Scene, dice: Random) -> str | None:
    able = [person for person in scene.people if person.knocking]
    if not able:
        return None
    person = dice.choice(able)
    room_id = dice.choice(sorted(person.knocking))
    return told(scene, person, "takes a knock back", room_id, await person.room("POST", room_id, "/leave", {}))


@step(4)
async def leave(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    return told(scene, person, "leaves", seen.room_id, await person.room("POST", seen.room_id, "/leave", {}))


async def _turn_on(scene: Scene, dice: Random, what: str, *memberships: str) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    able = [user_id for user_id in seen.members(*memberships) if user_id != person.user_id]
    if not able:
        return None
    target = dice.choice(able)
    reply = await person.room("POST", seen.room_id, f"/{what}", {"user_id": target})
    return told(scene, person, f"{what}s {target}", seen.room_id, reply)


@step(3)
async def kick(scene: Scene, dice: Random) -> str | None:
    return await _turn_on(scene, dice, "kick", "join", "invite", "knock")


@step(3)
async def ban(scene: Scene, dice: Random) -> str | None:
    return await _turn_on(scene, dice, "ban", "join", "invite", "knock", "leave")


@step(4)
async def unban(scene: Scene, dice: Random) -> str | None:
    return await _turn_on(scene, dice, "unban", "ban")


@step(2)
async def alias(scene: Scene, dice: Random) -> str | None:
    if (found := somewhere(scene, dice)) is None:
        return None
    person, seen = found
    alias = f"#{scene.called(seen.room_id)}:{person.machine.name}"
    path = f"{V3}/directory/room/{quote(alias, safe='')}"
    reply = await person.ask("PUT", path, {"room_id": seen.room_id})
    return told(scene, person, f"calls it {alias}", seen.room_id, reply)


@step(3)
async def join_by_alias(scene: Scene, dice: Random) -> str | None:
    if not scene.rooms:
        return None
    room_id = dice.choice(sorted(scene.rooms))
    person = _outsider(scene, dice, room_id)
    server = dice.choice(scene.people).machine.name
    if person is None:
        return None
    alias = f"#{scene.called(room_id)}:{server}"
    reply = await person.ask("POST", f"{V3}/join/{quote(alias, safe='')}", {})
    return told(scene, person, f"joins as {alias}", room_id, reply)


def server_name(user_id: str) -> str:
    return str(server_of(user_id))
