"""`.well-known/matrix/server`: whom a server delegates to, remembered as long as it says and the specification allows.

    a valid answer            kept as long as its headers say, a day if they say nothing; from 5 minutes to 48 hours
    no file, or nonsense      kept for a minute, and twice as long each time, up to an hour
    no answer at all          the same; and what was valid before stays in force until it is 48 hours old

Spec: https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import msgspec
from attrs import define, field

from federation.bounded import Bounded
from federation.discovery.address import split_server_name
from federation.discovery.ports import DiscoveryFailed, Page, WellKnownFetcher
from federation.flight import SingleFlight
from federation.room.identifiers import InvalidIdentifier

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
SHORTEST_MS = 5 * MINUTE_MS
USUAL_MS = 24 * HOUR_MS
LONGEST_MS = 48 * HOUR_MS
FIRST_PAUSE_MS = MINUTE_MS
LONGEST_PAUSE_MS = HOUR_MS
REMEMBERED_HOSTS = 10_000


class Delegates(msgspec.Struct, frozen=True):
    """The server named says where it is to be found."""

    to: str
    """A server name."""
    ttl_ms: int


class NoDelegation(msgspec.Struct, frozen=True):
    """There is no valid file."""

    why: str
    passing: bool = False
    """Whether this looks like a fault that will go away: what was valid before is then still believed."""
    ttl_ms: int | None = None
    """How long the answer's headers want it to be remembered, if they say."""


class _File(msgspec.Struct, frozen=True):
    server: str = msgspec.field(name="m.server")


_decode = msgspec.json.Decoder(_File).decode


def read_page(page: Page) -> Delegates | NoDelegation:
    """Judge what was fetched. Never raises: whatever is wrong with it means that there is no delegation."""
    ttl_ms = lifetime_ms(page.headers)
    if page.status != 200:
        passing = page.status == 429 or page.status >= 500
        return NoDelegation(f"status {page.status}", passing, ttl_ms)
    try:
        name = _decode(page.body).server
        split_server_name(name)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return NoDelegation(f"not what it should be: {error}", ttl_ms=ttl_ms)
    except InvalidIdentifier as error:
        return NoDelegation(str(error), ttl_ms=ttl_ms)
    wished = USUAL_MS if ttl_ms is None else ttl_ms
    return Delegates(name, min(max(wished, SHORTEST_MS), LONGEST_MS))


def lifetime_ms(headers: Mapping[str, str]) -> int | None:
    """How long an answer's headers let it be kept; None where they say nothing that can be understood."""
    directives = [part.strip().lower() for part in headers.get("cache-control", "").split(",")]
    if "no-store" in directives or "no-cache" in directives:
        return 0
    for directive in directives:
        name, _, value = directive.partition("=")
        if name == "max-age" and (seconds := _seconds(value.strip('"'))) is not None:
            return max(0, seconds - (_seconds(headers.get("age", "")) or 0)) * 1000
    if "expires" in headers and "date" in headers:
        try:
            left = parsedate_to_datetime(headers["expires"]) - parsedate_to_datetime(headers["date"])
        except (ValueError, TypeError, OverflowError):
            return 0  # RFC 9111: what is no date has expired
        return max(0, int(left.total_seconds())) * 1000
    return None


def _seconds(text: str) -> int | None:
    return int(text[:9]) if text.isascii() and text.isdigit() else None


class _Known(msgspec.Struct):
    delegation: str | None
    ask_again_ms: int
    """When to look again."""
    valid_until_ms: int = 0
    """How long `delegation` is believed while nothing is answered."""
    failures: int = 0


@define
class WellKnown:
    """Answers from memory where it can. Asks each host once at a time."""

    _fetcher: WellKnownFetcher
    _now_ms: Callable[[], int]
    _known: Bounded[str, _Known] = field(factory=lambda: Bounded(REMEMBERED_HOSTS), init=False)
    _flights: SingleFlight[str, str | None] = field(factory=SingleFlight, init=False)

    async def delegation(self, host: str) -> str | None:
        """The server name that `host` delegates to, or None if it does not."""
        known = self._known.get(host)
        if known is not None and self._now_ms() < known.ask_again_ms:
            return known.delegation
        return await self._flights.do(host, lambda: self._ask(host))

    async def _ask(self, host: str) -> str | None:
        try:
            answer = read_page(await self._fetcher.fetch(host))
        except DiscoveryFailed as error:
            answer = NoDelegation(str(error), passing=True)
        now_ms = self._now_ms()
        match answer:
            case Delegates(to, ttl_ms):
                self._known.put(host, _Known(to, now_ms + ttl_ms, now_ms + LONGEST_MS))
                return to
            case NoDelegation(_, passing, ttl_ms):
                return self._remember_failure(host, now_ms, passing, ttl_ms)

    def _remember_failure(self, host: str, now_ms: int, passing: bool, ttl_ms: int | None) -> str | None:
        before = self._known.get(host) or _Known(None, 0)
        believed = before.delegation if passing and now_ms < before.valid_until_ms else None
        pause_ms = min(FIRST_PAUSE_MS << min(before.failures, 10), LONGEST_PAUSE_MS)
        if ttl_ms is not None and not passing:
            pause_ms = min(max(ttl_ms, pause_ms), LONGEST_PAUSE_MS)
        valid_until_ms = before.valid_until_ms if believed is not None else 0
        self._known.put(host, _Known(believed, now_ms + pause_ms, valid_until_ms, before.failures + 1))
        return believed
