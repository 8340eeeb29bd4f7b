"""Changing a guild: a function looks at it, checks and sets; that is one commit with its entries in the audit log.

    await editor.edit(guild_id, user_id, "role.update", lambda edit: edit.set(ROLE_TYPE, role_id, content))

The function runs on the guild as the last edit left it, with nobody else in between, and perhaps more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import orjson
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from homeserver.errors import NotFound
from homeserver.guilds.book import GuildBook
from homeserver.guilds.model import GUILD_TYPE, MEMBER_TYPE, Channel, Guild
from homeserver.guilds.reconcile import Reconciler, mark_unsettled
from homeserver.guilds.steward import ON_BEHALF_OF, state
from homeserver.guilds.wanted import wanted_in_guild
from homeserver.rooms.accept import Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.membership import MEMBER
from storage import guilds as rows
from storage.guilds import AuditEntry

T = TypeVar("T")


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

    @property
    def has_consequences(self) -> bool:
        """Whether the guild's rooms may have to say something else now."""
        return self.guild is not self.before or bool(self.touched)

    def require_member(self, user_id: str) -> None:
        """Raises NotFound for somebody who is not in the guild."""
        if self.membership_of(user_id) != "join":
            raise NotFound(f"{user_id} is not in this guild")

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
        self.audit.append(AuditEntry(0, number, self._now_ms, self.actor, action, target, packed[0], packed[1], reason))

    def change(self, action: str, event_type: str, state_key: str, content: Mapping[str, Any]) -> bool:
        """`set`, and `log` it with what it was before."""
        before = self.content(event_type, state_key)
        if not self.set(event_type, state_key, content):
            return False
        self.log(action, state_key, before, content)
        return True


@frozen
class Editor:
    """Makes edits to the guilds of this server's steward."""

    steward: str
    door: Door
    book: GuildBook
    reconciler: Reconciler

    async def edit(self, guild_id: str, actor: str, work: Callable[[Edit], T]) -> T:
        """Do it, and answer when the guild and what follows from it in its channels are durable.

        Raises what `work` raises, NotFound where there is no such guild of this server, and 413 `M_TOO_LARGE` where an
        event would not fit, before anything is written.
        """

        def compose(drafts: Mapping[str, Draft]) -> tuple[tuple[T, Guild, Edit], Sequence[Deferred[None]]]:
            draft = drafts[guild_id]
            before = self.book.standing(draft)
            edit = Edit(before, before, actor, self.steward, draft, self.door.clock.now_ms())
            made = work(edit)
            if edit.guild is not before:
                self._follow_in_room(draft, edit.guild)
            if not draft.new:
                return (made, before, edit), []
            position = self.door.means.counters.position
            entries = [msgspec.structs.replace(entry, position=position) for entry in edit.audit]
            also = [partial(rows.add_audit, room_nid=draft.room.nid, entry=entry) for entry in entries]
            if edit.has_consequences:
                also.append(mark_unsettled(guild_id, position))
            return (made, before, edit), [self.door.append(draft, also=also)]

        await self.require_own(guild_id)
        made, before, edit = await self.door.settle_together([guild_id], compose)
        if edit.has_consequences:
            self.reconciler.note(guild_id, before, edit.touched)
            await self.reconciler.follow(guild_id)
        return made

    async def require_own(self, guild_id: str) -> Guild:
        """The guild as readers see it. Raises NotFound where it is none of this server's steward."""
        guild = await self.book.require(guild_id)
        room = await self.book.rooms.require(guild_id)
        if room.create.sender != self.steward:
            raise NotFound("This guild lives on another server")
        return guild

    def _follow_in_room(self, draft: Draft, guild: Guild) -> None:
        """The guild's own room says what follows in the same unit, so that it is never otherwise."""
        for (event_type, state_key), content in wanted_in_guild(guild).items():
            current = draft.lookup(event_type, state_key)
            if current is None or current.content != content:
                draft.add(state(self.steward, event_type, content, state_key))
