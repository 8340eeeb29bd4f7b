"""What others may add to an answer of `/sync`: stated here, filled by parts of the house that have something to say to
a device or its owner beside rooms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from homeserver.http.route import Requester
from homeserver.streams.hub import Feed
from homeserver.streams.tokens import StreamToken


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """What one part has to say in an answer."""

    members: Sequence[bytes]
    """Members of the answer's object, as JSON: `"name":value`."""
    is_news: bool
    """Whether it is a reason to answer; if not, it goes along when there is another."""
    inbox: int | None = None
    """Up to where messages for the device are in this answer, if that is not all that wait for it."""


class Contributor(Protocol):
    """Looks whether there is something new for a device between two tokens. Costs nothing where there is not."""

    async def contribute(
        self, who: Requester, feed: Feed, since: StreamToken | None, upto: StreamToken
    ) -> Contribution: ...
