"""Every route of the house with a call that would be a good one, for tests that spoil it in one place at a time."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Set
from functools import cache
from itertools import count
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
from attrs import define, evolve, field, frozen

from homeserver.http.asks import is_ask
from homeserver.http.bodies import IncomingBody
from homeserver.http.route import Route
from tests.e2e.hostile.line import Line, segment
from tests.fixtures_server import Answer, Person
from tests.spec.operations import OPERATIONS, Operation, route_table

ROUTES: list[Route] = [endpoint.route for endpoint in route_table().endpoints]
_fresh = count(1)


GUILDS = "/_guildhall/client/v1/guilds/"
NO_GUILD: Mapping[str, str] = {
    "guild_id": "!none",
    "role_id": "admin",
    "category_id": "none",
    "target": "everyone",
    "code": "none",
    "shortcode": "party",
}


@frozen
class Call:
    """A request before it is text: each part can be replaced by `attrs.evolve`."""

    route: Route
    values: Mapping[str, str]
    """Path parameters, not encoded."""
    query: Mapping[str, str]
    body: Any
    """JSON; None where the method has none."""
    raw: str | None = None
    """The target instead of the one made from `values` and `query`."""

    @property
    def target(self) -> str:
        if self.raw is not None:
            return self.raw
        path = re.sub(r"\{(\w+)\}", lambda match: segment(self.values[match[1]]), self.route.path)
        return f"{path}?{urlencode(self.query, quote_via=quote)}" if self.query else path

    def send(self, line: Line, token: str | None) -> Answer:
        return line.ask(self.route.method, self.target, self.body, token=token)

    def __str__(self) -> str:
        return f"{self.route.method} {self.target[:200]} {str(self.body)[:200]}"


@define
class Scene:
    """What the good calls are about: somebody, a room of theirs, and what they have there."""

    person: Person
    room_id: str
    event_id: str
    friend: Person
    """Somebody else who is in the room."""
    filter_id: str
    alias: str
    media_id: str = "none"
    """Of a picture that the person uploaded."""
    guild: Mapping[str, str] = field(factory=lambda: NO_GUILD)
    """Path parameters of a guild of the person's."""
    more: dict[str, str] = field(factory=dict)
    """Path parameters to take instead of the usual ones."""

    def call(self, route: Route) -> Call:
        """A good call of a route. Raises KeyError where this file knows no example for a parameter."""
        values = self._values() | self.more
        if route.path.startswith(GUILDS) and "guild_channel" in self.guild:
            values["room_id"] = self.guild["guild_channel"]
        names = re.findall(r"\{(\w+)\}", route.path)
        query = {name: QUERY[name] for name in route.query if name in required_of(route)}
        body = self._body(route) if route.method in ("PUT", "POST", "PATCH", "DELETE") else None
        return Call(route, {name: values[name] for name in names}, query, body)

    def _values(self) -> dict[str, str]:
        return {
            "user_id": self.person.user_id,
            "room_id": self.room_id,
            "room_id_or_alias": self.room_id,
            "room_alias": self.alias,
            "event_id": self.event_id,
            "event_type": "org.example.thing",
            "state_key": "corner",
            "txn_id": f"txn{next(_fresh)}",
            "device_id": self.person.device_id,
            "filter_id": self.filter_id,
            "type": "org.example.data",
            "tag": "u.work",
            "key": "displayname",
            "receipt_type": "m.read",
            "kind": "m.login.registration_token",
            "rel_type": "m.thread",
            "version": "1",
            "path_version": "1",
            "session_id": "session",
            "server_name": self.person.server.name,
            "media_id": self.media_id,
            "file_name": "a.png",
            "delay_id": "none",
            "schedule_id": "none",
            "report_id": "none",
            "action": "restart",
            "rule_kind": "override",
            "rule_id": "org.example.rule",
            **self.guild,
        }

    def _body(self, route: Route) -> Any:
        if takes_bytes(route):
            return b"session=x&token=y"
        if route.path.endswith("/{session_id}"):
            return KEY
        if route.body is not None:
            return {"displayname": "Somebody"} if "{key}" in route.path else {}
        body = {name: self._field(name) for name, required in fields_of(route).items() if required}
        match route.path.rpartition("/")[2]:
            case "invite":
                body["user_id"] = self.friend.user_id
            case "reports":
                body["room_id"] = self.guild["guild_channel"]
            case "dehydrated_device":
                keys = {"algorithms": [], "keys": {}, "user_id": self.person.user_id, "device_id": "ASLEEP"}
                body |= {"device_id": "ASLEEP", "device_keys": keys}
            case "login":
                body["identifier"] = {"type": "m.id.user", "user": self.person.user_id}
                body["password"] = "correct horse"
            case "register" if "_matrix" in route.path:
                body |= {"password": "correct horse", "auth": {"type": "m.login.dummy"}}
        return body

    def _field(self, name: str) -> Any:
        friend = self.friend.user_id
        known: dict[str, Any] = {
            "user_id": friend,
            "room_id": self.room_id,
            "room_ids": [self.room_id],
            "at_ts": int(time.time() * 1000) + 3_600_000,
            "devices": [self.person.device_id],
            "device_keys": {friend: []},
            "one_time_keys": {friend: {self.friend.device_id: "signed_curve25519"}},
            "messages": {friend: {"*": {"words": "x"}}},
            "rooms": {self.room_id: {"sessions": {"session": KEY}}},
        }
        return known[name] if name in known else BODY[name]


KEY = {"first_message_index": 0, "forwarded_count": 0, "is_verified": True, "session_data": {}}
"""A backed up room key."""

QUERY = {
    "role": "everyone", "q": "alice", "state": "open", "purge": "true", "room": "!none",
    "dir": "b", "limit": "5", "from": "s1_2_3", "to": "s1_2_3", "filter": "{}", "at": "", "membership": "join",
    "version": "1", "not_membership": "leave", "server_name": "localhost", "via": "localhost", "since": "",
    "server": "localhost",
    "kind": "user", "username": "somebody.new", "token": "sesame", "format": "event", "full_state": "true",
    "set_presence": "online", "timeout": "0", "use_state_after": "true",
    "org.matrix.msc4222.use_state_after": "true", "session": "x",
    "user_id": "@somebody.else:localhost", "batch_token": "", "suggested_only": "true", "max_depth": "1",
    "width": "32", "height": "32", "method": "crop", "animated": "true", "timeout_ms": "0", "allow_remote": "false",
    "allow_redirect": "true", "filename": "a.png", "url": "https://localhost/", "ts": "1",
    "recurse": "true", "include": "all", "next_batch": "", "before": "1", "after": "1", "only": "highlight",
    "pos": "", "archived": "true", "room_id": "!none",
    "org.matrix.msc4140.delay": "1000", "org.matrix.msc4354.sticky_duration_ms": "1000",
}  # fmt: skip
"""Query parameter → a value that some call of it takes."""
BODY: Mapping[str, Any] = {
    "state": "open",
    "ack_token": "none",
    "name": "A name",
    "status": "online",
    "half": "accepted",
    "roles": [],
    "layout": [],
    "url": "mxc://localhost/a",
    "new_password": "another good password",
    "nonce": "x",
    "new_version": "11",
    "search_term": "somebody",
    "username": "somebody.new",
    "password": "another good password",
    "mac": "00",
    "type": "m.login.password",
    "refresh_token": "x",
    "presence": "online",
    "typing": True,
    "reason": "rude",
    "delay_ms": 1000,
    "content": {"body": "later"},
    "action": "restart",
    "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
    "auth_data": {"public_key": "x"},
    "sessions": {"session": KEY},
    "device_id": "DEVICE",
    "device_data": {"algorithm": "x"},
    "actions": ["notify"],
    "kind": None,
    "app_id": "org.example.app",
    "pushkey": "key",
    "enabled": True,
    "search_categories": {"room_events": {"search_term": "cake"}},
}
"""Required member of a body → a value of the right kind."""


@cache
def ask_of(route: Route) -> type[msgspec.Struct] | None:
    for name, kind in get_type_hints(route.handler).items():
        if name != "return" and is_ask(kind):
            return kind
    return None


@cache
def required_of(route: Route) -> Set[str]:
    """The parameters of a route's query that must be there."""
    ask = ask_of(route)
    if ask is None:
        return set()
    return {one.encode_name for one in msgspec.structs.fields(ask) if one.required} & {*route.query}


@cache
def takes_bytes(route: Route) -> bool:
    """Whether a route's body is no JSON."""
    if IncomingBody in get_type_hints(route.handler).values():
        return True
    ask = ask_of(route)
    return route.body is not None and ask is not None and get_type_hints(ask)[route.body] is bytes


@cache
def fields_of(route: Route) -> Mapping[str, bool]:
    """The members of a route's body by name, and whether each is required. Empty where the whole body is one thing."""
    ask = ask_of(route)
    if ask is None or route.body is not None or route.method == "GET":
        return {}
    headers = {header.replace("-", "_") for header in route.headers}
    elsewhere = {*re.findall(r"\{(\w+)\}", route.path), *route.query, *headers}
    return {one.encode_name: one.required for one in msgspec.structs.fields(ask) if one.encode_name not in elsewhere}


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


_OPERATIONS = {(one.method, _shape(one.path)): one for one in OPERATIONS if one.id != "inviteBy3PID"}


@cache
def operation_of(route: Route) -> Operation | None:
    """What the specification says of a route; None where it is one of our own."""
    return _OPERATIONS.get((route.method, _shape(route.path)))


__all__ = ["BODY", "QUERY", "ROUTES", "Call", "Scene", "ask_of", "evolve", "fields_of", "operation_of", "takes_bytes"]
