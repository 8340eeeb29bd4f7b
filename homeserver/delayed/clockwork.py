"""Keeps events until they are due, and sends them then, in order: over restarts, and once each.

    asked for ──► WAITS ──(due, or "send")──► BEING_SENT ──► SENT, with the event's id
                   │ ▲                             └───────► FAILED, with the reason
                   │ └─ "restart"; it is changed
                   └── "cancel"; somebody else sets the same piece of state; the account is closed ──► CANCELLED

What was being sent when the server stopped is sent again at the start, which does no harm: messages go under a
transaction id of their own, and a piece of state that is there already is not set twice.

MSC4140: https://github.com/matrix-org/matrix-spec-proposals/pull/4140
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from attrs import define, field
from twisted.internet.interfaces import IDelayedCall

from config import Limits
from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import canonical_json, check_strict
from homeserver.clock import Clock
from homeserver.errors import BadJson, Forbidden, InvalidParam, LimitExceeded, MatrixError, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.accept import Accepted
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms
from homeserver.rooms.send import Sender
from homeserver.tasks import Tasks
from storage import delayed as rows
from storage.database import Database
from storage.delayed import BEING_SENT, CANCELLED, FAILED, SENT, WAITS, Delayed, TooMany
from storage.events import LAST

MOST_BYTES = 65_536
"""Of a content, as of an event."""
KEPT_MS = 7 * 24 * 3_600_000
"""How long it can be looked up what became of one."""
LONGEST_NAP_S = 24 * 3600.0
"""A timer that is set for longer than that is set anew in between."""
RETRY_S = 5.0
"""How long to wait where the server itself was the reason that one could not be sent."""

log = structlog.get_logger("homeserver.delayed")


@define(eq=False)
class Clockwork:
    """See the module's docstring. One per process; an observer of the door, and of accounts."""

    database: Database
    rooms: Rooms
    sender: Sender
    clock: Clock
    tasks: Tasks
    limits: Limits
    _waiting: dict[str, Delayed] = field(factory=dict, init=False)
    """By delay id."""
    _states: dict[tuple[str, str, str], set[str]] = field(factory=dict, init=False)
    """Pieces of state that wait to be set (room, type, key) → delay ids."""
    _timer: IDelayedCall | None = field(default=None, init=False)
    _is_sending: bool = field(default=False, init=False)

    # -- what people ask for -------------------------------------------------------------------------------------

    async def add(
        self,
        who: Requester,
        room_id: str,
        event_type: str,
        content: Mapping[str, Any],
        txn_id: str,
        *,
        delay_ms: int,
        state_key: str | None = None,
        sticky_ms: int | None = None,
        most_ms: int | None = None,
        due_ts: int | None = None,
    ) -> str:
        """Have an event sent later. The same transaction id gives the same delay id. Raises MatrixError.

        `most_ms`: how long it may wait, where that is longer than what calls and the like are given.
        `due_ts`: when it is sent (ms since 1970), where that is what was asked for.
        """
        self._check_delay(delay_ms, self.limits.max_event_delay_ms if most_ms is None else most_ms)
        room = await self.rooms.require(room_id)
        if room.membership_of(who.user_id) != "join":
            raise Forbidden(NOT_IN_ROOM)
        _check_content(content)
        now = self.clock.now_ms()
        wanted = Delayed(
            delay_id=secrets.token_urlsafe(24),
            user_id=who.user_id,
            device_id=who.device_id,
            txn_id=txn_id,
            room_id=room_id,
            type=event_type,
            state_key=state_key,
            content=orjson.dumps(content),
            sticky_ms=sticky_ms,
            is_guest=who.is_guest,
            delay_ms=delay_ms,
            since_ts=now,
            due_ts=now + delay_ms if due_ts is None else due_ts,
        )
        try:
            kept = await self.database.write(rows.add, wanted, self.limits.max_delayed_events)
        except TooMany as error:
            raise LimitExceeded(max(1, error.due_ts - self.clock.now_ms())) from None
        if kept.delay_id == wanted.delay_id:
            self._watch(kept)
            self._wind()
        return kept.delay_id

    async def cancel(self, delay_id: str, user_id: str | None) -> None:
        """Never send it. `user_id`: who says so; None for somebody who knows only the id.

        Raises NotFound, or MatrixError with 409 where it was sent, or could not be.
        """
        delayed = await self._require(delay_id, user_id)
        self._unwatch(delay_id)
        if (
            not await self.database.write(rows.end, delay_id, CANCELLED, self.clock.now_ms(), only_from=WAITS)
            and delayed.outcome != CANCELLED
        ):
            raise await self._conflict(delay_id)

    async def restart(self, delay_id: str, user_id: str | None) -> None:
        """Let its time begin anew. Raises NotFound, or MatrixError with 409 where it has come to its end."""
        await self._require(delay_id, user_id)
        again = await self.database.write(rows.restart, delay_id, self.clock.now_ms())
        if again is None:
            raise await self._conflict(delay_id)
        self._watch(again)
        self._wind()

    async def change(
        self, delay_id: str, user_id: str, due_ts: int, event_type: str, content: Mapping[str, Any], most_ms: int
    ) -> Delayed:
        """Say something else, or at another time (ms since 1970). Raises NotFound, and MatrixError with 409 where it
        does not wait any more.
        """
        if (await self._require(delay_id, user_id)).outcome != WAITS:
            raise await self._conflict(delay_id)
        now = self.clock.now_ms()
        self._check_delay(due_ts - now, most_ms)
        _check_content(content)
        packed = orjson.dumps(content)
        changed = await self.database.write(rows.change, delay_id, now, due_ts, event_type, packed)
        if changed is None:
            raise await self._conflict(delay_id)
        self._watch(changed)
        self._wind()
        return changed

    async def send(self, delay_id: str, user_id: str | None) -> None:
        """Send it now. Raises NotFound, MatrixError with 409 where it was cancelled or could not be sent before, or
        with the reason why it cannot be now.
        """
        delayed = await self._require(delay_id, user_id)
        error = await self._send(delayed, None)
        if error is not None:
            raise error

    async def of(self, user_id: str) -> list[Delayed]:
        """All of somebody's, also what came to its end lately, the first due in front."""
        return await self.database.run(rows.of_user, user_id)

    async def get(self, delay_id: str, user_id: str) -> Delayed:
        """One of somebody's own. Raises NotFound."""
        return await self._require(delay_id, user_id)

    # -- by itself -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take up what waited when the server stopped: what is overdue is sent at once, in order."""
        for delayed in await self.database.run(rows.waiting):
            self._watch(delayed)
        await self._send_due()

    async def tidy(self) -> None:
        """Forget what ended long ago. To be called now and then."""
        await self.database.write(rows.forget, self.clock.now_ms() - KEPT_MS)

    def close(self) -> None:
        """Nothing is sent any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def accepted(self, accepted: Accepted) -> None:
        """Somebody set a piece of state: what others meant to set there later is out of date."""
        if not self._states:
            return
        room_id = accepted.room.room_id
        for new in accepted.events:
            event = new.stored.event
            for change in new.changes:
                for delay_id in list(self._states.get((room_id, *change.key), ())):
                    if self._waiting[delay_id].user_id != event.sender:
                        self._unwatch(delay_id)
                        self.tasks.spawn("delayed.cancel", self._withdraw(delay_id))

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """Nothing to do for those who come (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        for delay_id in [one.delay_id for one in self._waiting.values() if one.user_id == user_id]:
            self._unwatch(delay_id)
            await self._withdraw(delay_id)

    # ------------------------------------------------------------------------------------------------------------

    def _check_delay(self, delay_ms: int, most: int) -> None:
        if delay_ms < 1:
            raise InvalidParam("The delay must be at least a millisecond")
        if delay_ms > most:
            # COMPAT matrix-js-sdk: it looks for the unstable code, and how long it may be, beside an `M_UNKNOWN`.
            more = {"org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED", "org.matrix.msc4140.max_delay": most}
            raise MatrixError(400, "M_UNKNOWN", f"An event may be delayed by {most} ms at most", more)

    async def _require(self, delay_id: str, user_id: str | None) -> Delayed:
        found = await self.database.run(rows.get, delay_id) if "\0" not in delay_id else None
        if found is None or user_id not in (None, found.user_id):
            raise NotFound("There is no such delayed event")
        return found

    async def _conflict(self, delay_id: str) -> MatrixError:
        found = await self.database.run(rows.get, delay_id)
        names = {SENT: "was sent", CANCELLED: "was cancelled", FAILED: "could not be sent"}
        what = "is being sent" if found is None else names.get(found.outcome, "is being sent")
        return MatrixError(409, "M_UNKNOWN", f"The delayed event {what} already")

    async def _withdraw(self, delay_id: str) -> None:
        await self.database.write(rows.end, delay_id, CANCELLED, self.clock.now_ms(), only_from=WAITS)

    def _watch(self, delayed: Delayed) -> None:
        self._waiting[delayed.delay_id] = delayed
        if delayed.state_key is not None:
            key = (delayed.room_id, delayed.type, delayed.state_key)
            self._states.setdefault(key, set()).add(delayed.delay_id)

    def _unwatch(self, delay_id: str) -> None:
        delayed = self._waiting.pop(delay_id, None)
        if delayed is not None and delayed.state_key is not None:
            key = (delayed.room_id, delayed.type, delayed.state_key)
            ids = self._states[key]
            ids.discard(delay_id)
            if not ids:
                del self._states[key]

    def _wind(self, at_least_s: float = 0.0) -> None:
        """Set the timer for the next that is due."""
        self.close()
        if self._waiting and not self._is_sending:
            due = min(one.due_ts for one in self._waiting.values())
            delay = min(max(at_least_s, (due - self.clock.now_ms()) / 1000), LONGEST_NAP_S)
            self._timer = self.clock.timers.callLater(delay, self._strike)

    def _strike(self) -> None:
        self._timer = None
        self.tasks.spawn("delayed.send", self._send_due())

    async def _send_due(self) -> None:
        """Send what is due, one after the other."""
        self._is_sending = True
        pause = 0.0
        try:
            while True:
                now = self.clock.now_ms()
                due = sorted((one.due_ts, one.delay_id) for one in self._waiting.values() if one.due_ts <= now)
                if not due:
                    break
                for _, delay_id in due:
                    delayed = self._waiting.get(delay_id)
                    if delayed is not None and delayed.due_ts <= now:
                        await self._send(delayed, now)
        except Exception as error:
            log.warning("a delayed event could not be sent, and is tried again", why=repr(error))
            pause = RETRY_S
        finally:
            self._is_sending = False
            self._wind(pause)

    async def _send(self, delayed: Delayed, due_by: int | None) -> MatrixError | None:
        """Send one that waits, or whose sending was interrupted; what was against it. `due_by`: unless its time was put
        off meanwhile; None: whenever its time is.
        """
        delay_id = delayed.delay_id
        if not await self.database.write(rows.claim, delay_id, LAST if due_by is None else due_by):
            found = await self.database.run(rows.get, delay_id)
            if found is not None and found.outcome == WAITS:
                self._watch(found)  # it was put off
                return None
            if found is None or found.outcome != BEING_SENT:
                self._unwatch(delay_id)
                return None if found is not None and found.outcome == SENT else await self._conflict(delay_id)
        self._unwatch(delay_id)
        try:
            event_id = await self._deliver(delayed)
        except MatrixError as error:
            if error.status >= 500:
                self._watch(delayed)
                raise
            told = orjson.dumps({"errcode": error.errcode, "error": error.error})
            await self.database.write(rows.end, delay_id, FAILED, self.clock.now_ms(), error=told)
            return error
        except BaseException:
            self._watch(delayed)
            raise
        await self.database.write(rows.end, delay_id, SENT, self.clock.now_ms(), event_id=event_id)
        return None

    async def _deliver(self, delayed: Delayed) -> str:
        content: dict[str, Any] = orjson.loads(delayed.content)
        who = Requester(delayed.user_id, delayed.device_id, b"", is_guest=delayed.is_guest)
        if delayed.state_key is not None:
            return await self.sender.state(
                delayed.user_id,
                delayed.room_id,
                delayed.type,
                delayed.state_key,
                content,
                is_guest=delayed.is_guest,
                sticky_ms=delayed.sticky_ms,
            )
        return await self.sender.message(
            who, delayed.room_id, delayed.type, content, f"delayed-{delayed.delay_id}", sticky_ms=delayed.sticky_ms
        )


def _check_content(content: Mapping[str, Any]) -> None:
    """Raises MatrixError for what can't be an event's content."""
    try:
        check_strict(dict(content))
        size = len(canonical_json(dict(content)))
    except NotCanonical as error:
        raise BadJson(str(error)) from None
    if size > MOST_BYTES:
        raise MatrixError(413, "M_TOO_LARGE", "The event would be larger than 65536 bytes")
