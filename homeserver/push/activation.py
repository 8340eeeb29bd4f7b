"""Asks browsers whether notifications that are set for them reach them, before they are sent any.

    set ──► a token to the browser ──► the client brings it back within five minutes: activated

Spec: MSC4174 (https://github.com/matrix-org/matrix-spec-proposals/pull/4174)
"""

from __future__ import annotations

import hmac
import uuid

import msgspec
import orjson
from attrs import define, field

from federation.bounded import Bounded
from homeserver.clock import Clock
from homeserver.errors import InvalidParam, MatrixError, NotFound
from homeserver.push.delivery import Delivery
from homeserver.push.ports import Outcome, Vain
from homeserver.push.pushers import Key, Pushers
from homeserver.push.web_push import WebPush
from homeserver.tasks import Tasks
from storage.pushers import Pusher

GOOD_FOR_MS = 5 * 60_000
MOST_TOKENS = 10_000


class _Token(msgspec.Struct, frozen=True):
    text: str
    until_ms: int


@define(eq=False)
class Activation:
    """One per process. After a restart no token is known, and the client has to set the pusher again."""

    pushers: Pushers
    delivery: Delivery
    web_push: WebPush
    clock: Clock
    tasks: Tasks
    _tokens: Bounded[Key, _Token] = field(factory=lambda: Bounded(MOST_TOKENS), init=False)

    def begin(self, pusher: Pusher) -> None:
        """Send the browser a token."""
        token = _Token(str(uuid.uuid4()), self.clock.now_ms() + GOOD_FOR_MS)
        self._tokens.put(pusher.key, token)
        message = {"app_id": pusher.app_id, "ack_token": token.text}

        async def attempt(pusher: Pusher) -> Outcome:
            if self._tokens.get(pusher.key) is not token or self.clock.now_ms() > token.until_ms:
                return Vain("nobody has said in time that they want it")
            return await self.web_push.send(pusher, orjson.loads(pusher.told), message, {"Urgency": "high"})

        self.tasks.spawn("push.activate", self.delivery.insist(pusher.key, attempt))

    async def acknowledge(self, user_id: str, app_id: str, token: str) -> None:
        """The client has the token. Raises MatrixError."""
        pushers = [one for one in self.pushers.of(user_id) if one.app_id == app_id]
        if not pushers:
            raise NotFound("There is no pusher of this app")
        for pusher in pushers:
            known = self._tokens.get(pusher.key)
            if known is None or not hmac.compare_digest(known.text.encode(), token.encode("utf-8", "surrogatepass")):
                continue
            if self.clock.now_ms() > known.until_ms:
                raise MatrixError(410, "M_EXPIRED_ACTIVATION_TOKEN", "This token is too old: set the pusher again")
            await self.pushers.activate(pusher.key)
            return
        raise InvalidParam("This token is not known", "M_UNKNOWN_ACTIVATION_TOKEN")
