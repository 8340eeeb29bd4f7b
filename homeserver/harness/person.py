"""Somebody with an account, and what people do in rooms."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import define, field

from homeserver.harness.client import Answer, Query, Refused

if TYPE_CHECKING:
    from homeserver.harness.server import Server

V3 = "/_matrix/client/v3"


def in_path(text: str) -> str:
    """An identifier as one segment of a path."""
    return quote(text, safe="")


@define(eq=False)
class Person:
    """An account with its access token, and a client of the simplest kind."""

    server: Server
    user_id: str
    device_id: str
    token: str
    _since: str | None = field(default=None, init=False)

    # -- any request -------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None, query: Query | None = None) -> Any:
        """A request that must succeed; its JSON. Raises Refused."""
        return self.server.call(method, path, body, query, token=self.token)

    def request(self, method: str, path: str, body: object = None, query: Query | None = None) -> Answer:
        """A request whose answer the caller judges."""
        return self.server.request(method, path, body, query, token=self.token)

    # -- rooms: in and out -------------------------------------------------------------------------------------

    def create_room(self, **body: object) -> str:
        return str(self.call("POST", f"{V3}/createRoom", body)["room_id"])

    def join(self, room: str, via: Sequence[Server] = ()) -> str:
        """Join a room by its id or alias, over the servers given; its id."""
        return str(self.call("POST", f"{V3}/join/{in_path(room)}{_via(via)}", {})["room_id"])

    def knock(self, room: str, via: Sequence[Server] = (), reason: str | None = None) -> str:
        body = {} if reason is None else {"reason": reason}
        return str(self.call("POST", f"{V3}/knock/{in_path(room)}{_via(via)}", body)["room_id"])

    def leave(self, room_id: str) -> None:
        self._in_room("POST", room_id, "leave", {})

    def invite(self, room_id: str, whom: Person) -> None:
        self._in_room("POST", room_id, "invite", {"user_id": whom.user_id})

    def kick(self, room_id: str, whom: Person, reason: str = "") -> None:
        self._in_room("POST", room_id, "kick", {"user_id": whom.user_id, "reason": reason})

    def ban(self, room_id: str, whom: Person, reason: str = "") -> None:
        self._in_room("POST", room_id, "ban", {"user_id": whom.user_id, "reason": reason})

    def unban(self, room_id: str, whom: Person) -> None:
        self._in_room("POST", room_id, "unban", {"user_id": whom.user_id})

    # -- rooms: what is said -----------------------------------------------------------------------------------

    def say(self, room_id: str, text: str, txn_id: str | None = None) -> str:
        """Send a text message; its event id."""
        return self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text}, txn_id)

    def send(self, room_id: str, event_type: str, content: Mapping[str, Any], txn_id: str | None = None) -> str:
        path = f"send/{in_path(event_type)}/{in_path(txn_id or secrets.token_hex(8))}"
        return str(self._in_room("PUT", room_id, path, content)["event_id"])

    def set_state(self, room_id: str, event_type: str, content: Mapping[str, Any], state_key: str = "") -> str:
        path = f"state/{in_path(event_type)}/{in_path(state_key)}"
        return str(self._in_room("PUT", room_id, path, content)["event_id"])

    def redact(self, room_id: str, event_id: str, reason: str | None = None) -> str:
        body = {} if reason is None else {"reason": reason}
        path = f"redact/{in_path(event_id)}/{secrets.token_hex(8)}"
        return str(self._in_room("PUT", room_id, path, body)["event_id"])

    def read(self, room_id: str, event_id: str) -> None:
        """Send a public receipt."""
        self._in_room("POST", room_id, f"receipt/m.read/{in_path(event_id)}", {})

    def type(self, room_id: str, typing: bool = True, timeout_ms: int = 20_000) -> None:
        body = {"typing": typing, "timeout": timeout_ms} if typing else {"typing": False}
        self._in_room("PUT", room_id, f"typing/{in_path(self.user_id)}", body)

    # -- who they are ------------------------------------------------------------------------------------------

    def set_profile(self, field: str, value: str) -> None:
        """`displayname` or `avatar_url`."""
        self.call("PUT", f"{V3}/profile/{in_path(self.user_id)}/{field}", {field: value})

    def profile_of(self, user_id: str) -> Any:
        return self.call("GET", f"{V3}/profile/{in_path(user_id)}")

    def set_presence(self, presence: str, status_msg: str) -> None:
        body = {"presence": presence, "status_msg": status_msg}
        self.call("PUT", f"{V3}/presence/{in_path(self.user_id)}/status", body)

    # -- rooms: what is to be seen -----------------------------------------------------------------------------

    def sync(self, **query: str | int) -> Any:
        return self.call("GET", f"{V3}/sync", query=query)

    def news(self, timeout_ms: int = 0) -> Any:
        """What `/sync` has since the last call; everything the first time."""
        query: dict[str, str | int] = {"timeout": timeout_ms}
        if self._since is not None:
            query["since"] = self._since
        answer = self.sync(**query)
        self._since = answer["next_batch"]
        return answer

    def state(self, room_id: str) -> dict[tuple[str, str], Any]:
        """The room's state: (type, state key) → the event."""
        return {(event["type"], event["state_key"]): event for event in self._in_room("GET", room_id, "state")}

    def content_of(self, room_id: str, event_type: str, state_key: str = "") -> Any:
        """The content of one state event; None where there is none."""
        try:
            return self._in_room("GET", room_id, f"state/{in_path(event_type)}/{in_path(state_key)}")
        except Refused as refused:
            if refused.answer.status == 404:
                return None
            raise

    def event(self, room_id: str, event_id: str) -> Any:
        return self._in_room("GET", room_id, f"event/{in_path(event_id)}")

    def joined(self, room_id: str) -> set[str]:
        """User ids of the joined members."""
        return set(self._in_room("GET", room_id, "joined_members")["joined"])

    def membership_of(self, room_id: str, whom: Person) -> str | None:
        content = self.content_of(room_id, "m.room.member", whom.user_id)
        return None if content is None else content["membership"]

    def history(self, room_id: str, limit: int = 100) -> Iterator[Any]:
        """The timeline, newest event first, page by page."""
        query: dict[str, str | int] = {"dir": "b", "limit": limit}
        while True:
            page = self.call("GET", f"{V3}/rooms/{in_path(room_id)}/messages", query=query)
            yield from page["chunk"]
            if "end" not in page or page["end"] == query.get("from"):
                return
            query["from"] = page["end"]

    def texts(self, room_id: str) -> list[str]:
        """What was said in the room, oldest first; what was redacted has no text and is left out."""
        events = [event for event in self.history(room_id) if event["type"] == "m.room.message"]
        return [event["content"]["body"] for event in reversed(events) if "body" in event["content"]]

    def ephemeral(self, room_id: str, event_type: str) -> list[Any]:
        """The contents of typing or receipt events of a room, in what `/sync` has since the last call."""
        room = self.news().get("rooms", {}).get("join", {}).get(room_id, {})
        events = room.get("ephemeral", {}).get("events", [])
        return [event["content"] for event in events if event["type"] == event_type]

    def rooms(self, kind: str = "join") -> set[str]:
        """Ids of the rooms in that section of a full `/sync`."""
        return set(self.sync(timeout=0).get("rooms", {}).get(kind, {}))

    def _in_room(self, method: str, room_id: str, path: str, body: object = None) -> Any:
        return self.call(method, f"{V3}/rooms/{in_path(room_id)}/{path}", body)


def _via(servers: Sequence[Server]) -> str:
    """Both names of the parameter, as clients send it to servers of unknown age."""
    names = [in_path(server.name) for server in servers]
    return "?" + "&".join(f"via={name}&server_name={name}" for name in names) if names else ""
