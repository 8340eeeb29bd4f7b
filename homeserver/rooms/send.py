"""Saying things: messages, state and redactions of local users, each harmless to repeat.

Spec: https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
from attrs import field

from federation.room.canonical import BadJson as NotCanonical
from federation.room.canonical import canonical_json
from federation.room.identifiers import InvalidIdentifier, parse_event_id
from federation.room.redaction import redact_event
from federation.room.sticky import STICKY
from federation.service import service
from homeserver.errors import BadJson, Forbidden, MissingParam, NotFound
from homeserver.http.route import Requester
from homeserver.rooms.accept import Along, Door
from homeserver.rooms.compose import Draft, Template
from homeserver.rooms.live import LiveRoom
from homeserver.rooms.membership import MEMBER, Check, Memberships, in_room
from homeserver.rooms.registry import NOT_IN_ROOM, Rooms
from homeserver.rooms.transactions import TransactionLog
from storage import events as event_rows
from storage import redactions as redaction_rows
from storage.database import Database
from storage.ports import Cursor, StoredEvent, Transaction
from storage.relations import Wanted, list_children

REDACTION = "m.room.redaction"
SERVER_ACL = "m.room.server_acl"
"""Redacted, it allows nobody (https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl)."""
ANY_TYPE = "*"
MOST_RELATED = 1_000
"""Events that one request redacts with the one that they hang on."""
RELATED_AT_ONCE = 50
"""Of those, in one commit."""
NO_SUCH_EVENT = "There is no such event in this room"

T = TypeVar("T")


class StateCheck(Protocol):
    """Looks at a state event before it is composed, and raises: what the auth rules don't cover."""

    async def __call__(self, room_id: str, template: Template, current: Mapping[str, Any] | None) -> None: ...


class SendRule(Protocol):
    """What some rooms demand beyond the authorisation rules, of this server's own people (`homeserver.guilds`)."""

    async def check_for(self, room: LiveRoom, template: Template) -> Check | None:
        """What must hold of the room when this is composed; None where the rule does not concern the room.

        Called for every message, so it must be quick to say that. May raise.
        """


class MessageRules(Protocol):
    """Holds messages that speak of other events against the rules of that."""

    async def send(self, room: LiveRoom, template: Template, send: Callable[[], Awaitable[T]]) -> T:
        """Call `send`, which sends the message, or raise MatrixError. The sender is in the room."""


@service
class Sender:
    """Sends into rooms that the sender is in."""

    door: Door
    rooms: Rooms
    database: Database
    transactions: TransactionLog
    memberships: Memberships
    state_checks: Mapping[str, StateCheck]
    """By event type."""
    message_rules: MessageRules
    rules: list[SendRule] = field(factory=list)

    async def message(
        self,
        who: Requester,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        txn_id: str,
        *,
        sticky_ms: int | None = None,
    ) -> str:
        """Send a message event; the same transaction id gives the same event. Answers the event id when durable.

        `sticky_ms`: for how long it sticks to the room (`federation.room.sticky`).
        """
        path = f"send/{room_id}/{event_type}"
        if event_type == REDACTION:
            return await self.redact(who, room_id, _redacts(content), content, txn_id, path=path)
        transaction = Transaction(who.user_id, who.device_id, path, txn_id)
        template = Template(event_type, who.user_id, content, extra=_sticky(sticky_ms))
        return await self.transactions.once(transaction, partial(self._send_one, room_id, template, transaction))

    async def state(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        state_key: str,
        content: dict[str, Any],
        is_guest: bool = False,
        *,
        sticky_ms: int | None = None,
    ) -> str:
        """Set a piece of state. Setting what is already set makes no new event, unless that one shall stick."""
        if event_type == REDACTION:
            raise BadJson("A redaction is not a piece of state")
        room = await self.rooms.require(room_id)
        may: Check | None = in_room(sender)
        if event_type == MEMBER:
            if await self.memberships.is_done_by_warden(room, sender, state_key, content, is_guest):
                done = (await self.rooms.require(room_id)).visible.state[MEMBER, state_key]
                return done.event_id
            content, may = await self.memberships.prepare(room, sender, state_key, content, is_guest)
        template = Template(event_type, sender, content, state_key, extra=_sticky(sticky_ms))
        if room.membership_of(sender) == "join":
            ref = room.visible.state.get((event_type, state_key))
            current = None if ref is None else await self.door.events.get(ref.nid)
            is_set = current is not None and current.event.sender == sender and _is_same(content, current)
            if current is not None and is_set and sticky_ms is None:
                return current.event.event_id
            if event_type == "m.room.create":
                raise BadJson("A room begins with its m.room.create, and has no other")
            check = self.state_checks.get(event_type)
            if check is not None:
                await check(room_id, template, None if current is None else current.event.content)
        allowed = _all_of(may, *await self._rules_for(room, template))
        if event_type == MEMBER and self.memberships.is_invitation_afar(state_key, content):
            return await self.memberships.elsewhere.invite(room_id, template, allowed)
        stored = await self.door.send(room_id, [template], check=allowed)
        return stored[-1].event.event_id

    async def redact(
        self,
        who: Requester,
        room_id: str,
        event_id: str,
        content: dict[str, Any],
        txn_id: str,
        path: str | None = None,
    ) -> str:
        """Redact an event: one's own, or anybody's with the power to.

        An event that this server does not have is redacted when it comes, if whoever says so may redact anybody's.
        Raises NotFound for others, and for what is known to be no event of this room.
        """
        transaction = Transaction(who.user_id, who.device_id, path or f"redact/{room_id}/{event_id}", txn_id)
        return await self.transactions.once(
            transaction, partial(self._redact_once, who.user_id, room_id, event_id, content, transaction)
        )

    async def redact_own(self, sender: str, room_id: str, targets: Sequence[StoredEvent]) -> None:
        """Redact several of the sender's own events in a room that it is in, as one unit: all but its server ACLs."""
        able = [target for target in targets if target.event.type != SERVER_ACL]
        if able:
            await self._redact(sender, room_id, able, {}, None)

    async def redact_related(
        self, sender: str, room_id: str, event_id: str, content: dict[str, Any], rel_types: Collection[str]
    ) -> None:
        """Redact what hangs on an event by relations of some types ("*": of any), the newest first: all of it that the
        sender may redact, up to `MOST_RELATED`. Doing it again goes on where the last time ended.

        MSC3912: https://github.com/matrix-org/matrix-spec-proposals/pull/3912
        """
        room = await self.rooms.require(room_id)
        if not rel_types or room.membership_of(sender) != "join":
            return
        wanted = None if ANY_TYPE in rel_types else sorted(set(rel_types))
        nids = await self.database.run(_related, room.nid, event_id, wanted)
        found = await self.door.events.get_many(nids)
        levels = await self.door.power_levels(room)
        is_able = levels.user(sender) >= levels.redact
        targets = [
            stored
            for nid in nids
            if (stored := found.get(nid)) is not None
            and (is_able or stored.event.sender == sender)
            and stored.event.type != SERVER_ACL
        ]
        for start in range(0, len(targets), RELATED_AT_ONCE):
            await self._redact(sender, room_id, targets[start : start + RELATED_AT_ONCE], content, None)

    async def _redact_once(
        self, sender: str, room_id: str, event_id: str, content: dict[str, Any], transaction: Transaction
    ) -> str:
        room = await self.rooms.require(room_id)
        if room.membership_of(sender) != "join":
            raise Forbidden(NOT_IN_ROOM)
        try:
            known = await self.database.run(event_rows.load_by_ids, [parse_event_id(event_id)])
        except InvalidIdentifier:
            raise NotFound(NO_SUCH_EVENT) from None
        target = known.get(event_id)
        if target is None:
            return await self._redact_unseen(sender, room_id, event_id, content, transaction)
        if target.room_nid != room.nid or target.rejected:
            raise NotFound(NO_SUCH_EVENT)
        if target.event.type == SERVER_ACL:
            raise Forbidden("Without its content it would keep every server out of the room: send another one instead")
        echoes: list[StoredEvent] = []
        if target.event.redacts is not None:
            # What a redaction redacted is shown with a copy of it, which must not keep what this one takes away.
            redacted = await self.database.run(event_rows.load_by_ids, [target.event.redacts])
            echoes = [stored for stored in redacted.values() if stored.redacted_by == target.nid]
        return await self._redact(sender, room_id, [target], content, transaction, echoes)

    async def _redact_unseen(
        self, sender: str, room_id: str, event_id: str, content: dict[str, Any], transaction: Transaction
    ) -> str:
        """Redact what is not here, but may be in the room: it is older than what this server has, or was lost."""
        device = (transaction.device_id, transaction.txn_id)

        def work(draft: Draft) -> tuple[str, Along]:
            in_room(sender)(draft)
            levels = draft.power_levels()
            if levels.user(sender) < levels.redact:
                raise NotFound(NO_SUCH_EVENT)  # it can't be told whether it is the sender's own
            redaction = draft.add(_redaction(sender, event_id, content))
            wait = partial(
                redaction_rows.add_pending, room_nid=draft.room.nid, event_id=event_id, redaction_nid=redaction.nid
            )
            self.door.awaited.add(draft.room.nid)
            return redaction.event.event_id, Along(device, transaction, effects=[wait])

        return await self.door.settle(room_id, work, device)

    async def _redact(
        self,
        sender: str,
        room_id: str,
        targets: Sequence[StoredEvent],
        content: dict[str, Any],
        transaction: Transaction | None,
        echoes: Sequence[StoredEvent] = (),
    ) -> str:
        rules = await self._rules_for(await self.rooms.require(room_id), Template(REDACTION, sender, {}))
        device = None if transaction is None else (transaction.device_id, transaction.txn_id)

        def work(draft: Draft) -> tuple[str, Along]:
            _all_of(in_room(sender), *rules)(draft)
            pruned: list[StoredEvent] = []
            redaction_id = ""
            for target in targets:
                # Room versions from 3 on accept anybody's redaction and then don't apply it: better to say so at once.
                levels = draft.power_levels()
                if target.event.sender != sender and levels.user(sender) < levels.redact:
                    raise Forbidden("You may redact only your own messages here")
                redaction = draft.add(_redaction(sender, target.event.event_id, content))
                redaction_id = redaction.event.event_id
                if not target.redacted_by and target.event.type != "m.room.create":
                    pruned.append(_pruned(draft, target, redaction))
            effects = [_rewrite(stored) for stored in pruned]
            shown = [*pruned, *(_echo(stored, one) for stored in echoes for one in pruned)]
            return redaction_id, Along(device, transaction, effects=effects, redacted=shown)

        return await self.door.settle(room_id, work, device)

    async def _send_one(self, room_id: str, template: Template, transaction: Transaction) -> str:
        room = await self.rooms.require(room_id)
        rules = await self._rules_for(room, template) if self.rules else ()
        check = _all_of(in_room(template.sender), *rules)
        send = partial(self.door.send, room_id, [template], transaction, check=check)
        if "m.relates_to" not in template.content:
            stored = await send()
        else:
            if room.membership_of(template.sender) != "join":
                raise Forbidden(NOT_IN_ROOM)
            stored = await self.message_rules.send(room, template, send)
        return stored[-1].event.event_id

    async def _rules_for(self, room: LiveRoom, template: Template) -> Sequence[Check]:
        found = []
        for rule in self.rules:
            check = await rule.check_for(room, template)
            if check is not None:
                found.append(check)
        return found


def _related(cursor: Cursor, room_nid: int, event_id: str, rel_types: Sequence[str] | None) -> list[int]:
    """The nids of what hangs on an event, and is not redacted yet; None: by relations of any type."""
    kinds: Sequence[str | None] = (None,) if rel_types is None else rel_types
    found: list[int] = []
    for kind in kinds:
        wanted = Wanted(room_nid, event_id, -(2**62), 2**62, kind)
        found += [child.nid for child in list_children(cursor, wanted, MOST_RELATED - len(found))]
    return found


def _all_of(*checks: Check | None) -> Check:
    """The first of the checks that refuses says why."""
    wanted = [check for check in checks if check is not None]
    if len(wanted) == 1:
        return wanted[0]

    def check_all(draft: Draft) -> None:
        for check in wanted:
            check(draft)

    return check_all


def _redacts(content: Mapping[str, Any]) -> str:
    """The event that a redaction sent as a message names. Raises MissingParam, BadJson."""
    event_id = content.get("redacts")
    if event_id is None:
        raise MissingParam("`redacts` is missing: the event to redact")
    if not isinstance(event_id, str):
        raise BadJson("`redacts` must be an event id")
    return event_id


def _sticky(duration_ms: int | None) -> Mapping[str, Any] | None:
    return None if duration_ms is None else {STICKY: {"duration_ms": duration_ms}}


def _is_same(content: dict[str, Any], current: StoredEvent) -> bool:
    try:
        return canonical_json(content) == current.event.content_json
    except NotCanonical:
        return False  # composing it will say what is wrong


def _redaction(sender: str, event_id: str, content: Mapping[str, Any]) -> Template:
    # Where the target's id belongs depends on the room's version, which is not the client's business.
    return Template(
        REDACTION, sender, {key: value for key, value in content.items() if key != "redacts"}, redacts=event_id
    )


def _pruned(draft: Draft, target: StoredEvent, redaction: StoredEvent) -> StoredEvent:
    return msgspec.structs.replace(
        target,
        event=redact_event(draft.room.version, target.event),
        redacted_by=redaction.nid,
        redacted_because=redaction,
    )


def _echo(shown: StoredEvent, pruned: StoredEvent) -> StoredEvent:
    return msgspec.structs.replace(shown, redacted_because=pruned)


def _rewrite(pruned: StoredEvent) -> Callable[[Cursor], None]:
    return partial(
        event_rows.apply_redaction,
        target_nid=pruned.nid,
        raw=pruned.event.raw,
        redacted_by=pruned.redacted_by,
    )
