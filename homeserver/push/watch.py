"""Judges every event that comes, once for everybody here whom it may concern, as soon as it is committed.

Those who have changed nothing and are not meant by it are one case. Single people are looked at where the event is
about them, where they have rules of their own, or where somebody has to be told of it on their behalf.

Spec: https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-12
"""

from __future__ import annotations

from collections.abc import Collection, Set

import structlog
from attrs import define, field

from federation.room.auth import PowerLevels
from federation.room.event import Event
from federation.room.relations import REPLACE, THREAD, relation_in, relation_of
from homeserver.ephemeral.threads import MAIN, MAX_HOPS
from homeserver.push.compiled import DEFAULT, QUIET, Verdict
from homeserver.push.conditions import BODY, Me
from homeserver.push.facts import Facts
from homeserver.push.followers import NOBODY, Followed, Followers
from homeserver.push.ledger import Ledger
from homeserver.push.people import People
from homeserver.push.ports import Listener, News, RoleMentions
from homeserver.push.words import user_ids_in
from homeserver.rooms.accept import Accepted
from homeserver.rooms.events import EventCache
from homeserver.rooms.live import POWER_LEVELS, LiveRoom
from homeserver.rooms.registry import Rooms
from homeserver.streams.hub import Hub
from storage import push as rows
from storage import thread_subscriptions
from storage.account_data import AccountDatum
from storage.database import Database
from storage.events import timeline
from storage.ports import Cursor, StoredEvent
from storage.push import LogEntry, OwnEntry
from storage.search import rooms_with_news

PAGE = 500
MANY = 1_000_000
"""How many are in a room whose members are yet to be fetched, as far as rules are concerned."""

_Case = tuple[int, Verdict | None, Verdict | None, bool]
"""By what people are judged alike: rules, wishes of the room and the sender, and whether they follow the thread."""

log = structlog.get_logger("homeserver.push")


@define(eq=False)
class Watch:
    """An observer of the door (`homeserver.rooms.accept.Observer`). One per process."""

    database: Database
    hub: Hub
    rooms: Rooms
    events: EventCache
    people: People
    followers: Followers
    ledger: Ledger
    server_name: str
    roles: RoleMentions
    listeners: list[Listener] = field(factory=list, init=False)
    _started: bool = field(default=False, init=False)

    async def start(self) -> None:
        """Read what people want, and judge what a crash left out. What comes before that is done is found then."""
        heeded, turns, followed, upto = await self.database.run(_read)
        self.people.load(heeded, turns)
        self.followers.load(followed)
        if upto is None:
            upto = self.hub.position  # whatever was said before there was push is read
        while upto < (until := self.hub.position):
            await self._walk(upto, until)
            upto = until
        self.ledger.judged = upto
        self._started = True
        await self.database.write(rows.set_upto, upto)

    async def close(self) -> None:
        """Write what waits."""
        if self._started:
            await self.ledger.flush()

    def accepted(self, accepted: Accepted) -> None:
        """Something was committed."""
        if not self._started:
            return
        for new in accepted.events:
            stored = new.stored
            if stored.rejected or stored.soft_failed or stored.unapplied:
                continue
            if accepted.standing is not None and stored.position > 0:
                self._judge(accepted.room, stored)
        self.ledger.judged = max(self.ledger.judged, accepted.position)

    def membership_outside(self, stored: StoredEvent, position: int) -> None:
        """What somebody here is to a room that this server is not in changed (`homeserver.rooms.remote.outside`)."""
        event, user_id = stored.event, stored.event.state_key
        assert user_id is not None
        self.ledger.forget_place(user_id, stored.room_nid)
        if not self._started or event.sender in self.people.ignored.get(user_id, ()):
            return
        wishes = self.people.wishes_of(user_id)
        verdict = wishes.base.judge(
            Facts(event, MANY, lambda: None),
            Me(user_id),
            wishes.rooms.get(event.room_id),
            wishes.senders.get(event.sender),
        )
        if not verdict.notify:
            return
        loud = verdict.highlight
        own = OwnEntry(user_id, stored.room_nid, position, stored.nid, MAIN, 1, int(loud), loud, verdict.actions)
        self.ledger.own(own)
        for listener in self.listeners:
            listener.notified(user_id, News(event.room_id, position, stored, verdict.actions))

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        """Somebody's account data changed."""
        self.people.data_changed(user_id, datum)
        if self.people.turned:
            self.ledger.note_turns()

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has nothing yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """The account is closed: nobody counts for it any more."""
        self.people.forget(user_id)
        await self.ledger.flush()
        await self.database.write(rows.forget_person, user_id)

    # ----------------------------------------------------------------------------------------------------------

    async def _walk(self, after: int, upto: int) -> None:
        """Judge what is in the database of those positions, by the rooms as they are now."""
        for nid in await self.database.run(rooms_with_news, after):
            begin = after
            while page := await self.database.run(timeline, nid, after=begin, upto=upto, limit=PAGE):
                begin = page[-1].position
                room = (await self.rooms.get_many([nid])).get(nid)
                for stored in page if room is not None else ():
                    self._judge(room, stored)  # type: ignore[arg-type]

    def _judge(self, room: LiveRoom, stored: StoredEvent) -> None:
        event = stored.event
        thread = self._thread_of(room, event)
        is_ours = event.sender.partition(":")[2] == self.server_name
        if event.type == "m.room.member" and event.state_key is not None:
            self.ledger.forget_place(event.state_key, room.nid)
        elif is_ours:
            self.ledger.read(event.sender, room.nid, thread, stored.position)
        mentioned = self._mentioned(room, event)
        count = MANY if room.joined_count is None else room.joined_count
        in_thread = None if thread == MAIN else False
        facts = Facts(event, count, lambda: self._levels(room), mentioned, in_thread)
        usual = DEFAULT.base.judge(facts, None, None, None)
        if usual.notify and room.local_joined:
            self.ledger.log(LogEntry(room.nid, stored.position, stored.nid, thread, usual.highlight, usual.actions))
        followers = NOBODY if thread == MAIN else self.followers.of(room.nid, thread)
        decided = self._decide(room, facts, usual, followers)
        for user_id, verdict in decided.items():
            self._note(user_id, room, stored, thread, verdict, usual)
        for listener in self.listeners:
            for user_id in listener.concerns(room):
                verdict = decided.get(user_id, usual if user_id in room.local_joined else QUIET)
                if verdict.notify and user_id != event.sender:
                    listener.notified(user_id, News(room.room_id, stored.position, stored, verdict.actions))

    def _decide(self, room: LiveRoom, facts: Facts, usual: Verdict, followers: Set[str]) -> dict[str, Verdict]:
        """What it is for those for whom it may be something else than usual. `followers`: of its thread."""
        event, local = facts.event, room.local_joined
        meant = {user_id for user_id in facts.mentioned if user_id in local}
        if event.state_key is not None and self._is_invited(room, event.state_key):
            meant.add(event.state_key)
        body = facts.value(BODY)
        called = self.people.words.said_in(body) if isinstance(body, str) else set()
        special = set(_among(self.people.apart, local))
        if facts.subscribed is not None:
            special.update(_among(self.people.hushed, local))
        special |= called & local if called else called
        special |= meant
        for_followers = facts
        if followers:
            special |= followers & local
            for_followers = facts.for_followers()
        special.discard(event.sender)
        decided: dict[str, Verdict] = {}
        known: dict[_Case, Verdict] = {(id(DEFAULT.base), None, None, False): usual}
        for user_id in sorted(special):
            if event.sender in self.people.ignored.get(user_id, ()):
                decided[user_id] = QUIET
                continue
            wishes = self.people.wishes_of(user_id)
            follows = user_id in followers
            as_seen = for_followers if follows else facts
            room_wish, sender_wish = wishes.rooms.get(event.room_id), wishes.senders.get(event.sender)
            if user_id in meant or wishes.base.knows_names:
                me = Me(user_id, self._name_of(room, user_id) if wishes.base.knows_names else None)
                decided[user_id] = wishes.base.judge(as_seen, me, room_wish, sender_wish)
                continue
            base = wishes.base if user_id in called else wishes.bare
            key = (id(base), room_wish, sender_wish, follows)
            if key not in known:
                known[key] = base.judge(as_seen, None, room_wish, sender_wish)
            decided[user_id] = known[key]
        return decided

    def _note(
        self, user_id: str, room: LiveRoom, stored: StoredEvent, thread: str, verdict: Verdict, usual: Verdict
    ) -> None:
        expected = QUIET
        if user_id in room.local_joined and self.people.is_plain(user_id, room.room_id, in_thread=thread != MAIN):
            expected = usual
        if verdict != expected:
            self.ledger.own(
                OwnEntry(
                    user_id,
                    room.nid,
                    stored.position,
                    stored.nid,
                    thread,
                    verdict.notify - expected.notify,
                    verdict.highlight - expected.highlight,
                    verdict.highlight,
                    verdict.actions,
                )
            )

    def _is_invited(self, room: LiveRoom, user_id: str) -> bool:
        ref = room.visible.state.get(("m.room.member", user_id))
        is_ours = user_id.partition(":")[2] == self.server_name
        return is_ours and ref is not None and ref.membership in ("invite", "join")

    def _mentioned(self, room: LiveRoom, event: Event) -> frozenset[str]:
        told = event.content.get("m.mentions")
        if told is None:
            return frozenset(self._called_by_id(room, event))
        if not isinstance(told, dict):
            return frozenset()
        named = told.get("user_ids")
        users = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
        return frozenset([*users, *self.roles(room, event)])

    def _called_by_id(self, room: LiveRoom, event: Event) -> Collection[str]:
        """Those here whose whole user id is in a text that says nothing of whom it mentions.

        COMPAT: bots, bridges and clients from before v1.7; see `docs/decisions/0013-texts-without-mentions.md`.
        """
        body = event.content.get("body")
        if event.type != "m.room.message" or not isinstance(body, str) or "@" not in body:
            return ()
        relation = relation_in(event.content)
        if relation is not None and relation.rel_type == REPLACE:
            return ()  # what is told of an edit is told by the rules for edits
        return {one for one in user_ids_in(body) if one in room.local_joined}

    def _levels(self, room: LiveRoom) -> PowerLevels | None:
        ref = room.visible.state.get(POWER_LEVELS)
        if ref is None:
            return room.power_levels(0, None)
        known = room.known_power_levels(ref.nid)
        if known is None and (stored := self.events.peek(ref.nid)) is not None:
            known = room.power_levels(ref.nid, stored.event)
        return known

    def _name_of(self, room: LiveRoom, user_id: str) -> str | None:
        ref = room.visible.state.get(("m.room.member", user_id))
        stored = None if ref is None else self.events.peek(ref.nid)
        name = None if stored is None else stored.event.content.get("displayname")
        return name if isinstance(name, str) else None

    def _thread_of(self, room: LiveRoom, event: Event) -> str:
        """The thread that an event is in by its relations, as far as what it hangs on was said of late."""
        current = event
        for _ in range(MAX_HOPS + 1):
            relation = relation_of(current)
            if relation is None:
                break
            if relation.rel_type == THREAD:
                return relation.parent
            parent = next(
                (
                    entry.stored.event
                    for entry in reversed(room.window)
                    if entry.stored is not None and entry.stored.event.event_id == relation.parent
                ),
                None,
            )
            if parent is None:
                break
            current = parent
        return MAIN


def _among(some: Set[str], local: Set[str]) -> Collection[str]:
    """Who is in both: by whichever is the shorter list."""
    if len(local) < len(some):
        return [user_id for user_id in local if user_id in some]
    return [user_id for user_id in some if user_id in local]


def _read(
    cursor: Cursor,
) -> tuple[list[tuple[str, AccountDatum]], dict[tuple[str, str], int], list[Followed], int | None]:
    followed = thread_subscriptions.followed(cursor)
    return rows.heeded(cursor), rows.turns(cursor), followed, rows.judged_upto(cursor)
