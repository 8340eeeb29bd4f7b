"""`POST /_matrix/client/v3/search`: search what was said in one's rooms.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3search
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import orjson

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, MatrixError
from homeserver.http.route import USER, Requester, route
from homeserver.relations.bundles import Bundles
from homeserver.rooms.render import Reader, client_event
from homeserver.rooms.state_view import StateView
from homeserver.rooms.tracing import Seen
from homeserver.search.context import Around, ContextAsk, Contexts
from homeserver.search.engine import Found, Results, Search, SearchAsk, parse_place
from homeserver.search.texts import KEYS
from homeserver.streams.tokens import RoomToken
from homeserver.sync.filters import NO_EVENT_FILTER, parse_event_filter
from storage.search import Order

LONGEST_TERM = 1_000
"""Characters of a search term."""


class EventContext(msgspec.Struct, frozen=True):
    before_limit: int = 5
    after_limit: int = 5
    include_profile: bool = False


class Group(msgspec.Struct, frozen=True):
    key: Literal["room_id", "sender"] | None = None


class Groupings(msgspec.Struct, frozen=True):
    group_by: Sequence[Group] = ()


class RoomEvents(msgspec.Struct, frozen=True):
    search_term: str
    keys: Sequence[Literal["content.body", "content.name", "content.topic"]] | None = None
    filter: dict[str, Any] | None = None
    order_by: Literal["recent", "rank"] = "rank"
    event_context: EventContext | None = None
    include_state: bool = False
    groupings: Groupings = Groupings()


class Categories(msgspec.Struct, frozen=True):
    room_events: RoomEvents | None = None


class Searching(msgspec.Struct, frozen=True):
    search_categories: Categories
    next_batch: str | None = None


@route("POST", "/_matrix/client/v3/search", auth=USER, rate="directory", query=("next_batch",), interruptible=True)
async def search(
    search: Search,
    contexts: Contexts,
    bundles: Bundles,
    state: StateView,
    clock: Clock,
    who: Requester,
    ask: Searching,
) -> dict[str, Any]:
    given = ask.search_categories.room_events
    if given is None:
        return {"search_categories": {}}
    results = await search.search(_understood(who, given, ask.next_batch))
    around = await _contexts(contexts, who, results, given.event_context)
    shown = _pages(results, around)
    reader = Reader(who.user_id, who.device_id, clock.now_ms())
    bundled = await bundles.of(reader, shown)
    reader = Reader(who.user_id, who.device_id, reader.now_ms, bundled=bundled.parts)
    answer: dict[str, Any] = {
        "count": results.count,
        "highlights": results.highlights,
        "results": [
            _result(one, reader, None if around is None else around[index], given.event_context)
            for index, one in enumerate(results.found)
        ],
        "groups": _groups(results, given.order_by, given.groupings),
    }
    if results.next is not None:
        answer["next_batch"] = str(results.next)
    if given.include_state:
        answer["state"] = await _states(state, who, results, reader)
    return {"search_categories": {"room_events": answer}}


def _understood(who: Requester, given: RoomEvents, next_batch: str | None) -> SearchAsk:
    if len(given.search_term) > LONGEST_TERM:
        raise InvalidParam(f"`search_term` has at most {LONGEST_TERM} characters")
    context = given.event_context
    if context is not None and min(context.before_limit, context.after_limit) < 0:
        raise InvalidParam("`event_context`: limits must not be negative")
    filter = NO_EVENT_FILTER if given.filter is None else parse_event_filter(given.filter)
    return SearchAsk(
        user_id=who.user_id,
        term=given.search_term,
        kinds=[KEYS[key] for key in (KEYS if given.keys is None else given.keys)],
        filter=filter,
        order=given.order_by,
        limit=filter.limit,
        place=None if next_batch is None else parse_place(next_batch),
        is_grouped=bool(given.groupings.group_by),
    )


async def _contexts(
    contexts: Contexts, who: Requester, results: Results, wanted: EventContext | None
) -> list[Around] | None:
    if wanted is None:
        return None
    ask = ContextAsk(wanted.before_limit, wanted.after_limit, wanted.include_profile)
    return await contexts.of(who.user_id, results.found, ask)


def _pages(results: Results, around: Sequence[Around] | None) -> list[Any]:
    """Everything that is shown, by room."""
    pages = [(one.room, [one.event]) for one in results.found]
    for one, neighbours in zip(results.found, around or (), strict=False):
        pages.append((one.room, [stored for stored, _ in (*neighbours.before, *neighbours.after)]))
    return pages


def _result(one: Found, reader: Reader, around: Around | None, wanted: EventContext | None) -> dict[str, Any]:
    result: dict[str, Any] = {"rank": one.hit.rank, "result": _copy(one.seen, reader)}
    if around is not None and wanted is not None:
        result["context"] = {
            "start": str(RoomToken(around.start)),
            "end": str(RoomToken(around.end)),
            "events_before": [_copy(seen, reader) for seen in around.before],
            "events_after": [_copy(seen, reader) for seen in around.after],
        }
        if wanted.include_profile:
            result["context"]["profile_info"] = around.profiles
    return result


def _copy(seen: Seen, reader: Reader) -> orjson.Fragment:
    stored, membership = seen
    return orjson.Fragment(client_event(stored, reader, membership=membership))


def _groups(results: Results, order: Order, wanted: Groupings) -> dict[str, Any]:
    """The results of this page by room or sender, as they come; each group goes on behind its last one."""
    made: dict[str, Any] = {}
    for key in dict.fromkeys(group.key for group in wanted.group_by if group.key is not None):
        members: dict[str, list[Found]] = defaultdict(list)
        for one in results.found:
            members[one.event.event.room_id if key == "room_id" else one.event.event.sender].append(one)
        made[key] = {}
        for number, (value, found) in enumerate(members.items(), 1):
            made[key][value] = {"order": number, "results": [one.event.event.event_id for one in found]}
            if results.next is not None:
                made[key][value]["next_batch"] = str(found[-1].behind(results.place, order, key))
    return made


async def _states(state: StateView, who: Requester, results: Results, reader: Reader) -> dict[str, Any]:
    """The state of each room among the results, as the searcher may see it."""
    made: dict[str, Any] = {}
    for room_id in dict.fromkeys(one.room.room_id for one in results.found):
        try:
            events = await state.whole(room_id, who.user_id)
        except MatrixError:
            continue  # it was forgotten a moment ago
        made[room_id] = [orjson.Fragment(client_event(stored, reader)) for stored in events]
    return made
