"""Guilds on a fleet of servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from attrs import define

from federation.outbound.transport import Request
from homeserver.app import House
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Guild
from tests.fixtures_fleet import Fleet, Member, PostBox, fleet_on_sqlite
from tests.guilds.api import API, at


@define(repr=False)
class GuildMember(Member):
    """A server of the fleet with guilds in it."""

    @property
    def steward(self) -> str:
        return self.user("guildhall")

    def call(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """Call the guild API as somebody of this server: status and JSON of the answer."""
        raw = None if body is None else json.dumps(body).encode()
        answer = self.wait(self.serve(Request(self.name, method, f"{API}/{path}", {}, raw), self.who(name)))
        return answer.status, orjson.loads(answer.body)

    def done(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """The answer of a call that must succeed."""
        status, answer = self.call(name, method, path, body)
        assert status == 200, answer
        return answer

    def refused(self, name: str, method: str, path: str, body: Any = None) -> str:
        """The status and code of a call that must fail."""
        status, answer = self.call(name, method, path, body)
        assert status >= 400, answer
        return f"{status} {answer['errcode']}"

    def new_guild(self, owner: str, **body: Any) -> str:
        guild_id = str(self.done(owner, "POST", "guilds", {"name": "A place", **body})["guild_id"])
        return guild_id

    def guild(self, guild_id: str) -> Guild:
        return self.wait(self.house.part(GuildBook).require(guild_id))

    def opened(self, guild_id: str) -> None:
        """Let everybody in who finds the guild."""
        owner = self.guild(guild_id).settings.owner[1:].partition(":")[0]
        self.done(owner, "PATCH", at("guilds", guild_id), {"discoverable": True})

    def names(self, name: str, guild_id: str) -> dict[str, str]:
        """Room ids of the channels that somebody may view, by their names as far as they are known here."""
        whole = self.done(name, "GET", at("guilds", guild_id))
        return {one["name"]: one["room_id"] for one in whole["channels"]}


@define(repr=False)
class GuildFleet(Fleet):
    """A fleet of such servers."""

    def make_member(self, house: House, name: str, post: PostBox) -> GuildMember:
        plain = super().make_member(house, name, post)
        self.wait(house.guilds.start())
        return GuildMember(plain.house, plain.reactor, plain.fleet, plain.name, plain.post)

    def pair(self) -> tuple[GuildMember, GuildMember]:
        one, other = self.open("a", "b")
        assert isinstance(one, GuildMember) and isinstance(other, GuildMember)
        return one, other

    def come_to_rest(self) -> None:
        """Deliver everything, and let time pass, until nobody has anything to do."""
        for _ in range(20):
            self.settle()
            self.run(1.0)
            if all(not any(member.post.waiting.values()) for member in self.members.values()):
                break
        self.settle()


@pytest.fixture
def guild_fleet(tmp_path: Path, sqlite_model: Path) -> Iterator[GuildFleet]:
    found = fleet_on_sqlite(tmp_path, sqlite_model, GuildFleet)
    yield found
    found.close()
