"""Keeps the rooms of a guild as its state says: levels, join rules, and who is in a channel.

    an edit of the guild ── follow(before) ──► one pass over the rooms that come into question, one commit
                                 ▲
    edits meanwhile ── gathered ─┘             a mark in the database from the edit's commit until the pass is done

Passes of a guild run one after the other; whatever is edited while one runs is done by the next, in one go. What was
left undone by a crash is done at the next start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.room.purging import FLAG, asks_for_purge
from homeserver.errors import MatrixError
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import Channel, Guild
from homeserver.guilds.permissions import CONNECT
from homeserver.guilds.projection import CALL_TYPES
from homeserver.guilds.steward import profile_of, state
from homeserver.guilds.viewers import Viewers, has_closed, has_opened, is_lazy
from homeserver.guilds.wanted import Policy, is_as_wanted, wanted_in_channel, wanted_in_guild
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import AUTHORISER, INSIDE, MEMBER
from homeserver.rooms.registry import Rooms
from homeserver.tasks import Tasks
from homeserver.turns import OneAtATime
from storage import guilds as rows
from storage.database import Database

ROOMS_AT_ONCE = 100
"""In one commit."""
GATHER_S = 0.5
"""How long a change that takes nothing from anybody may wait for others."""

log = structlog.get_logger("homeserver.guilds")


class _Pending(msgspec.Struct):
    """What was edited since the last pass began."""

    before: Guild | None
    """The guild before the first of these edits; None: nobody knows, so everything is looked at."""
    touched: set[str] = msgspec.field(default_factory=set)
    """Members whose roles changed."""


@define(eq=False)
class Reconciler:
    """See the module's docstring."""

    steward: str
    door: Door
    rooms: Rooms
    book: GuildBook
    database: Database
    tasks: Tasks
    policy: Policy
    _pending: dict[str, _Pending] = field(factory=dict)
    _turns: OneAtATime = field(factory=OneAtATime)
    _gathering: set[str] = field(factory=set)

    async def start(self, spoilt: Iterable[str] = ()) -> None:
        """Take up what a crash left undone. `spoilt`: guilds whose rooms may not be as they should be."""
        for guild_id in spoilt:
            self.note(guild_id, None)
        for guild_id in sorted({*await self.database.run(rows.unsettled), *spoilt}):
            await self.settle(guild_id)

    def note(self, guild_id: str, before: Guild | None, touched: Iterable[str] = ()) -> None:
        """The guild was edited, or one of its rooms is no longer as it should be (`before` is None)."""
        pending = self._pending.get(guild_id)
        if pending is None:
            pending = self._pending[guild_id] = _Pending(before)
        elif before is None:
            pending.before = None
        pending.touched.update(touched)

    async def settle(self, guild_id: str) -> None:
        """Bring the guild's rooms to what it says now. Answers when they are."""
        await self._turns.alone(guild_id, partial(self._settle, guild_id))

    async def _settle(self, guild_id: str) -> None:
        pending = self._pending.pop(guild_id, None) or _Pending(None)
        try:
            await self._pass(guild_id, pending)
        except BaseException:
            self.note(guild_id, pending.before, pending.touched)
            raise

    async def follow(self, guild_id: str) -> None:
        """`settle`, unless somebody else's pass has done it while this one waited for its turn."""
        if guild_id in self._pending:
            await self._turns.settled(guild_id)
            if guild_id in self._pending:
                await self.settle(guild_id)

    def follow_soon(self, guild_id: str) -> None:
        """`follow` a little later, together with what else is edited until then."""
        if guild_id not in self._gathering:
            self._gathering.add(guild_id)
            self.door.clock.timers.callLater(GATHER_S, self._gathered, guild_id)

    def _gathered(self, guild_id: str) -> None:
        self._gathering.discard(guild_id)
        self.tasks.spawn("guild.follow", self.follow(guild_id))

    # -- one pass ----------------------------------------------------------------------------------------------

    async def _pass(self, guild_id: str, pending: _Pending) -> None:
        guild = await self.book.require(guild_id)
        mark = await self.database.run(rows.unsettled_at, guild_id)
        channels = [
            channel
            for channel in guild.channels.values()
            if (room := await self.rooms.get(channel.room_id)) is not None and room.create.sender == self.steward
        ]
        channels.sort(key=lambda channel: channel.room_id)
        await self._keep([(guild_id, None)], guild, pending)
        for start in range(0, len(channels), ROOMS_AT_ONCE):
            some = channels[start : start + ROOMS_AT_ONCE]
            await self._keep([(channel.room_id, channel) for channel in some], guild, pending)
        if mark is not None:
            await self.database.write(rows.set_settled, guild_id, mark)

    async def _keep(self, rooms: Sequence[tuple[str, Channel | None]], guild: Guild, pending: _Pending) -> None:
        """Send what makes these rooms as they should be, in one commit; nothing where they are."""
        by_id = dict(rooms)
        in_guild = await self.rooms.require(guild.room_id)
        arriving = {room_id: self._arriving(in_guild, guild, channel, pending) for room_id, channel in rooms}
        contents = await self._joins(in_guild, {user_id for some in arriving.values() for user_id in some})
        purged = await self._purged(in_guild, list(by_id), pending)

        def work(drafts: Mapping[str, Draft]) -> tuple[None, list[Deferred[None]]]:
            for room_id, draft in drafts.items():
                self._correct(draft, in_guild, guild, by_id[room_id], pending, purged)
                self._let_in(draft, [(user_id, contents[user_id]) for user_id in arriving[room_id]])
            return None, [self.door.append(draft) for draft in drafts.values() if draft.new]

        await self.door.settle_together(list(by_id), work)

    def _correct(
        self,
        draft: Draft,
        in_guild: LiveRoom,
        guild: Guild,
        channel: Channel | None,
        pending: _Pending,
        purged: Collection[str],
    ) -> None:
        wanted = (
            wanted_in_guild(guild, self.policy) if channel is None else wanted_in_channel(guild, channel, self.policy)
        )
        for (event_type, state_key), content in wanted.items():
            current = draft.lookup(event_type, state_key)
            if not is_as_wanted(current, content):
                draft.add(state(self.steward, event_type, content, state_key))
        if channel is not None:
            self._put_out(draft, in_guild, guild, channel, pending, purged)
            self._hang_up(draft, guild, channel)

    def _put_out(
        self,
        draft: Draft,
        in_guild: LiveRoom,
        guild: Guild,
        channel: Channel,
        pending: _Pending,
        purged: Collection[str],
    ) -> None:
        """Let a channel follow the guild in who is banned, and put out who may not view it."""
        viewers, leaving = Viewers(guild, channel), dict[str, str]()
        for user_id in self._candidates(draft.room, in_guild, guild, channel, pending):
            ref = draft.standing.state.get((MEMBER, user_id))
            membership = None if ref is None else ref.membership
            in_guild_as = in_guild.membership_of(user_id)
            wanted = None
            if in_guild_as == "ban":
                wanted = "ban"
            elif membership == "ban" or (
                membership in INSIDE and not (in_guild_as == "join" and viewers.holds(user_id))
            ):
                wanted = "leave"
            if wanted is not None and wanted != membership:
                leaving[user_id] = wanted
        draft.need_members(leaving)
        for user_id, wanted in leaving.items():
            flag = {FLAG: True} if user_id in purged else {}
            draft.add(Template(MEMBER, self.steward, {"membership": wanted, **flag}, user_id))

    async def _purged(self, in_guild: LiveRoom, room_ids: Sequence[str], pending: _Pending) -> set[str]:
        """Who was put out of the guild with all that they said."""
        people = set(pending.touched)
        if pending.before is None:
            rooms = [room for room_id in room_ids if (room := self.rooms.peek(room_id)) is not None]
            people.update(user_id for room in rooms for user_id, ref in room.members() if ref.membership in INSIDE)
        refs = [
            ref
            for user_id in sorted(people)
            if (ref := in_guild.visible.state.get((MEMBER, user_id))) is not None and ref.membership in ("leave", "ban")
        ]
        events = await self.door.events.get_many([ref.nid for ref in refs])
        return {str(one.event.state_key) for one in events.values() if asks_for_purge(one.event)}

    def _hang_up(self, draft: Draft, guild: Guild, channel: Channel) -> None:
        """End the call memberships of those who may not connect any more: the levels keep them from doing so."""
        for event_type, state_key in draft.room.frame:
            ref = draft.standing.state.get((event_type, state_key))
            if event_type not in CALL_TYPES or ref is None or state_key.startswith("@"):
                continue  # a key that is a user's id is that user's alone
            event = draft.stored(ref.nid).event
            if event.content and not guild.permissions(event.sender, channel) & CONNECT:
                draft.add(state(self.steward, event_type, {}, state_key))

    def _arriving(self, in_guild: LiveRoom, guild: Guild, channel: Channel | None, pending: _Pending) -> Sequence[str]:
        """People of this server who may view a channel, are not in it, and perhaps could not view it before."""
        if channel is None or is_lazy(guild, in_guild):
            return ()
        room, before = self.rooms.peek(channel.room_id), pending.before
        if room is None:
            return ()
        people: Iterable[str] = in_guild.local_joined
        if before is not None and not has_opened(before, guild, channel):
            people = pending.touched & in_guild.local_joined
        viewers = Viewers(guild, channel)
        found = [user_id for user_id in people if user_id not in room.local_joined and viewers.holds(user_id)]
        return sorted(user_id for user_id in found if user_id != self.steward)

    async def _joins(self, in_guild: LiveRoom, people: Collection[str]) -> Mapping[str, dict[str, Any]]:
        """The contents of their joins, with the profiles that they show in the guild."""
        refs = {user_id: in_guild.visible.state.get((MEMBER, user_id)) for user_id in people}
        nids = {user_id: ref.nid for user_id, ref in refs.items() if ref is not None}
        events = await self.door.events.get_many(list(nids.values()))
        return {user_id: profile_of(events[nid].event.content) for user_id, nid in nids.items()}

    def _let_in(self, draft: Draft, joins: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Add joins to a channel, of whoever did not leave it by their own hand."""
        draft.need_members(user_id for user_id, _ in joins)
        for user_id, content in joins:
            ref = draft.standing.state.get((MEMBER, user_id))
            if ref is not None:
                if ref.membership in ("join", "ban"):
                    continue
                if ref.membership == "leave" and draft.stored(ref.nid).event.sender == user_id:
                    continue
            draft.add(Template(MEMBER, user_id, {**content, AUTHORISER: self.steward}, user_id))

    def _candidates(
        self, room: LiveRoom, in_guild: LiveRoom, guild: Guild, channel: Channel, pending: _Pending
    ) -> Sequence[str]:
        """For whom it may have changed whether they may be in a channel."""
        before, people = pending.before, set(pending.touched)
        if before is None or has_closed(before, guild, channel):
            people.update(user_id for user_id, ref in room.members() if ref.membership in (*INSIDE, "ban"))
        if before is None:
            people.update(user_id for user_id, ref in in_guild.members() if ref.membership == "ban")
        return sorted(people - {self.steward})


async def follow_all(reconciler: Reconciler, guild_ids: Sequence[str]) -> None:
    """Settle several guilds, whatever becomes of the others."""
    for guild_id in guild_ids:
        try:
            await reconciler.settle(guild_id)
        except MatrixError:
            log.exception("a guild could not be brought in order", guild=guild_id)


def mark_unsettled(guild_id: str, mark: int) -> partial[None]:
    """What an edit writes in its own transaction, so that a crash before the pass is made up for. `mark`: its own."""
    return partial(rows.set_unsettled, guild_id=guild_id, mark=mark)
