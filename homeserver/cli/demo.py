"""`demo`: fill a running server with people, rooms, a guild and conversations, as any client would do it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from homeserver.cli.common import load, settings_option
from homeserver.cli.local import LocalServer, require_running
from homeserver.guilds.client import GuildClient, GuildsClient, NotReached, Refused

PEOPLE = {
    "ada": "Ada",
    "bela": "Béla",
    "chidi": "Chidi",
    "dagny": "Dagný",
    "emre": "Emre",
    "farah": "Farah",
}

#: Room name → topic and what is said there, each line by one of the people.
ROOMS: Mapping[str, tuple[str, list[tuple[str, str]]]] = {
    "Market square": (
        "Whoever comes through the gate comes by here",
        [
            ("ada", "Welcome, everybody! Take a seat, the kettle is on."),
            ("bela", "Good morning. Is that the new kettle?"),
            ("ada", "It is the old one with a new handle."),
            ("chidi", "Then, philosophically speaking, is it the same kettle?"),
            ("dagny", "It boils. That is all I ask of a kettle before nine."),
            ("emre", "🫖"),
        ],
    ),
    "Workshop": (
        "What is on the bench, and what fell off it",
        [
            ("dagny", "The hinge for the north door is done. Photographs tomorrow, when there is light."),
            ("farah", "Did you keep the old screws?"),
            ("dagny", "All but one. That one kept me."),
            ("emre", "There is a box of them under the lathe, sorted by mood."),
        ],
    ),
    "Library": (
        "Books to lend; please bring them back",
        [
            ("chidi", "Somebody returned a book that was not from here."),
            ("farah", "Is it good?"),
            ("chidi", "Very. I am pretending not to know whose it is."),
        ],
    ),
    "Garden": (
        "Rain, beans and the cat",
        [
            ("emre", "First beans of the year."),
            ("bela", "The cat has seen them."),
            ("emre", "First and last beans of the year."),
        ],
    ),
}

GUILD = "The Quarter"
GUILD_TOPIC = "Everybody who lives between the gate and the river"
ROLES: Mapping[str, tuple[str, list[str], list[str]]] = {
    "Night watch": ("#3b4cca", ["kick_members", "manage_messages", "mute_members"], ["dagny"]),
    "Gardeners": ("#2e8b57", [], ["emre", "bela"]),
}
"""Role → colour, permissions, who has it; highest first."""
CHANNELS: Mapping[str, tuple[str, str, str | None, list[tuple[str, str]]]] = {
    "notices": ("announcement", "What everybody should know", None, [("ada", "The north gate is shut on Sunday.")]),
    "the-bench": (
        "text",
        "For sitting and talking",
        None,
        [
            ("bela", "Who left a violin here?"),
            ("farah", "It is not left, it is waiting."),
            ("chidi", "As are we all."),
        ],
    ),
    "watch-house": (
        "text",
        "Only for those who are awake anyway",
        "Night watch",
        [("dagny", "All quiet. One cat, known to us."), ("ada", "The one with the beans?"), ("dagny", "The same.")],
    ),
    "singing": ("voice", "Come in and hum", None, []),
}
"""Channel → kind, topic, the role that it is for, and what is said there."""


@click.command("demo")
@settings_option
def command(path: Path) -> None:
    """Fill a running server with people, rooms and messages, to look at it with a client."""
    from rich.progress import Progress

    settings = load(path)
    secret = settings.registration.shared_secret
    if secret is None:
        raise click.ClickException("demo makes its accounts by registration.shared_secret, which is not set")
    stage = Stage(require_running(settings), secret, secrets.token_hex(2), secrets.token_urlsafe(9))
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task("Filling the server", total=stage.steps)
            for step in stage.play():
                progress.update(task, advance=1, description=step)
    except (Refused, NotReached) as error:
        raise click.ClickException(str(error)) from None
    names = ", ".join(stage.account(name) for name in PEOPLE)
    click.echo(
        f"Made {len(ROOMS)} rooms and the guild {GUILD} for {names}.\n"
        f"Their password is {stage.password}; log in at {stage.server.base}"
    )


class Stage(msgspec.Struct, frozen=True):
    """One performance; `mark` keeps its accounts apart from those of earlier ones."""

    server: LocalServer
    secret: str
    mark: str
    password: str

    @property
    def steps(self) -> int:
        """How many steps `play` has."""
        rooms = len(ROOMS) * len(PEOPLE) + sum(len(lines) for _, lines in ROOMS.values())
        guild = len(PEOPLE) + len(ROLES) + len(CHANNELS) + sum(len(lines) for *_, lines in CHANNELS.values())
        return len(PEOPLE) + rooms + guild

    def account(self, name: str) -> str:
        """The localpart of a person's account."""
        return f"{name}.{self.mark}"

    def play(self) -> Iterator[str]:
        """Do it all, telling each step after it is done. Raises Refused or NotReached."""
        people: dict[str, Any] = {}
        for name, displayname in PEOPLE.items():
            people[name] = self.server.register(
                self.secret, self.account(name), self.password, admin=False, displayname=displayname
            )
            yield f"{displayname} arrives"
        for room, (topic, lines) in ROOMS.items():
            host = lines[0][0]
            room_id = self._open(room, topic, people[host]["access_token"])
            yield f"{room} opens"
            for name in PEOPLE:
                if name != host:
                    self._as(people[name], "POST", f"/join/{quote(room_id, safe='')}", {})
                    yield f"{PEOPLE[name]} enters {room}"
            yield from self._talk(people, room_id, lines)
        yield from self._found(people)

    def _found(self, people: Mapping[str, Any]) -> Iterator[str]:
        """Make the guild, with what is said in it."""
        guilds = {name: GuildsClient(self.server.session(person["access_token"])) for name, person in people.items()}
        founder, *others = PEOPLE
        guild = guilds[founder].create(GUILD, topic=GUILD_TOPIC)
        yield f"{GUILD} is founded"
        code = guild.create_invite()["code"]
        for name in others:
            guilds[name].join_by(code)
            yield f"{PEOPLE[name]} enters {GUILD}"
        role_ids = {}
        for role, (color, permissions, holders) in ROLES.items():
            role_ids[role] = guild.create_role(role, color=color, permissions=permissions, hoist=True, mentionable=True)
            for name in holders:
                guild.give_role(people[name]["user_id"], role_ids[role])
            yield f"{GUILD} has a role for its {role}"
        guild.order_roles(list(role_ids.values()))
        for channel, (kind, topic, role_name, lines) in CHANNELS.items():
            room_id = guild.create_channel(channel, kind, topic=topic)
            if role_name is not None:
                _close(guild, room_id, role_ids[role_name])
            yield f"{channel} opens"
            yield from self._talk(people, room_id, lines)

    def _talk(self, people: Mapping[str, Any], room_id: str, lines: list[tuple[str, str]]) -> Iterator[str]:
        for number, (name, text) in enumerate(lines):
            where = f"/rooms/{quote(room_id, safe='')}/send/m.room.message/demo-{number}"
            self._as(people[name], "PUT", where, {"msgtype": "m.text", "body": text})
            yield f"{PEOPLE[name]} speaks"

    def _open(self, name: str, topic: str, token: str) -> str:
        body = {"name": name, "topic": topic, "preset": "public_chat"}
        return str(self.server.call("POST", "/_matrix/client/v3/createRoom", body, token)["room_id"])

    def _as(self, person: Mapping[str, Any], method: str, path: str, body: object) -> None:
        self.server.call(method, f"/_matrix/client/v3{path}", body, person["access_token"])


def _close(guild: GuildClient, room_id: str, role_id: str) -> None:
    """Let only one role view a channel."""
    guild.override(room_id, role_id, allow=["view_channel"])
    guild.override(room_id, "everyone", deny=["view_channel"])
