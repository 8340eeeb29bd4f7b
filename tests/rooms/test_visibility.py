"""Who sees what: the four settings against everybody who may ask, over every way of asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from attrs import frozen

from homeserver.client.context import Context, get_context
from homeserver.client.event import OneEvent, get_event
from homeserver.client.members import JoinedMembers, Members, get_joined_members, get_members
from homeserver.client.messages import Messages, get_messages
from homeserver.client.state_read import PieceOfState, WholeState, get_piece_of_state, get_state
from homeserver.errors import Forbidden, NotFound
from tests.fixtures_rooms import Town, user

WORDS = ("one", "two", "three", "four", "five")
OUTSIDERS = ("stranger", "invited", "declined", "banned_before")
FORMER = ("left", "kicked", "banned", "invited_again")
INSIDERS = ("alice", "early", "late", "late_by_invitation", "rejoined")

ALL = frozenset(WORDS)
SEEN: Mapping[str, Mapping[str, frozenset[str]]] = {
    "world_readable": dict.fromkeys((*OUTSIDERS, *FORMER, *INSIDERS), ALL),
    "shared": {
        **dict.fromkeys(INSIDERS, ALL),
        **dict.fromkeys(FORMER, frozenset({"one", "two", "three"})),
    },
    "invited": {
        "alice": ALL,
        "early": ALL - {"one"},
        "late": frozenset({"five"}),
        "late_by_invitation": frozenset({"three", "four", "five"}),
        "rejoined": frozenset({"two", "three", "five"}),
        **dict.fromkeys(FORMER, frozenset({"two", "three"})),
    },
    "joined": {
        "alice": ALL,
        "early": ALL - {"one"},
        "late": frozenset({"five"}),
        "late_by_invitation": frozenset({"five"}),
        "rejoined": frozenset({"two", "three", "five"}),
        **dict.fromkeys(FORMER, frozenset({"two", "three"})),
    },
}
"""Setting → person → the messages that they may see. Who is not named may not look into the room."""


@frozen
class Scene:
    town: Town
    room_id: str
    said: Mapping[str, str]
    """Word → event id."""

    def messages(self, name: str, **query: Any) -> Any:
        ask = Messages(self.room_id, **{"dir": "b", "limit": 100, **query})
        town = self.town
        return town.answer(get_messages(*town.reading, town.who(name), ask))

    def event(self, name: str, event_id: str) -> Any:
        town = self.town
        return town.answer(get_event(*town.reading, town.who(name), OneEvent(self.room_id, event_id)))

    def context(self, name: str, event_id: str, limit: int = 100) -> Any:
        town = self.town
        ask = Context(self.room_id, event_id, limit)
        return town.answer(get_context(*town.reading, town.who(name), ask))

    def state(self, name: str) -> Any:
        town = self.town
        return town.answer(get_state(town.state, town.clock, town.who(name), WholeState(self.room_id)))

    def piece(self, name: str, event_type: str, state_key: str = "") -> Any:
        town = self.town
        ask = PieceOfState(self.room_id, event_type, state_key)
        return town.answer(get_piece_of_state(town.state, town.clock, town.who(name), ask))

    def members(self, name: str, **query: Any) -> dict[str, str]:
        town = self.town
        answer = town.answer(get_members(town.state, town.clock, town.who(name), Members(self.room_id, **query)))
        return {event["state_key"]: event["content"]["membership"] for event in answer["chunk"]}

    def joined_members(self, name: str) -> Any:
        town = self.town
        return town.answer(get_joined_members(town.state, town.who(name), JoinedMembers(self.room_id)))


def play(town: Town, setting: str) -> Scene:
    """A room's life, in which everybody of the table comes and goes."""
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": setting}}
    room_id = town.create("alice", preset="public_chat", name="Old name", initial_state=[visibility])
    said: dict[str, str] = {}

    def say(word: str) -> None:
        said[word] = town.say("alice", room_id, word)

    town.ban("alice", "banned_before", room_id)
    say("one")
    for name in ("early", *FORMER, "rejoined"):
        town.join(name, room_id)
    say("two")
    for name in ("invited", "declined", "late_by_invitation"):
        town.invite("alice", name, room_id)
    town.leave("declined", room_id)
    say("three")
    town.leave("left", room_id)
    town.kick("alice", "kicked", room_id)
    town.ban("alice", "banned", room_id)
    town.leave("invited_again", room_id)
    town.leave("rejoined", room_id)
    town.send("alice", room_id, "m.room.name", {"name": "New name"}, "")
    say("four")
    for name in ("late_by_invitation", "late", "rejoined"):
        town.join(name, room_id)
    town.invite("alice", "invited_again", room_id)
    say("five")
    return Scene(town, room_id, said)


@pytest.fixture(params=sorted(SEEN))
def scene(request: pytest.FixtureRequest, town: Town) -> Scene:
    return play(town, request.param)


def setting_of(scene: Scene) -> str:
    return str(scene.piece("alice", "m.room.history_visibility")["history_visibility"])


def words(events: Sequence[Any]) -> list[str]:
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


def test_messages(scene: Scene) -> None:
    seen = SEEN[setting_of(scene)]
    for name in (*OUTSIDERS, *FORMER, *INSIDERS):
        for direction in ("b", "f"):
            if name not in seen:
                with pytest.raises(Forbidden):
                    scene.messages(name, dir=direction)
                continue
            page = scene.messages(name, dir=direction)
            expected = [word for word in WORDS if word in seen[name]]
            found = words(page["chunk"])
            assert (found if direction == "f" else found[::-1]) == expected, name
            assert "end" not in page


def test_one_event(scene: Scene) -> None:
    seen = SEEN[setting_of(scene)]
    for name in (*OUTSIDERS, *FORMER, *INSIDERS):
        for word, event_id in scene.said.items():
            if word in seen.get(name, ()):
                assert scene.event(name, event_id)["content"]["body"] == word
            else:
                with pytest.raises(NotFound):
                    scene.event(name, event_id)


def test_context(scene: Scene) -> None:
    seen = SEEN[setting_of(scene)]
    for name in (*OUTSIDERS, *FORMER, *INSIDERS):
        for word, event_id in scene.said.items():
            if name not in seen:
                with pytest.raises(Forbidden):
                    scene.context(name, event_id)
            elif word not in seen[name]:
                with pytest.raises(NotFound):
                    scene.context(name, event_id)
            else:
                around = scene.context(name, event_id)
                found = words([*around["events_before"][::-1], around["event"], *around["events_after"]])
                assert found == [word for word in WORDS if word in seen[name]]


def test_state(scene: Scene) -> None:
    setting = setting_of(scene)
    for name in (*OUTSIDERS, *FORMER, *INSIDERS):
        if name not in SEEN[setting]:
            with pytest.raises(Forbidden):
                scene.state(name)
            with pytest.raises(Forbidden):
                scene.piece(name, "m.room.name")
            continue
        expected = "Old name" if name in FORMER else "New name"
        assert scene.piece(name, "m.room.name") == {"name": expected}
        events = {(event["type"], event["state_key"]): event for event in scene.state(name)}
        assert events["m.room.name", ""]["content"] == {"name": expected}
        assert (("m.room.member", user("late")) in events) == (name not in FORMER)
        with pytest.raises(NotFound):
            scene.piece(name, "m.room.nothing")


def test_members(scene: Scene) -> None:
    setting = setting_of(scene)
    now = {
        **dict.fromkeys(map(user, INSIDERS), "join"),
        **dict.fromkeys(map(user, ("left", "kicked", "declined")), "leave"),
        **dict.fromkeys(map(user, ("banned", "banned_before")), "ban"),
        **dict.fromkeys(map(user, ("invited", "invited_again")), "invite"),
    }
    for name in (*OUTSIDERS, *INSIDERS):
        if name in SEEN[setting]:
            assert scene.members(name) == now
        else:
            with pytest.raises(Forbidden):
                scene.members(name)
    when_left = {**now, user("rejoined"): "join", user("late_by_invitation"): "invite", user("invited_again"): "join"}
    del when_left[user("late")]
    # They went one after the other, each seeing those go who went before.
    assert scene.members("left") == {**when_left, user("kicked"): "join", user("banned"): "join"}
    assert scene.members("kicked") == {**when_left, user("banned"): "join"}
    assert scene.members("banned") == when_left
    assert scene.members("invited_again") == {**when_left, user("invited_again"): "leave"}


def test_joined_members_are_for_the_joined(scene: Scene) -> None:
    for name in (*OUTSIDERS, *FORMER):
        with pytest.raises(Forbidden):
            scene.joined_members(name)
    named = {user(name): {"display_name": name.title(), "avatar_url": None} for name in INSIDERS}
    assert scene.joined_members("early")["joined"] == named


def test_membership_is_told_with_each_event(scene: Scene) -> None:
    page = scene.messages("rejoined", dir="f")
    told = {event["event_id"]: event["unsigned"]["membership"] for event in page["chunk"]}
    expected = {"one": "leave", "two": "join", "three": "join", "four": "leave", "five": "join"}
    for word, membership in expected.items():
        if scene.said[word] in told:
            assert told[scene.said[word]] == membership
    own = [event["unsigned"]["membership"] for event in page["chunk"] if event.get("state_key") == user("rejoined")]
    assert own == ["join", "leave", "join"]


def test_forgotten_rooms_are_closed(scene: Scene) -> None:
    scene.town.forget("left", scene.room_id)
    if setting_of(scene) == "world_readable":
        assert scene.piece("left", "m.room.name") == {"name": "New name"}
        return
    with pytest.raises(Forbidden):
        scene.messages("left")
    with pytest.raises(Forbidden):
        scene.state("left")
    with pytest.raises(NotFound):
        scene.event("left", scene.said["two"])
    with pytest.raises(Forbidden):
        scene.context("left", scene.said["two"])


def test_rooms_that_are_not_there_look_like_closed_ones(town: Town) -> None:
    room_id = town.create("alice")
    event_id = town.say("alice", room_id, "one")
    errors = []
    for scene in (Scene(town, room_id, {}), Scene(town, "!nowhere:test.example", {})):
        for call, arguments in (
            (scene.messages, ()),
            (scene.event, (event_id,)),
            (scene.context, (event_id,)),
            (scene.state, ()),
            (scene.piece, ("m.room.name",)),
            (scene.members, ()),
            (scene.joined_members, ()),
        ):
            with pytest.raises((Forbidden, NotFound)) as caught:
                call("stranger", *arguments)
            errors.append((caught.value.status, caught.value.errcode, caught.value.error))
    assert errors[: len(errors) // 2] == errors[len(errors) // 2 :]


def test_a_change_of_the_setting_is_seen_from_both_sides(town: Town) -> None:
    """Spec: the event that changes the visibility is visible if it is before or after the change."""
    room_id = town.create("alice", preset="public_chat")
    scene = Scene(town, room_id, {})
    changes = []
    for setting in ("world_readable", "joined", "invited", "world_readable"):
        content = {"history_visibility": setting}
        changes.append(town.send("alice", room_id, "m.room.history_visibility", content, "").event.event_id)
        town.say("alice", room_id, f"while {setting}")
    page = scene.messages("stranger")
    seen = {event["event_id"] for event in page["chunk"]}
    assert [change in seen for change in changes] == [True, True, False, True]
    assert words(page["chunk"]) == ["while world_readable", "while world_readable"]


def test_what_is_not_understood_counts_as_shared(town: Town) -> None:
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": ["joined"]}}
    room_id = town.create("alice", preset="public_chat", initial_state=[visibility])
    town.say("alice", room_id, "before")
    with pytest.raises(Forbidden):
        Scene(town, room_id, {}).messages("bob")
    town.join("bob", room_id)
    assert words(Scene(town, room_id, {}).messages("bob")["chunk"]) == ["before"]


def test_one_hears_of_ones_own_ban(town: Town) -> None:
    room_id = town.create("alice", preset="public_chat")
    town.join("bob", room_id)
    town.ban("alice", "bob", room_id)
    page = Scene(town, room_id, {}).messages("bob")
    assert page["chunk"][0]["content"]["membership"] == "ban"
    assert page["chunk"][0]["unsigned"]["prev_content"]["membership"] == "join"
