"""A room as it is handed to a server that joins through this one: its state before the join, and what that rests on.

With `omit_members` the member events are left out, but for those by whom a room without a name is known. Who joins then
has a room that it can use at once, and asks for the members afterwards.

Spec: https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import msgspec

from federation.room.event import StateKey
from federation.room.identifiers import server_of
from homeserver.rooms.live import CANONICAL_ALIAS, NAME
from storage import auth_chains
from storage import events as event_rows
from storage.ports import Cursor, StateRef, StoredEvent
from storage.state import read_state_refs

MOST_HEROES = 5
PRESENT = ("join", "invite")

Member = tuple[str, StateRef]


class HandedOver(msgspec.Struct, frozen=True):
    """What goes into the answer to `send_join`. Every list is in an explicit order."""

    state: Sequence[StoredEvent]
    """Before the join."""
    auth_chain: Sequence[StoredEvent]
    """Of the join and of the state; with `omit_members` without what stands in `state`."""
    servers: Sequence[str]
    """With joined members before the join."""
    members_omitted: bool
    """Whether `state` may lack members. Said of small rooms too, where all are those by whom the room is known: others
    read it as whether this server can leave anybody out."""


def read_handover(cursor: Cursor, event_id: str, omit_members: bool) -> HandedOver:
    """Runs in a database thread; the join is placed already."""
    join = event_rows.load_by_ids(cursor, [event_id])[event_id]
    before = read_state_refs(cursor, join.before)
    joined = [user_id for user_id, ref in _members(before) if ref.membership == "join"]
    left_out: set[StateKey] = set()
    if omit_members:
        shown = _heroes(before, join.event.sender)
        left_out = {key for key in before if key[0] == "m.room.member" and key[1] not in shown}
    nids = sorted(ref.nid for key, ref in before.items() if key not in left_out)
    cited = list(event_rows.find_nids(cursor, join.event.auth_events).values())
    chain = auth_chains.auth_chain(cursor, sorted({*nids, *cited})) | set(cited)
    if omit_members:
        chain.difference_update(nids)
    found = event_rows.load_events(cursor, [*nids, *chain.difference(nids)])
    return HandedOver(
        [found[nid] for nid in nids],
        [found[nid] for nid in sorted(chain)],
        sorted({str(server_of(user_id)) for user_id in joined}),
        omit_members,
    )


def _heroes(state: Mapping[StateKey, StateRef], joining: str) -> set[str]:
    """By whom the room is known where it has no name: those who came first, and those who left if nobody is there.

    Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync (`m.heroes`)
    """
    if NAME in state or CANONICAL_ALIAS in state:
        return set()
    others = [member for member in _members(state) if member[0] != joining]
    present = [member for member in others if member[1].membership in PRESENT]
    former = [member for member in others if member[1].membership in ("leave", "ban")]
    return {user_id for user_id, _ in heapq.nsmallest(MOST_HEROES, present or former, key=_age)}


def _members(state: Mapping[StateKey, StateRef]) -> list[Member]:
    return [(key[1], ref) for key, ref in state.items() if key[0] == "m.room.member"]


def _age(member: Member) -> int:
    return member[1].nid
