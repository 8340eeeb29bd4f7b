"""From a space down its tree, depth first and page by page.

A page ends after so many rooms, or after so much work that found none worth showing. What is left to do is kept here
under a token; the same token gives the same page again, as far as the rooms are still what they were.

Spec: https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from attrs import field

from federation.bounded import Bounded
from federation.room.identifiers import InvalidIdentifier, server_of
from federation.service import service
from federation.wire.spaces import SummarisedRoom
from homeserver.errors import Forbidden, InvalidParam
from homeserver.rooms.registry import NOT_IN_ROOM
from homeserver.spaces.children import Child
from homeserver.spaces.elsewhere import RemoteSpaces, ToldSpace, may_be_shown, summary_of
from homeserver.spaces.local import UNKNOWN, Found, LocalRooms
from storage.previews import SPACE

DEFAULT_LIMIT = 50
MOST_ROOMS = 100
"""In one page."""
MOST_LOOKS = 1_000
"""Rooms that are looked at for one page, shown or not."""
MOST_QUESTIONS = 25
"""To other servers, for one page."""
DEEPEST = 32
READ_AHEAD = 50
"""Rooms that are read in one go: those that come next."""
MOST_KEPT = 500
"""Walks that can be gone on with; older ones have to begin again."""


class HierarchyAsk(msgspec.Struct, frozen=True, gc=False):
    """Which part of which tree."""

    limit: int | None = None
    max_depth: int | None = None
    suggested_only: bool | None = None
    from_: str | None = None


class _Step(msgspec.Struct, frozen=True):
    """A room that is still to be looked at."""

    room_id: str
    depth: int
    via: tuple[str, ...]


class _Walk(msgspec.Struct):
    """How far somebody has come in a tree."""

    user_id: str
    root_id: str
    suggested_only: bool
    max_depth: int
    steps: list[_Step]
    """The next one last."""
    seen: set[str] = msgspec.field(default_factory=set)
    told: dict[str, SummarisedRoom] = msgspec.field(default_factory=dict)
    """Rooms that this server is not in, as others told of them."""
    inaccessible: set[str] = msgspec.field(default_factory=set)

    def copy(self) -> _Walk:
        return msgspec.structs.replace(
            self,
            steps=list(self.steps),
            seen=set(self.seen),
            told=dict(self.told),
            inaccessible=set(self.inaccessible),
        )


class _Page(msgspec.Struct):
    """A page in the making."""

    rooms: list[dict[str, Any]] = msgspec.field(default_factory=list)
    ahead: dict[str, Found] = msgspec.field(default_factory=dict)
    looks: int = 0
    questions: int = 0


@service
class Hierarchy:
    """Walks down the trees of spaces for local users."""

    local: LocalRooms
    remote: RemoteSpaces
    _kept: Bounded[str, _Walk] = field(factory=lambda: Bounded(MOST_KEPT))

    async def page(self, user_id: str, room_id: str, ask: HierarchyAsk) -> dict[str, Any]:
        """The next rooms. Raises InvalidParam, and Forbidden where the space itself must not be shown."""
        walk = self._walk(user_id, room_id, ask)
        limit = DEFAULT_LIMIT if ask.limit is None else min(ask.limit, MOST_ROOMS)
        page = _Page()
        while walk.steps and len(page.rooms) < limit and page.looks < MOST_LOOKS and page.questions < MOST_QUESTIONS:
            step = walk.steps.pop()
            if step.room_id in walk.seen:
                continue
            walk.seen.add(step.room_id)
            page.looks += 1
            shown = await self._look(walk, page, step)
            if shown is None:
                if step.depth == 0:
                    raise Forbidden(NOT_IN_ROOM)
                continue
            summary, children = shown
            page.rooms.append({**summary, "children_state": [child.event for child in children]})
            if step.depth < walk.max_depth:
                walk.steps += [_Step(child.room_id, step.depth + 1, tuple(child.via)) for child in reversed(children)]
        answer: dict[str, Any] = {"rooms": page.rooms}
        if any(step.room_id not in walk.seen for step in walk.steps):
            answer["next_batch"] = token = secrets.token_urlsafe(12)
            self._kept.put(token, walk)
        return answer

    def _walk(self, user_id: str, room_id: str, ask: HierarchyAsk) -> _Walk:
        if ask.limit is not None and ask.limit < 1:
            raise InvalidParam("`limit` must be greater than zero")
        if ask.max_depth is not None and ask.max_depth < 0:
            raise InvalidParam("`max_depth` must not be negative")
        if ask.from_ is None:
            depth = DEEPEST if ask.max_depth is None else min(ask.max_depth, DEEPEST)
            return _Walk(user_id, room_id, bool(ask.suggested_only), depth, [_Step(room_id, 0, _guess(room_id))])
        kept = self._kept.get(ask.from_)
        if kept is None or kept.user_id != user_id or kept.root_id != room_id:
            raise InvalidParam("`from` is not known here: begin again without it")
        if ask.max_depth is not None and min(ask.max_depth, DEEPEST) != kept.max_depth:
            raise InvalidParam("`max_depth` must be what it was for the first page")
        if ask.suggested_only is not None and ask.suggested_only != kept.suggested_only:
            raise InvalidParam("`suggested_only` must be what it was for the first page")
        return kept.copy()

    async def _look(self, walk: _Walk, page: _Page, step: _Step) -> tuple[Mapping[str, Any], Sequence[Child]] | None:
        """A room's summary and what it names; None where it must not be shown, or nothing can be learnt of it."""
        found = await self._read(walk, page, step)
        if found.is_here:
            if found.shown is None:
                return None
            return found.shown.summary.to_json(whole=True), _wanted(walk, found.shown.children)
        room, children = await self._told(walk, page, step)
        if room is None or not await may_be_shown(self.local, room, walk.user_id, found.membership):
            return None
        return summary_of(room), _wanted(walk, children)

    async def _read(self, walk: _Walk, page: _Page, step: _Step) -> Found:
        if step.room_id not in page.ahead:
            next_ids = dict.fromkeys([step.room_id, *(one.room_id for one in reversed(walk.steps))])
            wanted = [one for one in next_ids if one == step.room_id or one not in walk.seen][:READ_AHEAD]
            found = await self.local.for_user(wanted, walk.user_id)
            page.ahead.update((room_id, found.get(room_id, UNKNOWN)) for room_id in wanted)
        return page.ahead[step.room_id]

    async def _told(self, walk: _Walk, page: _Page, step: _Step) -> tuple[SummarisedRoom | None, Sequence[Child]]:
        """What others tell of a room, and of what it names: who told of the room above told that of this one, too, but
        not what it names.
        """
        if step.room_id in walk.inaccessible:
            return None, ()
        room = walk.told.get(step.room_id)
        if room is not None and room.room_type != SPACE:
            return room, ()
        page.questions += 1
        told = await self.remote.ask(step.room_id, step.via, walk.suggested_only)
        if told is None:
            return room, ()
        self._remember(walk, told)
        return told.room, told.children

    def _remember(self, walk: _Walk, told: ToldSpace) -> None:
        for room_id, summary in told.summaries.items():
            walk.told.setdefault(room_id, summary)
        walk.inaccessible |= told.inaccessible


def _wanted(walk: _Walk, children: Iterable[Child]) -> list[Child]:
    return [child for child in children if child.suggested or not walk.suggested_only]


def _guess(room_id: str) -> tuple[str, ...]:
    """Who may know a room of which nothing is said: the server that it was made on, where its id says that."""
    try:
        return (server_of(room_id),)
    except InvalidIdentifier:
        return ()
