"""One attempt to hand something on over HTTP, to whatever a pusher names by its URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from federation.outbound.transport import BadAnswer, Unreachable
from federation.outbound.web import Web, WebRequest, WebResponse
from homeserver.push.ports import Again, Vain

MOST_ANSWER_BYTES: Final = 64 * 1024


async def post(
    web: Web, url: str, headers: Mapping[str, str], body: bytes, *, allows_plain: bool
) -> WebResponse | Again | Vain:
    """The answer, of whatever status; or why there is none. Redirects are not followed.

    `allows_plain`: `http:` will do, too.
    """
    request = WebRequest(url, "POST", headers, body, max_bytes=MOST_ANSWER_BYTES, max_redirects=0, plain=allows_plain)
    try:
        return await web.fetch(request)
    except Unreachable as error:
        return Again(str(error)) if error.retryable else Vain(str(error))
    except BadAnswer as error:
        return Again(str(error))
