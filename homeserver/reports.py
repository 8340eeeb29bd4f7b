"""What people report as inappropriate: taken down for those who moderate, without telling what there is.

Rooms and people need not have anything to do with whoever reports them, so the answer is the same whether they exist or
not, and comes after a while that says nothing either. Of an event only those may report who can see it.

Spec: https://spec.matrix.org/v1.19/client-server-api/#reporting-content
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from attrs import field
from twisted.internet.defer import Deferred

from federation.room.identifiers import InvalidIdentifier, parse_room_id, parse_user_id
from federation.service import service
from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.rooms.history import History
from storage import accounts as account_rows
from storage import reports as rows
from storage import rooms as room_rows
from storage import strings
from storage.database import Database
from storage.ports import Cursor
from storage.reports import NewReport, Report, State

LONGEST_REASON_BYTES = 8 * 1024
LONGEST_PAUSE_S = 0.2
"""How long an answer may take that must not tell how much there was to do."""
MOST_LISTED = 100


@service
class Reports:
    """Takes reports down, and shows them to those who deal with them."""

    database: Database
    history: History
    clock: Clock
    random: Random = field(factory=Random)
    listeners: list[Callable[[NewReport], None]] = field(factory=list)
    """Told of every report once it is taken down: must not wait and must not raise."""

    async def event(self, reporter: str, room_id: str, event_id: str, reason: str) -> None:
        """Report an event of a room that one is in. Raises NotFound where it is not, or one may not see the event."""
        _check_reason(reason)
        not_there = NotFound("There is no such event, or you are not in its room")
        try:
            room = await self.history.access.member(room_id, reporter)
        except Forbidden:
            raise not_there from None
        found = (await self.history.event(room.room_id, reporter, event_id)).event[0].event
        report = NewReport(reporter, reason, self.clock.now_ms(), room_id, event_id, found.sender)
        await self.database.write(rows.add, report)
        self._tell(report)

    async def room(self, reporter: str, room_id: str, reason: str) -> None:
        """Report a room that this server may know."""
        _check_reason(reason)
        try:
            report = NewReport(reporter, reason, self.clock.now_ms(), room_id=parse_room_id(room_id))
        except InvalidIdentifier:
            report = None
        if report is not None and await self.database.write(_add_if_known, report):
            self._tell(report)
        await self._pause()

    async def user(self, reporter: str, user_id: str, reason: str) -> None:
        """Report somebody of this server or another one."""
        _check_reason(reason)
        try:
            report = NewReport(reporter, reason, self.clock.now_ms(), user_id=parse_user_id(user_id, historical=False))
        except InvalidIdentifier:
            report = None
        if report is not None:
            await self.database.write(_add_if_known, report)
        await self._pause()

    # -- for those who moderate ------------------------------------------------------------------------------------

    async def page(
        self,
        before: int | None = None,
        limit: int = MOST_LISTED,
        *,
        room_ids: Sequence[str] | None = None,
        user_id: str | None = None,
        only_open: bool = False,
        state: State | None = None,
    ) -> list[Report]:
        """Reports, the newest first: those below a number, of some rooms, about one person, that nobody dealt with."""
        return await self.database.run(
            rows.page,
            2**62 if before is None else before,
            max(0, min(limit, MOST_LISTED)),
            room_ids=room_ids,
            user_id=user_id,
            only_open=only_open,
            state=state,
        )

    async def get(self, number: int) -> Report | None:
        return await self.database.run(rows.get, number)

    async def resolve(self, number: int, by: str, resolution: str) -> bool:
        """Note what was done about it. False where there is no such report, or it is dealt with already."""
        return await self.database.write(rows.resolve, number, by, resolution, self.clock.now_ms())

    async def decide(self, number: int, by: str, state: State, note: str | None) -> Report | None:
        """Note what was decided, also where something was before. None where there is no such report."""
        return await self.database.write(rows.decide, number, by, state, note, self.clock.now_ms())

    def _tell(self, report: NewReport) -> None:
        for listener in self.listeners:
            listener(report)

    async def _pause(self) -> None:
        pause: Deferred[None] = Deferred()
        self.clock.timers.callLater(self.random.uniform(0, LONGEST_PAUSE_S), pause.callback, None)
        await pause


def _check_reason(reason: str) -> None:
    if len(reason.encode("utf-8", "surrogatepass")) > LONGEST_REASON_BYTES:
        raise InvalidParam(f"`reason` has at most {LONGEST_REASON_BYTES} bytes")


def _add_if_known(cursor: Cursor, report: NewReport) -> bool:
    if report.room_id is not None:
        is_known = room_rows.find_nid(cursor, report.room_id) is not None
    else:
        assert report.user_id is not None
        has_account = account_rows.get_account(cursor, report.user_id) is not None
        is_known = has_account or strings.find(cursor, report.user_id) is not None  # met in some room
    if is_known:
        rows.add(cursor, report)
    return is_known
