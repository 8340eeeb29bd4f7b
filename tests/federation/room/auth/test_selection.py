"""What events must cite, and what they may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from federation.room.auth import ALLOWED, Refused, auth_types_for, auth_types_of, check_auth_events
from federation.room.auth.numbering import rule_numbers
from federation.room.event import Event, StateKey
from federation.room.versions import ROOM_VERSIONS, RoomVersion
from tests.federation.room.history import make_event

ALL = list(ROOM_VERSIONS.values())
CREATE = ("m.room.create", "")
POWER = ("m.room.power_levels", "")
RULES = ("m.room.join_rules", "")


def member(user_id: str) -> StateKey:
    return "m.room.member", user_id


SELECTIONS: dict[str, tuple[str, str | None, Mapping[str, Any], list[StateKey]]] = {
    "a message": ("m.room.message", None, {}, [POWER, member("@a:a")]),
    "state": ("m.room.topic", "", {}, [POWER, member("@a:a")]),
    "state with the type of nothing special": ("org.example", "@b:b", {}, [POWER, member("@a:a")]),
    "a join": ("m.room.member", "@a:a", {"membership": "join"}, [POWER, member("@a:a"), RULES]),
    "a knock": ("m.room.member", "@a:a", {"membership": "knock"}, [POWER, member("@a:a"), RULES]),
    "a leave": ("m.room.member", "@a:a", {"membership": "leave"}, [POWER, member("@a:a")]),
    "a kick": ("m.room.member", "@b:b", {"membership": "leave"}, [POWER, member("@a:a"), member("@b:b")]),
    "a ban": ("m.room.member", "@b:b", {"membership": "ban"}, [POWER, member("@a:a"), member("@b:b")]),
    "an invite": ("m.room.member", "@b:b", {"membership": "invite"}, [POWER, member("@a:a"), member("@b:b"), RULES]),
    "an invite to an address": (
        "m.room.member",
        "@b:b",
        {"membership": "invite", "third_party_invite": {"signed": {"token": "T"}}},
        [POWER, member("@a:a"), member("@b:b"), RULES, ("m.room.third_party_invite", "T")],
    ),
    "an invite to an address, without its token": (
        "m.room.member",
        "@b:b",
        {"membership": "invite", "third_party_invite": {"signed": []}},
        [POWER, member("@a:a"), member("@b:b"), RULES],
    ),
    "a member event that is none": ("m.room.member", None, {"membership": "join"}, [POWER, member("@a:a")]),
    "a member event of nonsense": ("m.room.member", "@a:a", {"membership": ["join"]}, [POWER, member("@a:a")]),
}


@pytest.mark.parametrize("version", ALL, ids=str)
@pytest.mark.parametrize(("type", "state_key", "content", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_selection(
    version: RoomVersion, type: str, state_key: str | None, content: Mapping[str, Any], expected: list[StateKey]
) -> None:
    selected = auth_types_for(version, type=type, sender="@a:a", state_key=state_key, content=content)
    assert selected == (expected if version.room_id_is_hash else [CREATE, *expected])


@pytest.mark.parametrize("version", ALL, ids=str)
def test_a_create_event_cites_nothing(version: RoomVersion) -> None:
    assert auth_types_for(version, type="m.room.create", sender="@a:a", state_key="", content={}) == []


@pytest.mark.parametrize("version", ALL, ids=str)
@pytest.mark.parametrize("authority", ["@c:c", "@a:a", 5])
def test_a_restricted_join_cites_its_authority(version: RoomVersion, authority: object) -> None:
    content = {"membership": "join", "join_authorised_via_users_server": authority}
    selected = auth_types_for(version, type="m.room.member", sender="@a:a", state_key="@a:a", content=content)
    assert (member("@c:c") in selected) is (version.restricted and authority == "@c:c")
    assert len(selected) == len(set(selected))


class Room:
    """Events that others may cite."""

    def __init__(self, version: RoomVersion) -> None:
        self.version = version
        self.create = make_event(version, "CREATE", "m.room.create", "@a:a", state_key="")
        self.member = make_event(version, "MEMBER", "m.room.member", "@a:a", state_key="@a:a")
        self.again = make_event(version, "AGAIN", "m.room.member", "@a:a", state_key="@a:a")
        self.other = make_event(version, "OTHER", "m.room.member", "@b:b", state_key="@b:b")
        self.message = make_event(version, "MESSAGE", "m.room.message", "@a:a")
        self.power = make_event(version, "POWER", "m.room.power_levels", "@a:a", state_key="")
        self.foreign = make_event(version, "POWER", "m.room.power_levels", "@a:a", state_key="", room_id="!other:a")

    def usual(self) -> list[Event]:
        return [self.member, self.power] if self.version.room_id_is_hash else [self.create, self.member, self.power]


@pytest.mark.parametrize("version", ALL, ids=str)
def test_citations_of_an_event(version: RoomVersion) -> None:
    room = Room(version)
    usual = room.usual()

    def judge(cited: list[Event], *rejected: str) -> str | None:
        event = make_event(version, "EVENT", "m.room.message", "@a:a")
        verdict = check_auth_events(version, event, cited, rejected.__contains__)
        return verdict.rule if isinstance(verdict, Refused) else None

    number = rule_numbers(version)
    assert judge(usual) is None
    assert judge([*usual, room.again]) == number["citations.duplicate"]
    assert judge([*usual, room.power]) == number["citations.duplicate"]
    assert judge([*usual, room.other]) == number["citations.selection"]
    assert judge([*usual, room.message]) == number["citations.selection"]
    assert judge(usual, "$OTHER") is None
    assert judge(usual, "$POWER") == number["citations.rejected"]
    assert judge([*usual[:-1], room.foreign]) == number["citations.other_room"]
    if version.room_id_is_hash:
        assert judge([room.create, *usual]) == number["citations.selection"]
        assert judge(usual, "$CREATE") == number["room"]
        assert "citations.create" not in number
    else:
        assert judge(usual[1:]) == number["citations.create"]
        assert judge(usual, "$CREATE") == number["citations.rejected"]


@pytest.mark.parametrize("version", ALL, ids=str)
def test_a_create_event_is_not_judged_by_citations(version: RoomVersion) -> None:
    room = Room(version)
    assert check_auth_events(version, room.create, [], lambda event_id: False) == ALLOWED


def test_auth_types_of_reads_the_event() -> None:
    version = ROOM_VERSIONS["12"]
    event = make_event(version, "EVENT", "m.room.member", "@a:a", {"membership": "invite"}, state_key="@b:b")
    assert auth_types_of(version, event) == [POWER, member("@a:a"), member("@b:b"), RULES]
