"""What passes between people on its way to other servers: typing, what they have read, who is here.

Only of this server's own people, to the servers in the room; whatever is lost there is said again soon, or matters
to nobody any more.

Spec: https://spec.matrix.org/v1.19/server-server-api/#typing-notifications
Spec: https://spec.matrix.org/v1.19/server-server-api/#receipts
Spec: https://spec.matrix.org/v1.19/server-server-api/#presence
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Protocol

from attrs import field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from federation.room.identifiers import server_of
from federation.service import service
from federation.wire.edus import BUSY_WORDS, STATUS
from homeserver.ephemeral.receipts import READ
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.registry import Rooms
from storage.receipts import UNTHREADED, Receipt

SAY_AGAIN_SECONDS = 40.0
"""COMPAT Synapse: it takes who is typing elsewhere for done after a minute without a word."""
RECEIPTS_WAIT_SECONDS = 0.5
RECEIPTS_WAIT_SECONDS_A_SERVER = 0.02
"""In a room of very many servers, what somebody has read makes as many requests, and there is no hurry."""
LONGEST_WAIT_SECONDS = 60.0
PRESENCE_WAIT_SECONDS = 2.0


class Post(Protocol):
    """Takes passing things to other servers (`federation.outbound.sender.Sender`)."""

    def send_edu(
        self,
        edu_type: str,
        content: Mapping[str, Any],
        destinations: Collection[str],
        key: Hashable | None = None,
        linger_s: float = 0.0,
    ) -> None: ...


@service
class PassingThings:
    """Listens to the boards of `homeserver.ephemeral`."""

    server_name: str
    post: Post
    rooms: Rooms
    timers: IReactorTime
    spawn: Callable[[str, Coroutine[Deferred[Any], Any, None]], None]
    tells_presence: bool
    _typing: dict[tuple[int, str], float] = field(factory=dict, init=False)
    """Who was said to be typing where, and when."""

    def typing_changed(self, room_nid: int, user_id: str, is_typing: bool) -> None:
        """Somebody began, goes on, or has stopped (`homeserver.ephemeral.typing.TypingListener`)."""
        if server_of(user_id) != self.server_name:
            return
        key = (room_nid, user_id)
        now = self.timers.seconds()
        said = self._typing.get(key)
        if is_typing:
            if said is not None and now < said + SAY_AGAIN_SECONDS:
                return
            self._typing[key] = now
        elif self._typing.pop(key, None) is None:
            return
        room = self.rooms.peek_nid(room_nid)  # who types where nobody has been for long will be heard the next time
        if room is not None and (servers := self._others(room)):
            content = {"room_id": room.room_id, "user_id": user_id, "typing": is_typing}
            self.post.send_edu("m.typing", content, servers, ("m.typing", room_nid, user_id))

    def receipts_moved(self, receipts: Sequence[Receipt]) -> None:
        """People have read on (`homeserver.ephemeral.receipts.ReceiptListener`)."""
        public = [one for one in receipts if one.type == READ and server_of(one.user_id) == self.server_name]
        if public:
            self.spawn("receipts to other servers", self._send_receipts(public))

    def presence_told(self, room_nids: Collection[int], user_id: str, content: Mapping[str, Any]) -> None:
        """Those who share these rooms with somebody are to know how it is (`…presence.PresenceListener`)."""
        if self.tells_presence and server_of(user_id) == self.server_name:
            self.spawn("presence to other servers", self._send_presence(sorted(room_nids), user_id, dict(content)))

    # ----------------------------------------------------------------------------------------------------------

    async def _send_receipts(self, receipts: Sequence[Receipt]) -> None:
        rooms = await self.rooms.get_many([receipt.room_nid for receipt in receipts])
        for receipt in receipts:
            room = rooms.get(receipt.room_nid)
            if room is None or not (servers := self._others(room)):
                continue
            data: dict[str, Any] = {"ts": receipt.ts}
            if receipt.thread != UNTHREADED:
                data["thread_id"] = receipt.thread
            user = {receipt.user_id: {"data": data, "event_ids": [receipt.event_id]}}
            wait_s = min(RECEIPTS_WAIT_SECONDS + RECEIPTS_WAIT_SECONDS_A_SERVER * len(servers), LONGEST_WAIT_SECONDS)
            key = ("m.receipt", receipt.room_nid, receipt.user_id, receipt.thread)
            self.post.send_edu("m.receipt", {room.room_id: {READ: user}}, servers, key, wait_s)

    async def _send_presence(self, room_nids: Sequence[int], user_id: str, content: dict[str, Any]) -> None:
        rooms = await self.rooms.get_many(room_nids)
        servers = sorted({server for room in rooms.values() for server in self._others(room)})
        if servers:
            push = {"last_active_ago": 0, **for_servers(content), "user_id": user_id}
            self.post.send_edu("m.presence", {"push": [push]}, servers, ("m.presence", user_id), PRESENCE_WAIT_SECONDS)

    def _others(self, room: LiveRoom) -> list[str]:
        return sorted(server for server in room.servers if server != self.server_name)


def for_servers(content: Mapping[str, Any]) -> dict[str, Any]:
    """What other servers are told of somebody's presence: being busy is nothing that all of them know."""
    if content["presence"] != "busy":
        return dict(content)
    return {"status_msg": BUSY_WORDS, **content, "presence": "unavailable", STATUS: "busy"}
