"""Where channels and categories stand: new places among siblings, with as few events rewritten as can be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from homeserver.guilds.editor import Edit
from homeserver.guilds.model import CATEGORY_TYPE, CHILD_TYPE, IN_CATEGORY, Channel, Guild
from homeserver.guilds.orders import between, spread


def channels_in(guild: Guild, category_id: str | None) -> list[Channel]:
    """The channels of a category, in order; None: those of none."""
    found = []
    for channel in guild.channels_in_order():
        category = guild.category_of(channel)
        if (None if category is None else category.category_id) == category_id:
            found.append(channel)
    return found


def place_last(edit: Edit, room_id: str, category_id: str | None, server_name: str) -> None:
    """Put a channel behind all others of a category."""
    siblings = [one.room_id for one in channels_in(edit.guild, category_id) if one.room_id != room_id]
    arrange_channels(edit, [*siblings, room_id], category_id, server_name)


def arrange_channels(edit: Edit, room_ids: Sequence[str], category_id: str | None, server_name: str) -> None:
    """Let a category have these channels, in this order."""
    guild = edit.guild
    orders = []
    for room_id in room_ids:
        place, channel = guild.places.get(room_id), guild.channels.get(room_id)
        category = None if channel is None else guild.category_of(channel)
        is_here = place is not None and (None if category is None else category.category_id) == category_id
        orders.append(place.order if is_here and place is not None else "")

    def write(row: int, order: str) -> None:
        room_id = room_ids[row]
        content: dict[str, Any] = {"via": [server_name], "suggested": False, **edit.content(CHILD_TYPE, room_id)}
        content["order"] = order
        content.pop(IN_CATEGORY, None)
        if category_id is not None:
            content[IN_CATEGORY] = category_id
        edit.set(CHILD_TYPE, room_id, content)

    _arrange(orders, write)


def arrange_categories(edit: Edit, category_ids: Sequence[str]) -> None:
    """Let the guild's categories stand in this order."""

    def write(row: int, order: str) -> None:
        category_id = category_ids[row]
        edit.set(CATEGORY_TYPE, category_id, {**edit.content(CATEGORY_TYPE, category_id), "order": order})

    _arrange([edit.guild.categories[category_id].order for category_id in category_ids], write)


def _arrange(orders: Sequence[str], write: Callable[[int, str], None]) -> None:
    """Give new orders to as few as possible, so that all rise; an empty one is none and gets one.

    Where there is no room left between two, all are spread anew.
    """
    found = list(orders)
    kept = _longest_rise(orders)
    for row in range(len(found)):
        if row in kept:
            continue
        before = found[row - 1] if row else ""
        after = next((found[later] for later in range(row + 1, len(found)) if later in kept), "")
        order = between(before, after)
        if order is None:
            found = list(spread(len(found)))
            break
        found[row] = order
    for row, order in enumerate(found):
        if order != orders[row]:
            write(row, order)


def _longest_rise(orders: Sequence[str]) -> set[int]:
    """The rows of a longest strictly rising part."""
    tails: list[str] = []
    rows: list[int] = []
    before: dict[int, int | None] = {}
    for row, order in enumerate(orders):
        if not order:
            continue
        at = bisect_left(tails, order)
        before[row] = rows[at - 1] if at else None
        tails[at : at + 1] = [order]
        rows[at : at + 1] = [row]
    found: set[int] = set()
    row_or_none = rows[-1] if rows else None
    while row_or_none is not None:
        found.add(row_or_none)
        row_or_none = before[row_or_none]
    return found
