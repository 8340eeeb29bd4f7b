"""Events as clients see them, byte for byte the JSON that it should be."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given

from federation.room.build import build_event
from federation.room.canonical import canonical_json
from federation.room.event import Event
from federation.room.parse import load_event, parse_pdu
from federation.room.signing import SigningKey, sign_event
from federation.room.versions import ROOM_VERSIONS
from homeserver.rooms.render import Reader, client_event, federation_event, is_personal, prefix, stripped_state
from storage.ports import StoredEvent
from tests import strategies

KEY = SigningKey.generate("test")
ALICE = "@alice:test.example"
ROOM_ID = "!" + "r" * 43
NOW = 1_700_000_010_000


def event(
    version: str = "12", content: dict[str, Any] | None = None, type: str = "m.room.message", **more: Any
) -> Event:
    """An event as it is when it comes from the database."""
    given = {"redacts": None, "state_key": None, **more}
    room = ROOM_VERSIONS[version]
    made = build_event(
        room,
        room_id=ROOM_ID if room.room_id_is_hash else ROOM_ID + ":test.example",
        type=type,
        sender=ALICE,
        content={} if content is None else content,
        prev_events=["$prev"],
        auth_events=["$auth"],
        depth=7,
        origin_server_ts=1_700_000_000_000,
        server_name="test.example",
        key=KEY,
        event_id="$own:test.example" if room.cites_with_hashes else None,
        references={"$prev": "hash", "$auth": "hash"} if room.cites_with_hashes else None,
        **given,
    )
    return load_event(room, made.event_id, made.raw)


def stored(event: Event, nid: int = 1, **more: Any) -> StoredEvent:
    return StoredEvent(nid, 5, 1, event, 1, 1, **more)


def reader(device_id: str | None = "DEVICE", user_id: str = ALICE, **more: Any) -> Reader:
    return Reader(user_id, device_id, NOW, **more)


def shown(one: StoredEvent, who: Reader | None = None, **how: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = orjson.loads(client_event(one, who or reader(), **how))
    return parsed


def test_a_message() -> None:
    message = event(content={"body": "hello", "msgtype": "m.text"})
    assert shown(stored(message)) == {
        "content": {"body": "hello", "msgtype": "m.text"},
        "event_id": message.event_id,
        "origin_server_ts": 1_700_000_000_000,
        "room_id": ROOM_ID,
        "sender": ALICE,
        "type": "m.room.message",
        "unsigned": {"age": 10_000},
    }
    assert "room_id" not in shown(stored(message), room_id=False)
    assert shown(stored(message), membership="join")["unsigned"] == {"age": 10_000, "membership": "join"}
    more = shown(stored(message), reader(bundled={1: b',"m.relations":{"m.thread":{}}'}))["unsigned"]
    assert more == {"age": 10_000, "m.relations": {"m.thread": {}}}


def test_state_and_what_it_replaced() -> None:
    topic = event(type="m.room.topic", state_key="", content={"topic": "new"})
    assert shown(stored(topic))["state_key"] == "" and set(shown(stored(topic))["unsigned"]) == {"age"}
    old = stored(event(type="m.room.topic", state_key="", content={"topic": "old"}), nid=9)
    knowing = reader(peek={9: old}.get)
    unsigned = shown(stored(topic, replaces=9), knowing)["unsigned"]
    assert unsigned == {
        "age": 10_000,
        "prev_content": {"topic": "old"},
        "prev_sender": old.event.sender,
        "replaces_state": old.event.event_id,
    }
    # What is not in memory is left out.
    assert set(shown(stored(topic, replaces=8), knowing)["unsigned"]) == {"age"}


def test_an_event_of_the_future_has_no_negative_age() -> None:
    early = Reader(ALICE, "DEVICE", 1)
    assert shown(stored(event()), early)["unsigned"]["age"] == 0


@pytest.mark.parametrize(
    ("who", "is_shown"),
    [
        (reader("DEVICE"), True),
        (reader("OTHER"), False),
        (reader(None), False),
        (reader("DEVICE", "@bob:test.example"), False),
    ],
)
def test_a_transaction_id_is_for_the_device_that_sent_it(who: Reader, is_shown: bool) -> None:
    one = stored(event(), device_id="DEVICE", txn_id='odd"\0\\')
    assert shown(one, who)["unsigned"].get("transaction_id") == ('odd"\0\\' if is_shown else None)
    assert is_personal(one, who.user_id) == (who.user_id == ALICE)
    assert not is_personal(stored(event()), who.user_id)


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_a_redaction_names_its_target_in_both_places(version: str) -> None:
    redaction = event(version, {"reason": "typo", "a": 1}, "m.room.redaction", redacts="$target")
    expected = {"a": 1, "reason": "typo", "redacts": "$target"}
    found = shown(stored(redaction))
    assert (found["redacts"], found["content"]) == ("$target", expected)
    # And as peers see it, it is what was signed.
    assert orjson.loads(federation_event(stored(redaction), reader()))["content"] == (
        expected if int(version) >= 11 else {"a": 1, "reason": "typo"}
    )
    empty = shown(stored(event(version, {}, "m.room.redaction", redacts="$target")))
    assert (empty["redacts"], empty["content"]) == ("$target", {"redacts": "$target"})
    # Nothing but a redaction redacts.
    other = shown(stored(event(version, {"redacts": "$target"}, "org.example")))
    assert "redacts" not in other and other["content"] == {"redacts": "$target"}


def test_a_redactions_odd_content_keeps_its_numbers() -> None:
    """Old room versions may carry what JSON libraries disagree on; a peer's word in the wrong place does not count."""
    version = ROOM_VERSIONS["5"]
    plain = event("5", {}, "m.room.redaction", redacts="$target").to_json()
    fields = {**plain, "content": {"huge": 2**80, "real": 1.5, "redacts": "$other", "é": "\0"}}
    signed = sign_event(version, fields, "test.example", KEY)
    received = parse_pdu(version, signed)
    made = client_event(stored(received), reader())
    assert b'"huge":%d,"real":1.5,"redacts":"$target"' % 2**80 in made
    assert orjson.loads(made)["redacts"] == "$target" and orjson.loads(made)["content"]["é"] == "\0"


def test_a_redacted_event_says_why() -> None:
    redaction = stored(event(content={"reason": "typo"}, type="m.room.redaction", redacts="$t"), nid=2, txn_id="t")
    one = stored(event(content={}), redacted_by=2, redacted_because=redaction)
    because = shown(one)["unsigned"]["redacted_because"]
    assert because == shown(redaction)
    # What an erasure took away has nobody's word for it.
    assert set(shown(stored(event(), redacted_by=0))["unsigned"]) == {"age"}


@given(content=strategies.strict_objects, state_key=strategies.json_text)
def test_whatever_it_holds_it_stays_json(content: dict[str, Any], state_key: str) -> None:
    one = event(content=content, type="org.example", state_key=state_key)
    again = parse_pdu(ROOM_VERSIONS["12"], one.to_json())
    for each in (one, again):
        found = shown(stored(each, device_id="DEVICE", txn_id=state_key))
        assert (found["content"], found["state_key"]) == (content, state_key)
        assert found["unsigned"] == {"age": 10_000, "transaction_id": state_key}
        federated = orjson.loads(federation_event(stored(each), reader(), membership="join"))
        assert federated.pop("unsigned") == {"age": 10_000, "membership": "join"}
        assert canonical_json(federated) == each.raw
        stripped = orjson.loads(stripped_state(each))
        assert stripped == {"content": content, "sender": ALICE, "state_key": state_key, "type": "org.example"}


def test_the_common_part_is_made_once() -> None:
    one = event(content={"body": "hello"})
    first = prefix(one)
    assert prefix(one) is first and client_event(stored(one), reader()).startswith(first)
    # A new form of the event starts without one.
    again = msgspec.structs.replace(one, raw=one.raw, client_prefix=None)
    assert prefix(again) == first
