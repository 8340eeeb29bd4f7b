"""What clients ask for: each call is a request of the HTTP API, and goes to the same handler.

So the checks, the limits and the transaction ids are those of HTTP. What a call is made into stands in `CALLS`; what
has no request of its own (a room's view, voice) is a function that is added when the house is built.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import quote, urlencode

import msgspec
import orjson
from attrs import define, field

from homeserver.errors import BadJson, MatrixError
from homeserver.guilds.api.fields import API
from homeserver.http.answer import answer_of, encode_json
from homeserver.http.limits import RateLimiter
from homeserver.http.route import Requester, RequestInfo
from homeserver.http.table import RouteTable

ROOMS = "/_matrix/client/v3/rooms"

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Http(msgspec.Struct, frozen=True):
    """A request, before it is text."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str | int] = msgspec.field(default_factory=dict)


class Caller(Protocol):
    """The connection on which somebody asks."""

    session: str


def at(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


class SendMessage(msgspec.Struct, frozen=True):
    room_id: Text
    content: dict[str, Any]
    txn_id: Text | None = None
    type: Text = "m.room.message"

    def request(self, who: Requester) -> Http:
        return _send(self.room_id, self.type, self.content, self.txn_id)


class EditMessage(msgspec.Struct, frozen=True):
    room_id: Text
    event_id: Text
    content: dict[str, Any]
    """The message as it is to be."""
    txn_id: Text | None = None
    type: Text = "m.room.message"

    def request(self, who: Requester) -> Http:
        body = self.content.get("body")
        fallback = {"body": f"* {body}"} if isinstance(body, str) else {}
        content = {
            **self.content,
            **fallback,
            "m.new_content": self.content,
            "m.relates_to": {"rel_type": "m.replace", "event_id": self.event_id},
        }
        return _send(self.room_id, self.type, content, self.txn_id)


class DeleteMessage(msgspec.Struct, frozen=True):
    room_id: Text
    event_id: Text
    reason: str | None = None
    txn_id: Text | None = None

    def request(self, who: Requester) -> Http:
        body = {} if self.reason is None else {"reason": self.reason}
        return Http("PUT", f"{ROOMS}/{at(self.room_id, 'redact', self.event_id, _txn(self.txn_id))}", body)


class AddReaction(msgspec.Struct, frozen=True):
    room_id: Text
    event_id: Text
    key: Text
    txn_id: Text | None = None

    def request(self, who: Requester) -> Http:
        relation = {"rel_type": "m.annotation", "event_id": self.event_id, "key": self.key}
        return _send(self.room_id, "m.reaction", {"m.relates_to": relation}, self.txn_id)


class RemoveReaction(msgspec.Struct, frozen=True):
    """One's own reaction: `event_id` is that of the message if `key` is given, else that of the reaction."""

    room_id: Text
    event_id: Text
    key: Text | None = None
    txn_id: Text | None = None

    def request(self, who: Requester) -> Http:
        return Http("PUT", f"{ROOMS}/{at(self.room_id, 'redact', self.event_id, _txn(self.txn_id))}", {})


class Typing(msgspec.Struct, frozen=True):
    room_id: Text
    typing: bool

    def request(self, who: Requester) -> Http:
        return Http("PUT", f"{ROOMS}/{at(self.room_id, 'typing', who.user_id)}", {"typing": self.typing})


class Read(msgspec.Struct, frozen=True):
    room_id: Text
    event_id: Text

    def request(self, who: Requester) -> Http:
        return Http("POST", f"{ROOMS}/{at(self.room_id, 'receipt', 'm.read', self.event_id)}", {})


class SetPresence(msgspec.Struct, frozen=True):
    status: Literal["online", "away", "busy", "invisible"]
    status_msg: str | None = None

    def request(self, who: Requester) -> Http:
        message = {} if self.status_msg is None else {"status_msg": self.status_msg}
        return Http("PUT", f"{API}/status", {"status": self.status, **message})


class RequestAsk(Protocol):
    """A call's parameters that know which request they are."""

    def request(self, who: Requester) -> Http: ...


CALLS: Mapping[str, type[Any]] = {
    "message.send": SendMessage,
    "message.edit": EditMessage,
    "message.delete": DeleteMessage,
    "reaction.add": AddReaction,
    "reaction.remove": RemoveReaction,
    "typing": Typing,
    "read": Read,
    "presence": SetPresence,
}

Work = Callable[[Caller, Requester, Mapping[str, Any]], Awaitable[object]]
"""A call that is no request: raises MatrixError."""


@define(eq=False)
class Calls:
    """Does calls. `table` is given once it is built, for the gateway's own route stands in it too."""

    _limits: RateLimiter
    _table: RouteTable | None = field(default=None, init=False)
    others: dict[str, Work] = field(factory=dict, init=False)

    def open(self, table: RouteTable) -> None:
        self._table = table

    async def do(
        self, caller: Caller, who: Requester, method: str, params: Mapping[str, Any], info: RequestInfo | None
    ) -> bytes:
        """The answer as JSON. Raises MatrixError."""
        work = self.others.get(method)
        if work is not None:
            return encode_json(await work(caller, who, params))
        kind = CALLS.get(method)
        if kind is None:
            raise MatrixError(404, "M_UNRECOGNIZED", "`method` is no call of the gateway")
        ask = convert(params, kind)
        if isinstance(ask, RemoveReaction) and ask.key is not None:
            ask = RemoveReaction(ask.room_id, await self._own_reaction(who, ask, ask.key), None, ask.txn_id)
        return await self.ask(who, ask.request(who), info)

    async def ask(self, who: Requester, http: Http, info: RequestInfo | None = None) -> bytes:
        """What a request is answered with, in somebody's name. Raises MatrixError."""
        assert self._table is not None
        match = self._table.match(http.method, http.path.encode("utf-8", "replace"))
        endpoint = match.endpoint
        if endpoint.route.rate is not None:
            self._limits.charge(endpoint.route.rate, who.user_id)
        ask = None
        if endpoint.reader is not None:
            body = b"" if http.body is None else orjson.dumps(http.body)
            ask = endpoint.reader.read(match.values, urlencode(http.query), body)
        return answer_of(await endpoint.call(who, ask, info)).body

    async def greeting(self, who: Requester) -> dict[str, Any]:
        """What a client is told at first."""
        lists = {name: await self._list(who, name) for name in ("guilds", "dms", "friends")}
        return {"user": {"user_id": who.user_id, "device_id": who.device_id}, **lists}

    async def _list(self, who: Requester, name: str) -> Any:
        return orjson.loads(await self.ask(who, Http("GET", f"/_guildhall/client/v1/{name}")))[name]

    async def _own_reaction(self, who: Requester, ask: RemoveReaction, key: str) -> str:
        path = f"/_matrix/client/v1/rooms/{at(ask.room_id, 'relations', ask.event_id, 'm.annotation', 'm.reaction')}"
        start: str | None = None
        for _ in range(10):
            query: dict[str, str | int] = {"limit": 100, **({} if start is None else {"from": start})}
            page = orjson.loads(await self.ask(who, Http("GET", path, None, query)))
            for event in page["chunk"]:
                relation = event["content"].get("m.relates_to", {})
                if event["sender"] == who.user_id and relation.get("key") == key:
                    return str(event["event_id"])
            start = page.get("next_batch")
            if start is None:
                break
        raise MatrixError(404, "M_NOT_FOUND", "You have no such reaction there")


def convert(params: Mapping[str, Any], kind: type[Any]) -> Any:
    """Parameters in their shape. Raises BadJson naming the field."""
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as error:
        raise BadJson(str(error).replace("`$.", "`params.")) from None


def _send(room_id: str, event_type: str, content: Mapping[str, Any], txn_id: str | None) -> Http:
    return Http("PUT", f"{ROOMS}/{at(room_id, 'send', event_type, _txn(txn_id))}", content)


def _txn(txn_id: str | None) -> str:
    return f"gateway-{secrets.token_urlsafe(12)}" if txn_id is None else txn_id
