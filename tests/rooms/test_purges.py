"""Who is put out with all that they said: on every server, but for what was said in an earlier stay, and state."""

from __future__ import annotations

from typing import Any

from federation.room.purging import FLAG
from homeserver.client.membership import PutOut, ban, kick
from homeserver.http.answer import encode_json
from homeserver.http.asks import AskReader
from homeserver.rooms.purges import Purges
from storage import purges as purge_rows
from tests.fixtures_fleet import Fleet
from tests.fixtures_house import LivedInHouse
from tests.relations.talk import bundle, event, messages, relate
from tests.retention.test_expiry import bodies, settle


def put_out(house: Any, verb: Any, name: str, room_id: str, target: str, **body: Any) -> None:
    given = {"user_id": house.user(target), FLAG: True, **body}
    ask = AskReader(PutOut, path=["room_id"]).read([room_id], "", encode_json(given))
    house.wait(verb(house.memberships, house.who(name), ask))
    settle(house)


def test_a_ban_takes_what_was_said_along(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat", power_level_content_override={"state_default": 0})
    root = house.say("alice", room_id, "hello")
    house.join("mallory", room_id)
    house.say("mallory", room_id, "of an earlier stay")
    house.leave("mallory", room_id)
    house.join("mallory", room_id)
    spam = [house.say("mallory", room_id, f"spam {number}") for number in range(3)]
    relate(house, "mallory", room_id, root, "m.thread", text="spam in a thread")
    house.set_state("mallory", room_id, "m.room.topic", {"topic": "stays"})
    house.say("alice", room_id, "enough")
    put_out(house, ban, "alice", room_id, "mallory", reason="spam")
    assert bodies(house, "alice", room_id) == ["hello", "of an earlier stay", None, None, None, None, "enough"]
    shown = event(house, "alice", room_id, spam[0])
    because = shown["unsigned"]["redacted_because"]
    assert shown["content"] == {} and because["type"] == "m.room.member"
    assert because["content"] == {"membership": "ban", "reason": "spam", FLAG: True}
    assert bundle(house, "alice", room_id, root) == {}
    topics = [one["content"] for one in messages(house, "alice", room_id)["chunk"] if one["type"] == "m.room.topic"]
    assert topics == [{"topic": "stays"}]
    timeline = house.sync("alice")["rooms"]["join"][room_id]["timeline"]["events"]
    assert "spam 1" not in str(timeline)


def test_a_kick_does_so_and_whoever_may_not_redact_does_not(house: LivedInHouse) -> None:
    levels = {"users": {house.user("bob"): 50}, "kick": 50, "redact": 75}
    room_id = house.create("alice", preset="public_chat", power_level_content_override=levels)
    for name in ("bob", "mallory"):
        house.join(name, room_id)
    house.say("mallory", room_id, "spam")
    put_out(house, kick, "bob", room_id, "mallory")
    assert bodies(house, "alice", room_id) == ["spam"]
    house.join("mallory", room_id)
    house.say("mallory", room_id, "more spam")
    put_out(house, kick, "alice", room_id, "mallory", **{FLAG: False})
    house.join("mallory", room_id)
    house.say("mallory", room_id, "yet more")
    put_out(house, kick, "alice", room_id, "mallory")
    assert bodies(house, "alice", room_id) == ["spam", "more spam", None]
    # Who is gone by themselves was not in the room any more: a ban says nothing of what they said.
    house.join("mallory", room_id)
    house.say("mallory", room_id, "bye")
    house.leave("mallory", room_id)
    put_out(house, ban, "alice", room_id, "mallory")
    assert bodies(house, "alice", room_id)[-1] == "bye"


def test_a_crash_in_between_is_made_up_for(house: LivedInHouse) -> None:
    room_id = house.create("alice", preset="public_chat")
    house.join("mallory", room_id)
    house.say("mallory", room_id, "spam")
    purges = house.house.part(Purges)
    observers = purges.door.observers
    observers.remove(purges)  # as if the server went down with the ban's commit
    put_out(house, ban, "alice", room_id, "mallory")
    assert bodies(house, "alice", room_id) == ["spam"]
    observers.append(purges)
    for _ in range(2):
        house.wait(purges.start())
        assert bodies(house, "alice", room_id) == [None]
    assert house.wait(purges.database.run(purge_rows.under_way)) == []


def test_on_every_server(fleet: Fleet) -> None:
    a, b = fleet.open("a", "b")
    room_id = a.create("alice", preset="public_chat")
    b.enter("mallory", room_id, via=a)
    b.enter("bob", room_id, via=a)
    fleet.settle()
    b.say("mallory", room_id, "spam")
    fleet.settle()
    assert bodies(a, "alice", room_id) == ["spam"]
    target = b.user("mallory")
    a.wait(a.memberships.ban(room_id, a.user("alice"), target, besides={FLAG: True}))
    fleet.settle()
    for member, reader in ((a, "alice"), (b, "bob")):
        settle(member)
        assert bodies(member, reader, room_id) == [None]
