"""Whether other servers can be reached: told by the one that is trusted anyway. Its clock comes with its answer."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from federation.outbound.transport import PeerError, Request
from homeserver.cli.findings import Finding, good, warning
from homeserver.cli.reach.peers import KEYS_PATH
from homeserver.cli.reach.world import PATIENCE_S, World

SKEW_S = 5.0
"""More is worth a word: what people see as the time of a message is their server's."""


async def check_way_out(world: World) -> list[Finding]:
    settings = world.settings
    notaries = [name for name in settings.federation.notaries if name != settings.server.name]
    if not settings.federation.enabled or not notaries:
        return []
    notary, asked_s = notaries[0], world.now_s()
    try:
        response = await world.transport.send(Request(notary, "GET", KEYS_PATH, timeout_s=PATIENCE_S))
    except PeerError as error:
        text = f"the notary {notary} cannot be reached, so perhaps no other server can: {error.why}"
        return [warning("way out", text)]
    findings = [good("way out", f"the notary {notary} answers")]
    skew_s = skew(asked_s, world.now_s(), response.headers.get("date", ""))
    if skew_s is None:
        return findings
    if abs(skew_s) > SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"this machine's clock is {abs(skew_s):.0f} s {way} that of {notary}: does NTP run here?"
        return [*findings, warning("clock", text)]
    return [*findings, good("clock", f"agrees with that of {notary}")]


def skew(asked_s: float, answered_s: float, date: str) -> float | None:
    """By how much our clock is certainly ahead of theirs (behind: less than 0), given their `Date`; None without one.

    It has whole seconds, and was written at some moment between our asking and hearing.
    """
    try:
        theirs_s = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
    if asked_s > theirs_s + 1:
        return asked_s - theirs_s - 1
    return min(answered_s - theirs_s, 0.0)
