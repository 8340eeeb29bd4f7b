"""Changing a guild: a function looks at it, checks and sets; that is one commit with its entries in the audit log.

    await editor.edit(guild_id, user_id, "role.update", lambda edit: edit.set(ROLE_TYPE, role_id, content))

The function runs on the guild as the last edit left it, with nobody else in between, and perhaps more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import orjson
from attrs import define, field
from twisted.internet.defer import Deferred

from federation.room.canonical import canonical_json
from federation.service import service
from homeserver.errors import Forbidden, MatrixError, NotFound
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import GUILD_TYPE, MEMBER_TYPE, Channel, Guild
from homeserver.guilds.projection import project
from homeserver.guilds.reconcile import Reconciler, mark_unsettled
from homeserver.guilds.steward import ON_BEHALF_OF, state
from homeserver.guilds.wanted import Policy, is_as_wanted, wanted_in_guild
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.membership import MEMBER
from storage import guilds as rows
from storage.guilds import AuditEntry
from storage.ports import Cursor, NewRoom

T = TypeVar("T")

MOST_BYTES_OF_LEVELS = 62_000
"""Of the content of power levels: what surrounds it in an event has to fit as well."""
FEW = 100
"""So many people with roles, and as many again with overrides, can't be too many to be listed."""


@define(eq=False)
class Edit:
    """A guild on its way from one state to the next."""

    before: Guild
    guild: Guild
    """As it is after what was set so far."""
    actor: str
    _steward: str
    _draft: Draft
    _now_ms: int
    touched: set[str] = field(factory=set)
    """Members whose roles or membership are others now."""
    audit: list[AuditEntry] = field(factory=list)
    channels: Mapping[str, Draft] = field(factory=dict)
    """Rooms of channels that are changed with the guild, in the same commit."""
    founded: list[Draft] = field(factory=list)
    """Rooms that come into being with it."""
    also: list[Callable[[Cursor], None]] = field(factory=list)
    """What is written in the same transaction."""

    @property
    def has_consequences(self) -> bool:
        """Whether the guild's rooms may have to say something else now."""
        return self.guild is not self.before or bool(self.touched)

    def require_member(self, user_id: str) -> None:
        """Raises NotFound for somebody who is not in the guild; the steward does not count as a member."""
        if self.membership_of(user_id) != "join" or user_id == self._steward:
            raise NotFound(f"{user_id} is not in this guild")

    def check_not_steward(self, user_id: str) -> None:
        """Raises Forbidden for the guild's own account: without it nothing could be done there any more."""
        if user_id == self._steward:
            raise Forbidden("Nobody may do that to the guild's own account")

    def membership_of(self, user_id: str) -> str | None:
        """Somebody's membership of the guild's room."""
        ref = self._draft.standing.state.get((MEMBER, user_id))
        return None if ref is None else ref.membership

    @property
    def signature(self) -> Mapping[str, str]:
        """What an event that the steward sends says of the one for whom it does."""
        return {} if self.actor == self._steward else {ON_BEHALF_OF: self.actor}

    def require_channel(self, room_id: str) -> Channel:
        """The channel, for somebody who may view it. Raises NotFound."""
        channel = self.guild.channels.get(room_id)
        if channel is None:
            raise NotFound("There is no such channel in this guild")
        return channel

    def content(self, event_type: str, state_key: str = "") -> Mapping[str, Any]:
        """What a piece of the guild's state says now; empty where there is none."""
        event = self._draft.lookup(event_type, state_key)
        return {} if event is None else {key: value for key, value in event.content.items() if key != ON_BEHALF_OF}

    def set(self, event_type: str, state_key: str, content: Mapping[str, Any]) -> bool:
        """Set a piece of state. False, and nothing done, where it says just that already."""
        if dict(self.content(event_type, state_key)) == dict(content):
            return False
        self._draft.add(state(self._steward, event_type, dict(content), state_key, self.actor))
        if event_type == MEMBER_TYPE:
            self.touched.add(state_key[1:])
        self.guild = self.guild.changed(event_type, state_key, content)
        return True

    def send(self, template: Template) -> None:
        """Add any other event to the guild's room."""
        self._draft.add(template)

    def content_in(self, room_id: str, event_type: str) -> Mapping[str, Any]:
        """What a piece of state of one of `channels`, or of the guild's room, says now; empty where there is none."""
        event = self.channels.get(room_id, self._draft).lookup(event_type, "")
        return {} if event is None else {key: it for key, it in event.content.items() if key != ON_BEHALF_OF}

    def set_in(self, room_id: str, action: str, event_type: str, content: Mapping[str, Any]) -> bool:
        """Set a piece of state of one of `channels`, or of the guild's room that is none of its own types, and log it.

        False, and nothing done, where it says just that already.
        """
        before = dict(self.content_in(room_id, event_type))
        if before == dict(content):
            return False
        self.channels.get(room_id, self._draft).add(state(self._steward, event_type, dict(content), "", self.actor))
        self.log(action, room_id, {event_type: before} if before else None, {event_type: dict(content)})
        return True

    def hand_over(self, owner: str) -> None:
        """Make somebody the owner."""
        before = self.guild.settings.owner
        self.change("guild.owner", GUILD_TYPE, "", {**self.content(GUILD_TYPE), "owner": owner})
        self.touched |= {user_id for user_id in (before, owner) if user_id}

    def highest(self) -> str:
        """Who ranks highest of those who are in the guild, the owner apart; the empty string where nobody is left."""
        present = [
            user_id
            for user_id, ref in self._draft.room.members()
            if ref.membership == "join" and user_id not in (self._steward, self.guild.settings.owner)
        ]
        return min(present, key=lambda user_id: (-self.guild.rank(user_id), user_id), default="")

    def log(
        self,
        action: str,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> None:
        """Write it into the audit log. An edit that sets nothing leaves no entry."""
        packed = [None if not value else orjson.dumps(value) for value in (before, after)]
        number = len(self.audit)
        if reason is not None:
            reason = reason.replace("\0", "")  # which PostgreSQL can't keep
        self.audit.append(AuditEntry(0, number, self._now_ms, self.actor, action, target, packed[0], packed[1], reason))

    def change(self, action: str, event_type: str, state_key: str, content: Mapping[str, Any]) -> bool:
        """`set`, and `log` it with what it was before."""
        before = self.content(event_type, state_key)
        if not self.set(event_type, state_key, content):
            return False
        self.log(action, state_key, before, content)
        return True


@service
class Editor:
    """Makes edits to the guilds of this server's steward."""

    steward: str
    door: Door
    book: GuildBook
    reconciler: Reconciler
    policy: Policy

    async def edit(self, guild_id: str, actor: str, work: Callable[[Edit], T], *, channels: Collection[str] = ()) -> T:
        """Do it, and answer when the guild and what follows from it in its channels are durable.

        `channels`: rooms of this server's that are changed too. Raises what `work` raises, NotFound where there is no
        such guild of this server, and 400 `M_TOO_LARGE` where an event would not fit, before anything is written.
        """

        def compose(drafts: Mapping[str, Draft]) -> tuple[tuple[T, Guild, Edit], Sequence[Deferred[None]]]:
            draft = drafts[guild_id]
            others = {room_id: drafts[room_id] for room_id in channels}
            before = self.book.standing(draft)
            edit = Edit(before, before, actor, self.steward, draft, self.door.clock.now_ms(), channels=others)
            made = work(edit)
            if edit.guild is not before:
                self._follow_in_room(draft, edit.guild)
                check_fits(edit.guild)
            return (made, before, edit), self._append(edit, draft)

        await self.require_own(guild_id)
        try:
            made, before, edit = await self.door.settle_together([guild_id, *channels], compose)
        except MatrixError as error:
            if error.errcode == "M_TOO_LARGE":
                raise too_large(error.error) from None
            raise
        if edit.has_consequences:
            self.reconciler.note(guild_id, before, edit.touched)
            await self.reconciler.follow(guild_id)
        return made

    def _append(self, edit: Edit, draft: Draft) -> Sequence[Deferred[None]]:
        """Queue what an edit made. What goes with it is written with the first of its rooms that has something new."""
        moved = [one for one in (draft, *edit.channels.values()) if one.new]
        if not moved:
            return []
        position = self.door.means.counters.position
        also = list(edit.also)
        for entry in edit.audit:
            placed = msgspec.structs.replace(entry, position=position)
            also.append(partial(rows.add_audit, room_nid=draft.room.nid, entry=placed))
        if edit.has_consequences:
            also.append(mark_unsettled(draft.room.room_id, position))
        durable = [self.door.append(one, new_room=row_of(one)) for one in edit.founded]
        durable.append(self.door.append(moved[0], also=also))
        return [*durable, *(self.door.append(one) for one in moved[1:])]

    async def require_own(self, guild_id: str) -> Guild:
        """The guild as readers see it. Raises NotFound where it is none of this server's steward."""
        guild = await self.book.require(guild_id)
        room = await self.book.rooms.require(guild_id)
        if room.create.sender != self.steward:
            raise NotFound("This guild lives on another server")
        return guild

    def _follow_in_room(self, draft: Draft, guild: Guild) -> None:
        """The guild's own room says what follows in the same unit, so that it is never otherwise."""
        for (event_type, state_key), content in wanted_in_guild(guild, self.policy).items():
            current = draft.lookup(event_type, state_key)
            if not is_as_wanted(current, content):
                draft.add(state(self.steward, event_type, content, state_key))


def check_fits(guild: Guild) -> None:
    """Raises `M_TOO_LARGE` where the levels of a channel would not fit into an event."""
    if len(guild.members) <= FEW:
        return
    for channel in guild.channels.values():
        size_bytes = len(canonical_json(project(guild, channel)))
        if size_bytes > MOST_BYTES_OF_LEVELS:
            raise too_large(
                f"The power levels of the channel {channel.room_id} would take {size_bytes} bytes: too many people"
                " would have to be listed there"
            )


def too_large(error: str) -> MatrixError:
    return MatrixError(400, "M_TOO_LARGE", error)


def row_of(draft: Draft) -> NewRoom:
    """The room that a draft founds, as it is stored."""
    room = draft.room
    kind = room.create.content.get("type")
    return NewRoom(room.nid, room.room_id, room.version.identifier, room.create.sender, kind)
