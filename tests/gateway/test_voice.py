"""Voice channels over the gateway: who is in them, how they are heard and seen, and what they pass to each other."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.gateway.voice.memberships import CALL_MEMBER
from tests.gateway.fixtures import Ear, connect, settle
from tests.guilds.api import ApiHouse, at, hall

__all__ = ["hall"]


class Failed(Exception):
    pass


def ask(ear: Ear, method: str, **params: Any) -> Any:
    """Call, and the result; events that come are left for later."""
    before = ear.messages()
    ear.say(op="call", id="x", method=method, params=params)
    messages = [*before, *ear.messages()]
    ear.sent = [one for one in messages if one["op"] == "event"]
    (result,) = (one for one in messages if one["op"] == "result")
    if "error" in result:
        raise Failed(f"{result['error']['errcode']}: {result['error']['error']}")
    return result["ok"]


def refused(ear: Ear, method: str, **params: Any) -> str:
    with pytest.raises(Failed) as failed:
        ask(ear, method, **params)
    return str(failed.value)


def told(ear: Ear) -> list[dict[str, tuple[str, ...]]]:
    """Of each `voice.state` that came: who is there, and what is set of each."""
    return [shown(one["data"]["members"]) for one in ear.messages() if one.get("type") == "voice.state"]


def shown(members: list[Any]) -> dict[str, tuple[str, ...]]:
    flags = ("muted", "deafened", "camera", "screen", "speaking")
    return {member["user_id"][1:4]: tuple(flag for flag in flags if member[flag]) for member in members}


class Club:
    """A guild of ann's with a voice channel, and everybody in it."""

    def __init__(self, hall: ApiHouse, *names: str) -> None:
        self.hall = hall
        self.guild_id = hall.new()
        self.stage = hall.new_channel(self.guild_id, "stage", kind="voice")
        self.text = hall.new_channel(self.guild_id, "text", kind="text")
        for name in names:
            hall.enter(self.guild_id, name)
        hall.rest()
        self.ears = [connect(hall, name, ["voice"]) for name in ("ann", *names)]

    def role(self, name: str, *permissions: str) -> None:
        role = self.hall.new_role(self.guild_id, "a role", *permissions)
        self.hall.give_role(self.guild_id, name, role)
        self.hall.rest()

    def deny(self, *permissions: str) -> None:
        path = at("guilds", self.guild_id, "channels", self.stage, "overrides", "everyone")
        self.hall.call("ann", "PUT", path, {"allow": [], "deny": list(permissions)})
        self.hall.rest()


def test_coming_and_going(hall: ApiHouse) -> None:
    club = Club(hall, "bob")
    ann, bob = club.ears
    assert shown(ask(ann, "voice.join", room_id=club.stage)["members"]) == {"ann": ()}
    assert shown(ask(bob, "voice.join", room_id=club.stage)["members"]) == {"ann": (), "bob": ()}
    key = f"_{hall.user('bob')}_DEVICE_m.call"
    assert hall.content(club.stage, CALL_MEMBER, key)["device_id"] == "DEVICE"
    assert told(ann) == [{"ann": ()}, {"ann": (), "bob": ()}]
    ask(bob, "voice.state", muted=True, camera=True)
    ask(bob, "voice.state", muted=True)
    assert told(ann) == [{"ann": (), "bob": ("muted", "camera")}]
    ask(bob, "voice.leave")
    ask(bob, "voice.leave")
    assert told(ann) == [{"ann": ()}]
    assert hall.content(club.stage, CALL_MEMBER, key) == {}
    assert "M_NOT_FOUND" in refused(bob, "voice.state", muted=False)
    assert "M_INVALID_PARAM" in refused(bob, "voice.join", room_id=club.text)
    assert "M_FORBIDDEN" in refused(bob, "voice.join", room_id="!none")


def test_plain_clients(hall: ApiHouse) -> None:
    """A membership is a membership, whatever client says it."""
    club = Club(hall, "bob")
    ann, _ = club.ears
    key = f"_{hall.user('bob')}_PHONE_m.call"
    content = {"application": "m.call", "call_id": "", "device_id": "PHONE", "expires": 1000 * 3600}
    hall.set_state("bob", club.stage, CALL_MEMBER, content, key)
    assert told(ann) == [{"bob": ()}]
    assert shown(ask(ann, "voice.join", room_id=club.stage)["members"]) == {"bob": (), "ann": ()}
    hall.set_state("bob", club.stage, CALL_MEMBER, {**content, "expires": 1}, key)
    assert told(ann)[-1] == {"ann": ()}
    hall.set_state("bob", club.stage, CALL_MEMBER, {"device_id": [], "expires": "x"}, key)
    assert told(ann)[-1] == {"ann": ()}


def test_signals(hall: ApiHouse) -> None:
    club = Club(hall, "bob", "cay")
    ann, bob, cay = club.ears
    for ear in (ann, bob):
        ask(ear, "voice.join", room_id=club.stage)
    bob.messages()
    ask(ann, "voice.signal", to=hall.user("bob"), kind="offer", data={"sdp": "v=0"})
    (message,) = bob.messages()
    assert message["type"] == "voice.signal" and message["data"] == {
        "room_id": club.stage, "from": hall.user("ann"), "device_id": "DEVICE", "kind": "offer", "data": {"sdp": "v=0"},
    }  # fmt: skip
    assert "M_NOT_FOUND" in refused(ann, "voice.signal", to=hall.user("cay"), kind="offer", data=1)
    assert "M_NOT_FOUND" in refused(cay, "voice.signal", to=hall.user("bob"), kind="offer", data=1)
    assert "M_TOO_LARGE" in refused(ann, "voice.signal", to=hall.user("bob"), kind="offer", data="x" * 70_000)
    assert "M_BAD_JSON" in refused(ann, "voice.signal", to=hall.user("bob"), kind="shout", data=1)
    assert cay.news("kind") == [("voice.state",)] * 2
    club.deny("connect")
    assert "M_FORBIDDEN" in refused(bob, "voice.signal", to=hall.user("ann"), kind="offer", data=1)
    assert "M_NOT_FOUND" in refused(ann, "voice.signal", to=hall.user("bob"), kind="offer", data=1)
    assert "M_FORBIDDEN" in refused(cay, "voice.join", room_id=club.stage)


def test_moderation(hall: ApiHouse) -> None:
    club = Club(hall, "bob", "cay")
    ann, bob, cay = club.ears
    ask(cay, "voice.join", room_id=club.stage)
    target = hall.user("cay")
    for more in ({"mute": True}, {"deafen": True}, {"move_to": club.stage}):
        assert "M_FORBIDDEN" in refused(bob, "voice.moderate", user_id=target, **more)
    assert "M_INVALID_PARAM" in refused(bob, "voice.moderate", user_id=target)
    assert "M_NOT_FOUND" in refused(bob, "voice.moderate", user_id=hall.user("bob"), mute=True)
    club.role("bob", "mute_members", "deafen_members")
    told(ann)
    ask(bob, "voice.moderate", user_id=target, mute=True, deafen=True)
    assert told(ann) == [{"cay": ("muted", "deafened")}]
    assert "M_FORBIDDEN" in refused(cay, "voice.state", muted=False)
    ask(bob, "voice.moderate", user_id=target, mute=False, deafen=False)
    assert told(ann) == [{"cay": ()}]
    assert "M_FORBIDDEN" in refused(bob, "voice.moderate", user_id=target, move_to=club.stage)
    ask(ann, "voice.join", room_id=club.stage)
    assert "owner" in refused(bob, "voice.moderate", user_id=hall.user("ann"), mute=True)
    other = hall.new_channel(club.guild_id, "other", kind="voice")
    hall.rest()
    assert "M_FORBIDDEN" in refused(ann, "voice.moderate", user_id=target, move_to=club.text)
    ask(ann, "voice.moderate", user_id=target, move_to=other)
    assert told(ann)[-2:] == [{"ann": ()}, {"cay": ()}]


def test_who_may_speak_and_be_seen(hall: ApiHouse) -> None:
    club = Club(hall, "bob")
    _, bob = club.ears
    club.deny("speak", "stream")
    assert shown(ask(bob, "voice.join", room_id=club.stage)["members"]) == {"bob": ("muted",)}
    assert "M_FORBIDDEN" in refused(bob, "voice.state", muted=False)
    assert "`stream`" in refused(bob, "voice.state", camera=True)
    assert "`stream`" in refused(bob, "voice.state", screen=True)


def test_connections_that_die(hall: ApiHouse) -> None:
    club = Club(hall, "bob")
    ann, bob = club.ears
    ask(bob, "voice.join", room_id=club.stage)
    told(ann)
    bob.drop()
    pass_by(hall, 20)
    assert told(ann) == []
    back = connect(hall, "bob", ["voice"], after=bob)
    pass_by(hall, 60)
    assert told(ann) == [] and told(back) == [{"bob": ()}]
    back.drop()
    pass_by(hall, 60)
    assert told(ann) == [{}]
    assert hall.content(club.stage, CALL_MEMBER, f"_{hall.user('bob')}_DEVICE_m.call") == {}


def pass_by(hall: ApiHouse, seconds: int) -> None:
    """So many seconds, by both of the house's clocks, while ann's client answers pings."""
    for _ in range(seconds):
        for _ in range(100):
            hall.house.clock.now_ms()
        hall.advance(1)
        for theirs in hall.house.gateway.lobby.connections.values():
            for connection in theirs:
                connection.stirred()
        settle(hall)


def test_who_comes_back_sees_how_everybody_is_by_now(hall: ApiHouse) -> None:
    club = Club(hall, "bob")
    ann, bob = club.ears
    ask(ann, "voice.join", room_id=club.stage)
    assert told(bob)[-1] == {"ann": ()}
    bob.drop()
    ask(ann, "voice.state", muted=True, camera=True)
    again = connect(hall, "bob", ["voice"], after=bob)
    assert told(again) == [{"ann": ("muted", "camera")}]
