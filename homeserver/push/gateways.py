"""Notifications to push gateways.

Spec: https://spec.matrix.org/v1.19/push-gateway-api/#post_matrixpushv1notify
"""

from __future__ import annotations

from collections.abc import Collection

import orjson

from federation.outbound.web import Web
from federation.service import service
from homeserver.push.ports import Again, Gone, Json, Outcome, Said, Vain
from homeserver.push.posting import post
from storage.pushers import Pusher


@service
class Gateways:
    """A carrier (`homeserver.push.ports.Carrier`)."""

    web: Web
    allows_plain: bool

    async def carry(self, pusher: Pusher, told: Json, notification: Json) -> Outcome:
        answer = await post(
            self.web,
            told["data"]["url"],
            {"Content-Type": "application/json"},
            orjson.dumps({"notification": notification}),
            allows_plain=self.allows_plain,
        )
        if isinstance(answer, Again | Vain):
            return answer
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
