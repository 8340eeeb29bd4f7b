"""Puts sliding sync together."""

from __future__ import annotations

from homeserver.encryption.build import Encryption
from homeserver.relations.subscriptions import Subscriptions
from homeserver.rooms.registry import Rooms
from homeserver.sync.engine import Sync
from homeserver.sync.sliding.connections import Connections
from homeserver.sync.sliding.engine import SlidingSync
from homeserver.sync.sliding.extensions import ExtensionSections
from homeserver.sync.sliding.lists import RoomLists
from homeserver.sync.sliding.rooms import RoomResults
from homeserver.userdata.account_data import AccountData
from homeserver.userdata.invite_filter import InviteFilter


def build_sliding(
    sync: Sync,
    *,
    rooms: Rooms,
    account_data: AccountData,
    invite_filter: InviteFilter,
    encryption: Encryption,
    subscriptions: Subscriptions,
) -> SlidingSync:
    """Out of what `/sync` is made of. Listens to `account_data`."""
    lists = RoomLists(sync.database, rooms, sync.events, account_data, invite_filter, sync.hub)
    account_data.listeners.append(lists.data_changed)
    sections = encryption.sections
    return SlidingSync(
        clock=sync.clock,
        hub=sync.hub,
        feeds=sync.feeds,
        events=sync.events,
        connections=Connections(sync.hub),
        lists=lists,
        results=RoomResults(
            sync.database,
            rooms,
            sync.events,
            sync.sections.timelines,
            sync.sections.bundles,
            sync.outside,
            sync.sections.ledger,
        ),
        extensions=ExtensionSections(
            sync.database,
            sections.states,
            sections.letterbox,
            sections.news,
            sync.receipts,
            sync.typing,
            subscriptions,
            sync.sections.sticky,
            sync.profiles,
        ),
        account_data=account_data,
        ignoring=sync.ignoring,
        polls=sync.polls,
        deliveries=sync.deliveries,
        max_timeout_ms=sync.max_timeout_ms,
    )
