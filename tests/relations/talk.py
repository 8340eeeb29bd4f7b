"""Saying things about other events in a house, and what readers are shown of that."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson

from homeserver.client.context import Context, get_context
from homeserver.client.event import OneEvent, get_event
from homeserver.client.messages import Messages, get_messages
from homeserver.client.relations import GetRelations, get_relations
from homeserver.client.threads import GetThreads, get_threads
from homeserver.clock import Clock
from homeserver.http.answer import encode_json
from homeserver.http.route import Reply
from homeserver.relations.bundles import Bundles
from homeserver.relations.listing import Relations
from homeserver.relations.threads import ThreadList
from homeserver.rooms.history import History
from homeserver.rooms.send import Sender
from homeserver.userdata.account_data import GLOBAL, AccountData
from homeserver.userdata.ignoring import IGNORED
from tests.fixtures_house import LivedInHouse

_fresh = count()


def send(
    house: LivedInHouse, name: str, room_id: str, content: dict[str, Any], event_type: str = "m.room.message"
) -> str:
    sender = house.house.part(Sender)
    return house.wait(sender.message(house.who(name), room_id, event_type, content, f"txn{next(_fresh)}"))


def relate(
    house: LivedInHouse,
    name: str,
    room_id: str,
    parent: str,
    rel_type: str,
    event_type: str = "m.room.message",
    text: str = "…",
    **more: Any,
) -> str:
    """Say something with a relation; `more` goes into the content."""
    content = {"msgtype": "m.text", "body": text, "m.relates_to": {"rel_type": rel_type, "event_id": parent}, **more}
    return send(house, name, room_id, content, event_type)


def edit(house: LivedInHouse, name: str, room_id: str, parent: str, text: str) -> str:
    new: dict[str, Any] = {"m.new_content": {"msgtype": "m.text", "body": text}}
    return relate(house, name, room_id, parent, "m.replace", text=f"* {text}", **new)


def react(house: LivedInHouse, name: str, room_id: str, parent: str, key: str = "👍") -> str:
    content: dict[str, Any] = {"m.relates_to": {"rel_type": "m.annotation", "event_id": parent, "key": key}}
    return send(house, name, room_id, content, "m.reaction")


def ignore(house: LivedInHouse, name: str, *others: str) -> None:
    content: dict[str, Any] = {"ignored_users": {house.user(other): {} for other in others}}
    house.wait(house.house.part(AccountData).put(house.user(name), GLOBAL, IGNORED, content))


def parsed(house: LivedInHouse, answer: Any) -> Any:
    result = house.wait(answer)
    body = result.body if isinstance(result, Reply) else result
    return orjson.loads(body if isinstance(body, bytes) else encode_json(body))


def reading(house: LivedInHouse) -> tuple[History, Bundles, Clock]:
    part = house.house.part
    return part(History), part(Bundles), part(Clock)


def event(house: LivedInHouse, name: str, room_id: str, event_id: str) -> Any:
    return parsed(house, get_event(*reading(house), house.who(name), OneEvent(room_id, event_id)))


def bundle(house: LivedInHouse, name: str, room_id: str, event_id: str) -> Any:
    """What hangs on an event, as somebody reads it."""
    return event(house, name, room_id, event_id)["unsigned"].get("m.relations", {})


def messages(house: LivedInHouse, name: str, room_id: str, **query: Any) -> Any:
    query.setdefault("dir", "b")
    query.setdefault("limit", 1000)
    return parsed(house, get_messages(*reading(house), house.who(name), Messages(room_id, **query)))


def context(house: LivedInHouse, name: str, room_id: str, event_id: str, **query: Any) -> Any:
    return parsed(house, get_context(*reading(house), house.who(name), Context(room_id, event_id, **query)))


def relations(
    house: LivedInHouse, name: str, room_id: str, event_id: str, rel_type: str | None = None, **query: Any
) -> Any:
    ask = GetRelations(room_id, event_id, rel_type, **query)
    part = house.house.part
    return parsed(house, get_relations(part(Relations), part(Bundles), part(Clock), house.who(name), ask))


def threads(house: LivedInHouse, name: str, room_id: str, **query: Any) -> Any:
    ask = GetThreads(room_id, **query)
    return parsed(house, get_threads(house.house.part(ThreadList), house.house.part(Clock), house.who(name), ask))


def ids(answer: Any) -> list[str]:
    return [one["event_id"] for one in answer["chunk"]]
