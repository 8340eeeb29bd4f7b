"""Taking back what was said: who may, what is left, and that nothing else of it stays anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from twisted.internet.defer import Deferred

from federation.room.versions import ROOM_VERSIONS
from homeserver.errors import BadJson, Forbidden, MatrixError, MissingParam, NotFound
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.send import Sender
from storage import events as event_rows
from storage.ports import StoredEvent
from tests.fixtures_house import LivedInHouse, open_house
from tests.fixtures_rooms import user

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ALICE, BOB = user("alice"), user("bob")


def room(house: LivedInHouse, **body: Any) -> str:
    room_id = house.create("alice", preset="public_chat", **body)
    for name in ("bob", "carol"):
        house.join(name, room_id)
    return room_id


def kept(house: LivedInHouse, event_id: str) -> StoredEvent:
    """The event as the database has it."""
    return house.wait(house.house.database.run(event_rows.load_by_ids, [event_id]))[event_id]


def held(house: LivedInHouse, event_id: str) -> StoredEvent:
    """The event as memory has it."""
    stored = house.house.events.peek(kept(house, event_id).nid)
    assert stored is not None
    return stored


def shown(stored: StoredEvent) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(client_event(stored, Reader(BOB, "DEVICE", 0)))
    return parsed


def in_sync(house: LivedInHouse, name: str, room_id: str, event_id: str) -> dict[str, Any]:
    """The event as a first sync shows it."""
    section = house.sync(name, filter={"room": {"timeline": {"limit": 50}}})["rooms"]["join"][room_id]
    (found,) = [event for event in section["timeline"]["events"] if event["event_id"] == event_id]
    assert isinstance(found, dict)
    return found


def redact(house: LivedInHouse, name: str, room_id: str, event_id: str, content: dict[str, Any], txn_id: str) -> str:
    return house.wait(house.house.part(Sender).redact(house.who(name), room_id, event_id, content, txn_id))


def test_a_redacted_message_is_gone_from_everywhere(house: LivedInHouse, tmp_path: Path, database_url: str) -> None:
    room_id = room(house)
    event_id = house.say("bob", room_id, "regrettable")
    since = house.sync("carol")["next_batch"]
    redaction_id = redact(house, "bob", room_id, event_id, {"reason": "typo"}, "r1")

    news = house.sync("carol", since)["rooms"]["join"][room_id]["timeline"]["events"]
    assert [event["event_id"] for event in news] == [redaction_id]
    assert news[0]["redacts"] == event_id and news[0]["content"] == {"reason": "typo", "redacts": event_id}
    for found in (
        in_sync(house, "carol", room_id, event_id),
        shown(held(house, event_id)),
        shown(kept(house, event_id)),
    ):
        assert found["content"] == {} and found["sender"] == BOB and found["event_id"] == event_id
        because = found["unsigned"]["redacted_because"]
        assert because["event_id"] == redaction_id and because["content"]["reason"] == "typo"
        assert because["redacts"] == because["content"]["redacts"] == event_id
    assert b"regrettable" not in kept(house, event_id).event.raw
    live = house.house.rooms.peek(room_id)
    assert live is not None and all(
        b"regrettable" not in entry.stored.event.raw for entry in live.window if entry.stored is not None
    )
    house.wait(house.house.close())
    again = open_house(tmp_path, database_url)
    try:
        found = in_sync(again, "carol", room_id, event_id)
        assert found["content"] == {} and found["unsigned"]["redacted_because"]["event_id"] == redaction_id
        assert redact(again, "bob", room_id, event_id, {}, "r1") == redaction_id
    finally:
        again.wait(again.house.close())


@pytest.mark.parametrize("version", ["1", "2", "6", "10", "11", "12"])
@on_sqlite
def test_who_may_redact_what(house: LivedInHouse, version: str) -> None:
    room_id = room(house, room_version=version, power_level_content_override={"redact": 60})
    mine, theirs = house.say("bob", room_id, "mine"), house.say("carol", room_id, "theirs")
    with pytest.raises(Forbidden):
        house.redact("bob", room_id, theirs)
    with pytest.raises(Forbidden):
        house.redact("dan", room_id, theirs)
    assert kept(house, theirs).event.content == {"body": "theirs", "msgtype": "m.text"}
    house.redact("bob", room_id, mine)
    house.redact("alice", room_id, theirs)
    for event_id, redactor in ((mine, BOB), (theirs, ALICE)):
        stored = kept(house, event_id)
        assert stored.event.content == {} and stored.redacted_because is not None
        redaction = stored.redacted_because.event
        assert (redaction.sender, redaction.redacts) == (redactor, event_id)
        # Where the target's id stands among servers is for the version to say.
        fields = redaction.to_json()
        in_content = ROOM_VERSIONS[version].redacts_in_content
        assert (fields["content"].get("redacts"), fields.get("redacts")) == (
            (event_id, None) if in_content else (None, event_id)
        )
        assert stored.event.to_json()["signatures"] and held(house, event_id).event.raw == stored.event.raw
    # Redacting one's own needs the power to send a redaction all the same.
    levels = {"events": {"m.room.redaction": 50}, **({} if version == "12" else {"users": {ALICE: 100}})}
    house.set_state("alice", room_id, "m.room.power_levels", levels)
    another = house.say("bob", room_id, "another")
    with pytest.raises(Forbidden):
        house.redact("bob", room_id, another)


@on_sqlite
def test_redacting_twice_is_no_error(house: LivedInHouse) -> None:
    room_id = room(house)
    event_id = house.say("bob", room_id, "regrettable")
    first = redact(house, "bob", room_id, event_id, {"reason": "one"}, "r1")
    second = redact(house, "alice", room_id, event_id, {"reason": "two"}, "r2")
    assert first != second
    for stored in (held(house, event_id), kept(house, event_id)):
        assert shown(stored)["unsigned"]["redacted_because"]["event_id"] == first, "the first one did it"
    # Two at once: whichever counts, memory and disk agree.
    event_id = house.say("bob", room_id, "also regrettable")
    sender = house.house.part(Sender)
    both = [
        Deferred.fromCoroutine(sender.redact(house.who(name), room_id, event_id, {}, "r3")) for name in ("bob", "alice")
    ]
    for one in both:
        house.wait(one)
    assert shown(held(house, event_id)) == shown(kept(house, event_id))


@on_sqlite
def test_redacting_what_is_not_there(house: LivedInHouse) -> None:
    room_id, other = room(house), house.create("alice")
    elsewhere = house.say("alice", other, "in another room")
    for event_id in ("", "nothing", elsewhere, "$nul\0", "$" + "x" * 10_000, room_id):
        with pytest.raises(NotFound):
            house.redact("alice", room_id, event_id)
    with pytest.raises(NotFound):
        house.redact("bob", room_id, "$nothing")  # it can't be told whether it is his own
    assert kept(house, elsewhere).event.content["body"] == "in another room"


@on_sqlite
def test_a_redacted_redaction_keeps_no_reason(house: LivedInHouse) -> None:
    for version in ("10", "12"):
        room_id = room(house, room_version=version)
        event_id = house.say("bob", room_id, "regrettable")
        redaction = redact(house, "bob", room_id, event_id, {"reason": "private matter"}, "r1")
        house.sync("carol")
        again = redact(house, "alice", room_id, redaction, {"reason": "not said here"}, "r2")
        for stored in (held(house, event_id), kept(house, event_id), house_window(house, room_id, event_id)):
            because = shown(stored)["unsigned"]["redacted_because"]
            assert because["event_id"] == redaction and "reason" not in because["content"]
        for stored in (held(house, redaction), kept(house, redaction)):
            found = shown(stored)
            assert found["content"] == ({"redacts": event_id} if version == "12" else {})
            assert found["unsigned"]["redacted_because"]["event_id"] == again
        assert b"private matter" not in orjson.dumps(house.sync("carol"))
        # What was redacted stays so.
        assert kept(house, event_id).event.content == {}


def house_window(house: LivedInHouse, room_id: str, event_id: str) -> StoredEvent:
    live = house.house.rooms.peek(room_id)
    assert live is not None
    (found,) = [
        entry.stored for entry in live.window if entry.stored is not None and entry.stored.event.event_id == event_id
    ]
    return found


@pytest.mark.parametrize("version", ["1", "10", "11", "12"])
@on_sqlite
def test_what_state_keeps(house: LivedInHouse, version: str) -> None:
    """A room goes on working whatever of its state is redacted."""
    room_id = room(house, room_version=version, name="The pub", topic="Beer")
    live = house.wait(house.house.rooms.require(room_id))
    state = {key: ref.event_id for key, ref in live.visible.state.items()}
    for event_id in state.values():
        house.redact("alice", room_id, event_id)
    contents = {key: kept(house, event_id).event.content for key, event_id in state.items()}
    assert contents["m.room.name", ""] == contents["m.room.topic", ""] == {}
    assert contents["m.room.member", BOB] == {"membership": "join"}
    assert contents["m.room.join_rules", ""] == {"join_rule": "public"}
    assert contents["m.room.history_visibility", ""] == {"history_visibility": "shared"}
    assert contents["m.room.create", ""]["room_version"] == version, "whatever a version says: a room keeps its own"
    levels = contents["m.room.power_levels", ""]
    assert levels["ban"] == 50 and ("invite" in levels) == (int(version) >= 11)
    assert {key: ref.event_id for key, ref in live.visible.state.items()} == state
    for round in range(2):
        house.say("bob", room_id, f"still here {round}")
        house.set_state("alice", room_id, "m.room.topic", {"topic": f"new {round}"})
        with pytest.raises(Forbidden):
            house.set_state("bob", room_id, "m.room.topic", {"topic": "mine"})
        house.leave("carol", room_id)
        house.join("carol", room_id)
        house.house.rooms.drop(live)
        live = house.wait(house.house.rooms.require(room_id))
        assert live.membership_of(BOB) == "join" and live.joined_count == 3
    # Setting what was redacted is setting something new.
    house.set_state("alice", room_id, "m.room.name", {"name": "The pub"})
    assert house.set_state("alice", room_id, "m.room.name", {"name": "The pub"}) != state["m.room.name", ""]


@on_sqlite
def test_redacted_power_levels_are_read_anew(house: LivedInHouse) -> None:
    """Before version 11 the level for invitations does not survive: what was parsed of it must not either."""
    for version in ("10", "11"):
        room_id = room(house, room_version=version, power_level_content_override={"invite": 50})
        with pytest.raises(Forbidden):
            house.wait(house.memberships.invite(room_id, BOB, user("dan")))
        live = house.wait(house.house.rooms.require(room_id))
        house.redact("alice", room_id, live.visible.state["m.room.power_levels", ""].event_id)
        door = house.house.part(Sender).door
        assert house.wait(door.power_levels(live)).invite == (0 if version == "10" else 50)
        inviting = house.memberships.invite(room_id, BOB, user("dan"))
        if version == "10":
            house.wait(inviting)
        else:
            with pytest.raises(Forbidden):
                house.wait(inviting)


@pytest.mark.parametrize("version", ["3", "12"])
@on_sqlite
def test_a_redaction_sent_as_a_message(house: LivedInHouse, version: str) -> None:
    room_id = room(house, room_version=version)
    sender, bob = house.house.part(Sender), house.who("bob")
    event_id, theirs = house.say("bob", room_id, "regrettable"), house.say("carol", room_id, "theirs")

    def send(txn_id: str, **content: Any) -> str:
        return house.wait(sender.message(bob, room_id, "m.room.redaction", content, txn_id))

    redaction = send("1", redacts=event_id, reason="typo")
    assert send("1", redacts=event_id, reason="typo") == redaction
    found = shown(kept(house, redaction))
    assert found["redacts"] == event_id and found["content"] == {"reason": "typo", "redacts": event_id}
    assert kept(house, event_id).event.content == {}
    assert kept(house, redaction).event.redacts == event_id
    errors: list[tuple[dict[str, Any], type[MatrixError]]] = [
        ({"redacts": theirs}, Forbidden), ({"redacts": "$nothing"}, NotFound), ({"redacts": "nothing"}, NotFound),
        ({"redacts": 5}, BadJson), ({"redacts": [event_id]}, BadJson), ({}, MissingParam),
        ({"redacts": None}, MissingParam),
    ]  # fmt: skip
    for number, (content, error) in enumerate(errors):
        with pytest.raises(error):
            send(f"bad {number}", **content)
    with pytest.raises(BadJson):
        house.set_state("alice", room_id, "m.room.redaction", {"redacts": event_id})
    # The call of its own takes no other target from the content.
    another = house.say("bob", room_id, "another")
    redaction = redact(house, "bob", room_id, another, {"redacts": theirs}, "2")
    assert kept(house, redaction).event.redacts == another and kept(house, theirs).event.content != {}
    assert shown(kept(house, redaction))["content"] == {"redacts": another}


@pytest.mark.parametrize(
    ("content", "status"), [({"reason": 1.5}, 400), ({"reason": 2**60}, 400), ({"reason": "x" * 66_000}, 413)]
)
@on_sqlite
def test_reasons_that_are_none(house: LivedInHouse, content: dict[str, Any], status: int) -> None:
    room_id = room(house)
    event_id = house.say("bob", room_id, "hello")
    with pytest.raises(MatrixError) as caught:
        redact(house, "bob", room_id, event_id, content, "r")
    assert caught.value.status == status and kept(house, event_id).event.content != {}


@on_sqlite
def test_a_redaction_that_fails_changes_nothing(house: LivedInHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = room(house)
    event_id = house.say("bob", room_id, "hello")
    with monkeypatch.context() as patch:
        patch.setattr(event_rows, "apply_redaction", _fail)
        with pytest.raises(OSError, match="the disk is full"):
            redact(house, "bob", room_id, event_id, {}, "r")
    for stored in (held(house, event_id), kept(house, event_id)):
        assert shown(stored)["content"]["body"] == "hello" and "redacted_because" not in shown(stored)["unsigned"]
    redact(house, "bob", room_id, event_id, {}, "r")
    assert kept(house, event_id).event.content == {}


def _fail(*what: Any, **more: Any) -> None:
    raise OSError("the disk is full")
