"""Notifications to push gateways.

Spec: https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from collections.abc import Collection

import orjson
from attrs import frozen

from federation.outbound.transport import BadAnswer, Unreachable
from federation.outbound.web import Web, WebRequest
from homeserver.push.ports import Again, Gone, Json, Outcome, Said, Vain
from storage.pushers import Pusher

MOST_ANSWER_BYTES = 64 * 1024


@frozen
class Gateways:
    """A carrier (`homeserver.push.ports.Carrier`)."""

    web: Web
    allows_plain: bool

    async def carry(self, pusher: Pusher, told: Json, notification: Json) -> Outcome:
        try:
            answer = await self.web.fetch(
                WebRequest(
                    told["data"]["url"],
                    "POST",
                    {"Content-Type": "application/json"},
                    orjson.dumps({"notification": notification}),
                    max_bytes=MOST_ANSWER_BYTES,
                    max_redirects=0,
                    plain=self.allows_plain,
                )
            )
        except Unreachable as error:
            return Again(str(error)) if error.retryable else Vain(str(error))
        except BadAnswer as error:
            return Again(str(error))
        if answer.status != 200:
            return Again(f"it answers {answer.status}")
        return Gone() if pusher.pushkey in _rejected(answer.body) else Said()


def _rejected(body: bytes) -> Collection[str]:
    try:
        told = orjson.loads(body)
    except ValueError:
        return ()
    rejected = told.get("rejected") if isinstance(told, dict) else None
    return [one for one in rejected if isinstance(one, str)] if isinstance(rejected, list) else ()
