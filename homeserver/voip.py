"""What calls need of a server: a relay's credentials, and where conferences are carried.

Spec: https://spec.matrix.org/v1.19/client-server-api/#voice-over-ip
MSC4143: https://github.com/matrix-org/matrix-spec-proposals/pull/4143
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from config import Voip
from federation.service import service
from homeserver.clock import Clock


def transports(settings: Voip) -> Sequence[Mapping[str, str]]:
    """What carries conferences, the best first: for `/rtc/transports` and `.well-known`."""
    return [{"type": "livekit", "livekit_service_url": url} for url in settings.livekit_urls]


@service
class Relays:
    """Makes credentials that the relays accept without having been told of them, until they run out.

    The user name says until when, and the password proves that this server wrote it:
    https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00
    """

    settings: Voip
    clock: Clock

    def credentials(self, user_id: str, *, is_guest: bool) -> Mapping[str, Any]:
        """For one person; nothing where there is no relay, or none for guests."""
        secret = self.settings.turn_secret
        if not secret or not self.settings.turn_uris or (is_guest and not self.settings.turn_for_guests):
            # COMPAT matrix-js-sdk, as Synapse has it: an empty list of addresses would be handed on to the browser,
            # which makes no connection with it, and an error is asked about again and again.
            return {}
        ttl = self.settings.turn_credentials_ms // 1000
        username = f"{self.clock.now_ms() // 1000 + ttl}:{user_id}"
        digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
        password = base64.b64encode(digest).decode()
        return {"username": username, "password": password, "uris": self.settings.turn_uris, "ttl": ttl}
