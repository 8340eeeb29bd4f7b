"""`voice.state`: who is in a room's call, once somebody came or went. `voice.signal` is no event."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.gateway.families.happening import Happening, Told, tell


def of_voice(one: Happening) -> Sequence[Told]:
    return () if one.in_call is None else (tell("voice.state", members=one.in_call),)
