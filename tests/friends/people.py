"""Friends in the test's own process: the house of the guild API with accounts in it, and a fleet of such houses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from homeserver.app import House
from homeserver.friends.notices import FriendNotice
from storage.accounts import Account, add_account
from storage.friend_news import FriendNews
from tests.fixtures_fleet import PostBox
from tests.guilds.api import ApiHouse, at
from tests.guilds.fixtures import open_guild_house
from tests.guilds.fleet import GuildFleet, GuildMember

PEOPLE = ("ann", "bob", "cat", "dan")


@define
class Ear:
    """Remembers what people were told."""

    heard: list[FriendNews] = field(factory=list)

    def committed(self, notices: Sequence[object]) -> None:
        self.heard += [notice.news for notice in notices if isinstance(notice, FriendNotice)]

    def of(self, user_id: str) -> list[str]:
        """The kinds of what somebody was told, and forget them."""
        kinds = [news.kind for news in self.heard if news.user_id == user_id]
        self.heard = [news for news in self.heard if news.user_id != user_id]
        return kinds


@define
class FriendHouse(ApiHouse):
    """See the module's docstring. People are named by their localparts."""

    ear: Ear = field(factory=Ear)

    def ask(self, name: str, other: str) -> str:
        """Ask somebody to be a friend: `requested` or `accepted`."""
        return str(self.call(name, "POST", "friends/requests", {"user_id": self.user(other)})["state"])

    def act(self, name: str, verb: str, other: str) -> None:
        self.call(name, "POST", at("friends", "requests", self.user(other), verb))
        self.rest()

    def unfriend(self, name: str, other: str) -> None:
        self.call(name, "DELETE", at("friends", self.user(other)))
        self.rest()

    def dm(self, name: str, other: str) -> str:
        return str(self.call(name, "POST", "dms", {"user_id": self.user(other)})["room_id"])

    def dms(self, name: str) -> dict[str, str]:
        return {one["user_id"]: one["room_id"] for one in self.call(name, "GET", "dms")["dms"]}

    def circle(self, name: str) -> tuple[list[str], list[str], list[str]]:
        """Localparts of somebody's friends, of who asks and of who is asked."""
        self.rest()
        return circle_of(self.call(name, "GET", "friends"))

    def direct(self, name: str) -> dict[str, Any]:
        """Somebody's `m.direct`, without empty lists."""
        return direct_of(self.sync(name))

    def half(self, room_id: str, name: str) -> str:
        return str(self.content(room_id, "chat.guildhall.friend", self.user(name))["state"])


def circle_of(answer: Any) -> tuple[list[str], list[str], list[str]]:
    """Localparts by what they are."""
    one, two, three = (
        sorted(each["user_id"][1:].partition(":")[0] for each in answer[what])
        for what in ("friends", "incoming", "outgoing")
    )
    return one, two, three


def direct_of(synced: Any) -> dict[str, Any]:
    events = synced["account_data"]["events"]
    return next((event["content"] for event in events if event["type"] == "m.direct"), {})


def settle_in(house: House, server_name: str) -> list[Account]:
    return [Account(f"@{name}:{server_name}", None, house.clock.now_ms()) for name in PEOPLE]


@pytest.fixture
def street(tmp_path: Path, database_url: str) -> Iterator[FriendHouse]:
    opened = open_guild_house(tmp_path, database_url)
    house = FriendHouse(opened.house, opened.reactor)
    for account in settle_in(house.house, house.user("x").partition(":")[2]):
        house.wait(house.house.database.write(add_account, account))
    house.house.database.on_commit(house.ear.committed)
    yield house
    house.rest()
    house.wait(house.house.close())


@define(repr=False)
class FriendMember(GuildMember):
    """A server of the fleet with friends in it."""

    ear: Ear = field(factory=Ear)

    def circle(self, name: str) -> tuple[list[str], list[str], list[str]]:
        return circle_of(self.done(name, "GET", "friends"))

    def befriend(self, name: str, other: str) -> str:
        return str(self.done(name, "POST", "friends/requests", {"user_id": other})["state"])

    def dm(self, name: str, other: str) -> str:
        return str(self.done(name, "POST", "dms", {"user_id": other})["room_id"])

    def dms(self, name: str) -> dict[str, str]:
        return {one["user_id"]: one["room_id"] for one in self.done(name, "GET", "dms")["dms"]}

    def direct(self, name: str) -> dict[str, Any]:
        return direct_of(self.sync(name))


@define(repr=False)
class FriendFleet(GuildFleet):
    """A fleet of such servers."""

    def make_member(self, house: House, name: str, post: PostBox) -> FriendMember:
        plain = super().make_member(house, name, post)
        member = FriendMember(plain.house, plain.reactor, plain.fleet, plain.name, plain.post)
        for account in settle_in(house, name):
            self.wait(house.database.write(add_account, account))
        house.database.on_commit(member.ear.committed)
        return member

    def two(self) -> tuple[FriendMember, FriendMember]:
        one, other = self.open("a", "b")
        assert isinstance(one, FriendMember) and isinstance(other, FriendMember)
        return one, other
