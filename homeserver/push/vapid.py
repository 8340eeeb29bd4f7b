"""Who we are to push services: a key pair, whose public half clients give to their browser when they subscribe.

Made when it is first asked for and kept in the database, beside the pushers, none of which would work with another.

Source: https://www.rfc-editor.org/rfc/rfc8292
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from federation.bounded import Bounded
from federation.outbound.web import Url
from homeserver.clock import Clock
from storage import pushers as rows
from storage.database import Database

if TYPE_CHECKING:
    from py_vapid import Vapid02

KEPT_AS = "vapid_key"
GOOD_FOR_S = 12 * 3600
"""A token; 24 hours are the most there may be."""
USED_FOR_S = GOOD_FOR_S // 2
MOST_TOKENS = 1_000


@define(eq=False)
class Vapid:
    """Signs for this server. One per process."""

    database: Database
    clock: Clock
    contact: str
    """Whom a push service may write to: mailto: or https:."""
    _signer: Vapid02 | None = field(default=None, init=False)
    """Made when somebody first asks: what it takes is 13 MiB of OpenSSL."""
    _tokens: Bounded[str, tuple[int, str]] = field(factory=lambda: Bounded(MOST_TOKENS), init=False)
    """Origin → since when (seconds), the header."""

    async def capability(self) -> Mapping[str, object]:
        """What clients are told: that there is web push, and the public half of the key.

        MSC4174: https://github.com/matrix-org/matrix-spec-proposals/pull/4174
        """
        from py_vapid import b64urlencode

        from homeserver.push.sealing import write_point

        return {"enabled": True, "vapid": b64urlencode(write_point((await self._find()).public_key))}

    async def _find(self) -> Vapid02:
        """Read the key, or make it."""
        if self._signer is not None:
            return self._signer
        from py_vapid import Vapid02, b64urlencode  # not at every start

        fresh = Vapid02(conf={"no-strict": True})
        fresh.generate_keys()
        number = fresh.private_key.private_numbers().private_value
        kept = await self.database.write(rows.kept_key, KEPT_AS, b64urlencode(number.to_bytes(32, "big")))
        signer = Vapid02.from_raw(kept.encode())
        signer.conf = fresh.conf
        self._signer = signer
        return signer

    async def header(self, url: Url) -> str:
        """The `Authorization` of a request there."""
        scheme = "https" if url.encrypted else "http"
        origin = f"{scheme}://{url.host_header}"
        now_s = self.clock.now_ms() // 1000
        known = self._tokens.get(origin)
        if known is None or not 0 <= now_s - known[0] < USED_FOR_S:
            claims = {"aud": origin, "exp": now_s + GOOD_FOR_S, "sub": self.contact}
            known = now_s, (await self._find()).sign(claims)["Authorization"]
            self._tokens.put(origin, known)
        return known[1]
