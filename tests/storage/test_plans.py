"""Every query finds its rows by an index: none reads a table from end to end, so none grows with the server.

Each statement that the functions of `storage` send is explained on the way. What may read a whole table is listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.search.words import Phrase
from storage import (
    account_data,
    accounts,
    activity,
    aliases,
    auth_chains,
    dehydrated_devices,
    delayed,
    deliveries,
    destinations,
    device_keys,
    device_lists,
    directory,
    events,
    expiry,
    filters,
    friend_news,
    friends,
    gaps,
    graph,
    guild_actions,
    guild_invites,
    guilds,
    heard,
    key_backups,
    loose_files,
    mail,
    media,
    media_refs,
    memberships,
    mutes,
    one_time_keys,
    openid,
    overruled,
    partial,
    people,
    presence,
    previews,
    profiles,
    purges,
    push,
    pushers,
    receipts,
    redactions,
    registration_tokens,
    relations,
    remote_devices,
    reports,
    retention,
    room_lists,
    rooms,
    search,
    sessions,
    spans,
    state,
    sticky,
    stripped,
    thread_subscriptions,
    thumbnails,
    to_device,
    transactions,
    transcripts,
    url_previews,
    visibility,
)
from storage.account_data import AccountDatum
from storage.accounts import Account
from storage.database import Database
from storage.dehydrated_devices import Dehydrated
from storage.destinations import Attempts
from storage.device_keys import CrossSigningKey, KeySignature
from storage.device_lists import DeviceUpdate
from storage.friend_news import FriendNews
from storage.friends import DirectRoom, Word
from storage.guild_invites import Invite
from storage.guilds import AuditEntry
from storage.key_backups import Backup, RoomKey
from storage.media import Medium, Quota
from storage.mutes import Mute
from storage.one_time_keys import PublicKey
from storage.ports import Cursor, NewRoom, StoredEvent, Transaction
from storage.postgresql import PostgresCursor
from storage.presence import SavedPresence
from storage.receipts import Receipt
from storage.remote_devices import RemoteDevice, RemoteList
from storage.sessions import DeviceUse, TokenPair
from storage.sqlite import SqliteCursor
from storage.thread_subscriptions import Subscription
from storage.thumbnails import Size, Thumbnail
from storage.to_device import Letter
from storage.url_previews import Preview
from tests.fixtures_db import Pump
from tests.storage.histories import ALICE, BOB, Room, append_all

#: Beginnings of statements that are rare and of which all rows are wanted.
WHOLE_TABLES = (
    "SELECT u.user_id FROM users u LEFT JOIN people",  # at start
    "SELECT COUNT(*) FROM users",  # a figure for metrics
    "SELECT user_id, state, status_msg, last_active_ts, mood FROM presence WHERE state <> 0",  # at start
    "SELECT room_nid FROM published_rooms",  # the public list
    "DELETE FROM transactions WHERE ts",  # once a day
    "SELECT DISTINCT room_nid FROM pending_redactions",  # once
    "DELETE FROM receipts WHERE user_id",  # an account is closed
    "SELECT server_name, failures, retry_at_ts FROM destinations",  # at start
    "SELECT DISTINCT destination FROM owed",  # at start, and from owed_devices
    "SELECT room_id FROM guilds_unsettled",  # at start
    "SELECT user_id, erase FROM departures",  # at start
    "SELECT origin, room_id, events FROM heard",  # at start
    "SELECT room_id FROM guilds_closing",  # at start
    "SELECT room_id FROM guilds_untended",  # at start
    "SELECT g.room_id, m.user_nid FROM rooms g",  # at start
    "SELECT nid, room_id FROM rooms WHERE newest",  # at start
    "SELECT r.room_id FROM partial_stays p",  # at start; few ever
    "SELECT DISTINCT destination FROM to_device_out",  # at start
    "SELECT user_id FROM remote_device_lists WHERE missed",  # at start
    "SELECT nid FROM rooms WHERE newest",  # at start
    "SELECT event_nid FROM search_todo",  # what is to be done, of which there is little
    "SELECT COUNT(*) FROM search_docs",  # by a verb of the command line
    "DELETE FROM search_docs",  # the same
    "DELETE FROM search_words",
    "SELECT room_nid FROM retention_rooms",  # once an hour
    "SELECT user_id, type, content, position FROM account_data WHERE type = CAST",  # at start: an index of them only
    "SELECT user_id, room_id, position FROM push_turns",  # at start
    "SELECT user_id, app_id, pushkey, device_id, told, enabled, set_ts, sent_upto, activated, token FROM",  # at start
    "SELECT d.user_id, d.other_id, d.room_id, d.relation FROM direct_rooms d JOIN rooms",  # at start
    "SELECT user_id, room_nid, root_id FROM thread_subscriptions WHERE kind",  # at start
    "SELECT r.room_id, p.event_nid FROM purges",  # at start
    "SELECT DISTINCT room_nid FROM read_timers",  # at start
    "SET LOCAL",  # no query
)
PLAINLY_SCANNED = re.compile(
    r"^SCAN (?!chain|tree|hits|found|search_words VIRTUAL|w\b|json_each|unnest|CONSTANT|\(|ranked)(\w+)"
)

Ask = Callable[[Cursor], object]

URI = b'"mxc://test.example/a"'
SIZE = Size(32, 32, "crop", False)
QUOTA = Quota(10**6, 100)


def medium(
    media_id: str, *, origin: str = "test.example", user_id: str | None = ALICE, expires_ts: int | None = None
) -> Medium:
    file = None if expires_ts is not None or user_id is None else f"local/{media_id}"
    return Medium(origin, media_id, user_id, 1, expires_ts, 1, 5, "image/png", "a", b"h" * 32, file, False)


def _time(cursor: Cursor, room_nid: int, event_nid: int) -> None:
    columns = ("event_nid", "room_nid", "sender", "thread", "position", "lasts_ms")
    cursor.insert_many("read_timers", columns, [(event_nid, room_nid, ALICE, "main", 3, 5)])


def calls(room: Room, snapshot: int, relating: Sequence[StoredEvent]) -> list[Ask]:
    """All functions that take a cursor, with arguments of the usual kind."""
    nids = [ref.nid for ref in room.state.values()]
    ids = [ref.event_id for ref in room.state.values()]
    member = ("m.room.member", BOB)
    pair = TokenPair(b"a" * 32, None, b"r" * 32, None)
    pusher = pushers.Pusher(ALICE, "app", "key", "PHONE", b"{}", True, 0, 0)
    pushed = push.Batch(
        [push.LogEntry(room.nid, 3, nids[0], "main", True, b"[]")],
        [push.OwnEntry(ALICE, room.nid, 3, nids[0], "main", 0, 1, True, b"[]")],
        {(ALICE, room.nid, "main"): 3},
        {(ALICE, room.room_id): 3},
        {room.nid: 1},
    )
    backup = Backup(1, "m.megolm", b"{}", 0, 0)
    room_key = RoomKey(room.room_id, "s", True, 0, 0, b"{}")
    waiting = delayed.Delayed("d", ALICE, "PHONE", "t", room.room_id, "m.x", None, b"{}", None, False, 5, 0, 5)
    sought = search.Wanted([Phrase(("a",), True)], [room.nid], [search.BODY], 99, [ALICE], [BOB])

    def one_of(cursor: Cursor) -> StoredEvent:
        return events.load_events(cursor, nids[:1])[nids[0]]

    return [
        lambda cursor: events.load_events(cursor, nids),
        lambda cursor: events.load_events(cursor, list(range(1, 1000))),
        lambda cursor: events.load_by_ids(cursor, ids),
        lambda cursor: events.find_nids(cursor, ids),
        lambda cursor: events.timeline(cursor, room.nid, limit=10),
        lambda cursor: events.timeline(cursor, room.nid, limit=10, after=3, upto=7, backwards=True),
        lambda cursor: events.recent_timelines(cursor, [room.nid], 10),
        lambda cursor: events.placed_at(cursor, room.nid, [3, 5]),
        lambda cursor: events.events_of_sender(cursor, ALICE),
        lambda cursor: events.apply_redaction(cursor, 999, b"{}", 4),
        lambda cursor: events.events_of_sender(cursor, ALICE, room_nid=room.nid, after_nid=2),
        lambda cursor: spans.newest_in_spans(cursor, [(room.nid, 0, 10, 10), (room.nid, 3, 10, 10)]),
        lambda cursor: spans.changed_since(cursor, [room.nid], 3),
        lambda cursor: spans.state_steps(cursor, room.nid, 0, 10),
        lambda cursor: state.read_state(cursor, snapshot),
        lambda cursor: state.read_state(cursor, snapshot, [member]),
        lambda cursor: state.read_state(cursor, snapshot, types=["m.room.member"]),
        lambda cursor: state.read_state_refs(cursor, snapshot),
        lambda cursor: visibility.state_at(cursor, snapshot, BOB),
        lambda cursor: visibility.next_turn(cursor, room.nid, BOB, 3, backwards=False),
        lambda cursor: visibility.next_turn(cursor, room.nid, BOB, 3, backwards=True),
        lambda cursor: auth_chains.auth_difference(cursor, [nids[:3], nids[2:]]),
        lambda cursor: auth_chains.conflicted_subgraph(cursor, nids),
        lambda cursor: auth_chains.auth_chain(cursor, nids[-2:]),
        lambda cursor: auth_chains.without_place(cursor, nids),
        lambda cursor: graph.walk_back(cursor, room.nid, room.head.extremities, limit=10),
        lambda cursor: visibility.memberships_of_server(cursor, snapshot, "test.example"),
        lambda cursor: visibility.setting_at(cursor, snapshot),
        lambda cursor: visibility.settings_ever(cursor, [room.nid, 77]),
        lambda cursor: relations.children_of(cursor, relating),
        lambda cursor: relations.at_positions(cursor, {ids[0]: (room.nid, 5)}),
        lambda cursor: relations.thread_without(cursor, room.nid, ids[0], [BOB]),
        lambda cursor: delayed.add(cursor, waiting, 10),
        lambda cursor: delayed.get(cursor, "d"),
        lambda cursor: delayed.of_user(cursor, ALICE),
        lambda cursor: delayed.waiting(cursor),
        lambda cursor: delayed.claim(cursor, "d", 9),
        lambda cursor: delayed.restart(cursor, "d", 5),
        lambda cursor: delayed.change(cursor, "d", 5, 9, "m.x", b"{}"),
        lambda cursor: delayed.end(cursor, "d", delayed.SENT, 9),
        lambda cursor: delayed.forget(cursor, 5),
        lambda cursor: retention.next_end(cursor),
        lambda cursor: retention.ended(cursor, 5, 10),
        lambda cursor: retention.rooms_that_say(cursor),
        lambda cursor: retention.rooms_with_timers(cursor),
        lambda cursor: _time(cursor, room.nid, relating[-1].nid),
        lambda cursor: retention.read_by_all(cursor, room.nid),
        lambda cursor: retention.start(cursor, room.nid, [retention.Timer(relating[-1].nid, 5)], 9),
        lambda cursor: expiry.all_rooms(cursor, 0, 10),
        lambda cursor: expiry.messages_before(cursor, room.nid, 99, expiry.BEGINNING, 10),
        lambda cursor: expiry.expire(cursor, room.nid, [relating[-1].nid]),
        lambda cursor: sticky.sticking(cursor, 5),
        lambda cursor: sticky.forget(cursor, 5),
        lambda cursor: sticky.release(cursor, nids),
        lambda cursor: relations.speakers(cursor, room.nid, ids[0]),
        lambda cursor: relations.list_children(cursor, relations.Wanted(room.nid, ids[0], 0, 99), 10),
        lambda cursor: relations.list_children(cursor, relations.Wanted(room.nid, ids[0], 0, 99, deepest=3), 10),
        lambda cursor: relations.list_children(
            cursor, relations.Wanted(room.nid, ids[0], 0, 99, "m.thread", "m.room.message", backwards=False), 10
        ),
        lambda cursor: relations.has_annotated(cursor, room.nid, ids[0], ALICE, "m.room.message", "+"),
        lambda cursor: relations.related_by(cursor, room.nid, ids, ["m.thread"], [ALICE]),
        lambda cursor: relations.list_threads(cursor, room.nid, 99, 10),
        lambda cursor: relations.list_threads(cursor, room.nid, 99, 10, ALICE),
        lambda cursor: relations.write_missing(cursor, relating),
        lambda cursor: reports.add(cursor, reports.NewReport(ALICE, "why", 0, room.room_id)),
        lambda cursor: reports.page(cursor, 99, 10),
        lambda cursor: reports.page(cursor, 99, 10, room_ids=[room.room_id], only_open=True),
        lambda cursor: reports.page(cursor, 99, 10, user_id=BOB),
        lambda cursor: reports.page(cursor, 99, 10, room_ids=[room.room_id], state=reports.OPEN),
        lambda cursor: reports.get(cursor, 1),
        lambda cursor: reports.decide(cursor, 1, ALICE, reports.DISMISSED, "no", 5),
        lambda cursor: activity.write(cursor, {(room.nid, 5): activity.Tally(1)}, [(5, room.nid, ALICE)], 5),
        lambda cursor: activity.upto(cursor),
        lambda cursor: transcripts.add(cursor, transcripts.Transcript("test.example", "a", ALICE, 0, 5), 9, 5),
        lambda cursor: transcripts.get(cursor, "test.example", "a"),
        lambda cursor: transcripts.claim(cursor, 9),
        lambda cursor: transcripts.next_due(cursor),
        lambda cursor: transcripts.resume(cursor),
        lambda cursor: transcripts.heard(cursor, ("test.example", "a"), "so", 5, 9),
        lambda cursor: transcripts.put_off(cursor, ("test.example", "a"), 9, 1),
        lambda cursor: transcripts.fail(cursor, ("test.example", "a"), "no", 9),
        lambda cursor: transcripts.finish(cursor, ("test.example", "a"), "so it is", 9, "en", 9),
        lambda cursor: transcripts.rooms_with(cursor, "a"),
        lambda cursor: transcripts.texts_of(cursor, [("test.example", "a")]),
        lambda cursor: activity.read(cursor, [room.nid], 0, 9),
        lambda cursor: activity.forget_people(cursor, 5),
        lambda cursor: deliveries.note(cursor, [(ALICE, 5, 5)]),
        lambda cursor: deliveries.forget(cursor, 5),
        lambda cursor: deliveries.forget_person(cursor, ALICE),
        lambda cursor: deliveries.reached(cursor, [ALICE, BOB], 5),
        lambda cursor: deliveries.present_since(cursor, room.nid, [ALICE, BOB], 5),
        lambda cursor: deliveries.readers(cursor, room.nid, 5, "main", 10),
        lambda cursor: events.span_of(cursor, room.nid, 0, 5),
        lambda cursor: reports.resolve(cursor, 1, ALICE, "nothing", 5),
        lambda cursor: search.write(cursor, [search.Doc(relating[0], relating[0].nid, search.BODY, ["a"])], [5], 9),
        lambda cursor: search.mark(cursor, search.UPTO),
        lambda cursor: search.todo(cursor, 10),
        lambda cursor: search.size(cursor),
        lambda cursor: search.rooms_with_news(cursor, 0),
        lambda cursor: search.begin(cursor, sought, search.Place("recent", 99), 10),
        lambda cursor: search.find(cursor, sought, search.Place("rank", 0, True), 10),
        lambda cursor: search.how_to_look(cursor, sought),
        lambda cursor: search.find_recent(cursor, sought, 99, 10),
        lambda cursor: search.find_best(cursor, sought, 0, 10, True),
        lambda cursor: search.find_best(cursor, msgspec.structs.replace(sought, by_room=False), 0, 10, False),
        lambda cursor: search.count(cursor, sought),
        lambda cursor: search.look_again(cursor, [5]),
        lambda cursor: search.note_past(cursor, []),
        lambda cursor: search.set_mark(cursor, search.WALKED, ""),
        lambda cursor: search.tidy(cursor, True),
        lambda cursor: search.forget(cursor, relating[0].nid),
        lambda cursor: search.clear(cursor),
        lambda cursor: relations.remove(cursor, relating[-1].nid),
        lambda cursor: stripped.put_stripped(cursor, nids[0], b"[]"),
        lambda cursor: stripped.get_stripped(cursor, nids),
        lambda cursor: redactions.add_pending(cursor, room.nid, ids[0], 5),
        lambda cursor: redactions.pending_for(cursor, room.nid, ids[0]),
        lambda cursor: redactions.drop_pending(cursor, room.nid, ids[0]),
        lambda cursor: redactions.rooms_with_pending(cursor),
        lambda cursor: rooms.load_room(cursor, room.nid),
        lambda cursor: rooms.find_room(cursor, room.room_id),
        lambda cursor: rooms.find_nid(cursor, room.room_id),
        lambda cursor: rooms.load_rows(cursor, [room.nid, 77]),
        lambda cursor: gaps.find_gap(cursor, room.nid, after=0, upto=5),
        lambda cursor: gaps.find_gap(cursor, room.nid, after=0, upto=5, last=False),
        lambda cursor: gaps.position_before(cursor, room.nid, 5),
        lambda cursor: gaps.missing_prev(cursor, room.nid),
        lambda cursor: heard.put(cursor, "a", room.room_id, [b"{}"]),
        lambda cursor: heard.put(cursor, "a", room.room_id, []),
        lambda cursor: heard.everything(cursor),
        lambda cursor: overruled.note(cursor, ["a"], one_of(cursor)),
        lambda cursor: overruled.last_event(cursor, room.nid, "a"),
        lambda cursor: events.nearest(cursor, room.nid, (5, 5), 3, backwards=False),
        lambda cursor: events.nearest(cursor, room.nid, (5, 5), 3, backwards=True),
        lambda cursor: partial.begin(cursor, one_of(cursor), "a", []),
        lambda cursor: partial.end(cursor, one_of(cursor)),
        lambda cursor: partial.stays_of(cursor, room.nid),
        lambda cursor: partial.note_failure(cursor, room.nid, 5, 1, 7),
        lambda cursor: partial.finish(cursor, room.nid, 5, 9),
        lambda cursor: partial.rooms_under_way(cursor),
        lambda cursor: partial.rewrite_verdicts(cursor, [one_of(cursor)]),
        lambda cursor: events.show_redaction(cursor, room.nid),
        lambda cursor: events.placed_after(cursor, room.nid, 3, 10),
        lambda cursor: events.state_entries(cursor, room.nid, ids),
        lambda cursor: rooms.correct_room(cursor, NewRoom(room.nid, room.room_id, "12", ALICE)),
        lambda cursor: memberships.rooms_of(cursor, BOB, ["join"]),
        lambda cursor: room_lists.listed_rooms(cursor, BOB),
        lambda cursor: room_lists.listed_rooms(cursor, BOB, [room.nid, 77]),
        lambda cursor: room_lists.ended_by_others(cursor, BOB, nids),
        lambda cursor: room_lists.with_state(cursor, "m.room.create", [room.nid, 77]),
        lambda cursor: room_lists.newest_of_types(cursor, ["m.room.create", "m.room.member"], [room.nid, 77]),
        lambda cursor: room_lists.data_of_type(cursor, ALICE, "m.tag"),
        lambda cursor: room_lists.data_of_rooms(cursor, ALICE, [0, room.nid]),
        lambda cursor: memberships.membership_of(cursor, room.nid, BOB),
        lambda cursor: memberships.members_of(cursor, room.nid, ["join", "invite"]),
        lambda cursor: memberships.membership_history(cursor, room.nid, BOB),
        lambda cursor: memberships.set_forgotten(cursor, room.nid, BOB),
        lambda cursor: transactions.used_by_device(cursor, ALICE, "PHONE"),
        lambda cursor: transactions.event_of(cursor, Transaction(ALICE, "PHONE", "send/x", "t1")),
        lambda cursor: transactions.record(cursor, Transaction(ALICE, "PHONE", "send", "t2"), 0),
        lambda cursor: transactions.is_recorded(cursor, Transaction(ALICE, "PHONE", "send", "t2")),
        lambda cursor: transactions.forget_transactions(cursor, 0),
        lambda cursor: accounts.add_account(cursor, Account(ALICE, "hash", 0)),
        lambda cursor: accounts.get_account(cursor, ALICE),
        lambda cursor: accounts.set_password_hash(cursor, ALICE, "new", only_if="hash"),
        lambda cursor: accounts.count_accounts(cursor),
        lambda cursor: accounts.existing(cursor, [ALICE, BOB]),
        lambda cursor: accounts.guests_among(cursor, [ALICE, BOB]),
        lambda cursor: accounts.promote_guest(cursor, ALICE, "hash"),
        lambda cursor: sessions.open_session(cursor, ALICE, "PHONE", "phone", pair, 0),
        lambda cursor: sessions.open_session(cursor, ALICE, "PHONE", "phone", pair, 0),
        lambda cursor: sessions.find_session(cursor, pair.access),
        lambda cursor: sessions.find_refresh(cursor, b"r" * 32),
        lambda cursor: sessions.refresh_session(cursor, b"r" * 32, TokenPair(b"b" * 32, None, b"s" * 32, None), 0),
        lambda cursor: sessions.settle(cursor, b"s" * 32),
        lambda cursor: sessions.rename_device(cursor, ALICE, "PHONE", "mine"),
        lambda cursor: sessions.record_uses(cursor, [DeviceUse(ALICE, "PHONE", 0, "::1", "curl")]),
        lambda cursor: sessions.list_devices(cursor, ALICE),
        lambda cursor: sessions.get_device(cursor, ALICE, "PHONE"),
        lambda cursor: sessions.delete_devices(cursor, ALICE, ["TABLET"]),
        lambda cursor: sessions.delete_all_devices(cursor, ALICE),
        lambda cursor: accounts.deactivate_account(cursor, ALICE, erase=True),
        lambda cursor: accounts.departures(cursor),
        lambda cursor: accounts.end_departure(cursor, ALICE),
        lambda cursor: openid.add(cursor, b"o" * 32, ALICE, 9, 0),
        lambda cursor: openid.owner(cursor, b"o" * 32, 5),
        lambda cursor: registration_tokens.add_token(cursor, "t", 1, None),
        lambda cursor: registration_tokens.is_valid(cursor, "t", 0),
        lambda cursor: registration_tokens.use_token(cursor, "t", 0),
        lambda cursor: account_data.put(cursor, ALICE, AccountDatum(0, "m.direct", b"{}", 5)),
        lambda cursor: account_data.get(cursor, ALICE, 0, "m.direct"),
        lambda cursor: account_data.count(cursor, ALICE, 0),
        lambda cursor: account_data.changed(cursor, ALICE, 0, 9),
        lambda cursor: account_data.delete_all(cursor, ALICE),
        lambda cursor: receipts.place_of(cursor, room.nid, ids[0]),
        lambda cursor: receipts.move(cursor, Receipt(room.nid, ALICE, "m.read", "", ids[0], 0, 6), 1),
        lambda cursor: receipts.newest(cursor, [room.nid], 0, 9, 10),
        lambda cursor: receipts.of_user(cursor, [room.nid], ALICE),
        lambda cursor: receipts.delete_private(cursor, ALICE),
        lambda cursor: pushers.put(cursor, pusher, False),
        lambda cursor: pushers.every(cursor),
        lambda cursor: pushers.sent(cursor, pusher.key, 4),
        lambda cursor: mail.claim(cursor, "a@example.org", 5),
        lambda cursor: mail.claim(cursor, "a@example.org", 5),
        lambda cursor: mail.accept(cursor, "a@example.org", 5),
        lambda cursor: mail.refuse(cursor, "a@example.org", 5),
        lambda cursor: mail.mailed(cursor, ALICE, [mail.Mailed(1, 2, 3, 4)]),
        lambda cursor: mail.rooms_mailed(cursor, ALICE),
        lambda cursor: mail.forget_person(cursor, ALICE),
        lambda cursor: pushers.activate(cursor, pusher.key),
        lambda cursor: pushers.kept_key(cursor, "key", "fresh"),
        lambda cursor: pushers.delete(cursor, *pusher.key),
        lambda cursor: pushers.delete_all(cursor, ALICE),
        lambda cursor: push.save(cursor, pushed, 5),
        lambda cursor: push.set_upto(cursor, 6),
        lambda cursor: push.judged_upto(cursor),
        lambda cursor: push.heeded(cursor),
        lambda cursor: push.turns(cursor),
        lambda cursor: push.log_of(cursor, room.nid, 10),
        lambda cursor: push.places_of(cursor, ALICE, [room.nid], 10),
        lambda cursor: push.told_to_all(cursor, [room.nid], 9, 10, True),
        lambda cursor: push.told_to(cursor, ALICE, 9, 10, False),
        lambda cursor: push.told_to(cursor, ALICE, 9, 10, True),
        lambda cursor: push.forget_person(cursor, ALICE),
        lambda cursor: thread_subscriptions.put(cursor, Subscription(ALICE, room.nid, ids[0], 1, 5)),
        lambda cursor: thread_subscriptions.get(cursor, ALICE, room.nid, ids[0]),
        lambda cursor: thread_subscriptions.has_any(cursor, ALICE),
        lambda cursor: thread_subscriptions.changed(cursor, ALICE, 4, 9, 10),
        lambda cursor: thread_subscriptions.followed(cursor),
        lambda cursor: thread_subscriptions.forget_person(cursor, ALICE),
        lambda cursor: profiles.put(cursor, ALICE, "displayname", b'"Alice"', 65536),
        lambda cursor: profiles.read(cursor, ALICE),
        lambda cursor: profiles.delete(cursor, ALICE, "displayname"),
        lambda cursor: profiles.mark(cursor, ALICE, "displayname", 5),
        lambda cursor: profiles.changed_for(cursor, ALICE, [room.nid], ["displayname", "m.tz"], 4, 9),
        lambda cursor: profiles.changed_for(cursor, ALICE, [room.nid], None, 4, 9),
        lambda cursor: profiles.fields_of(cursor, [ALICE, BOB], ["displayname"]),
        lambda cursor: profiles.fields_of(cursor, [ALICE, BOB], None),
        lambda cursor: profiles.fields_around(cursor, ALICE, [room.nid], ["displayname", "m.tz"], "a.org"),
        lambda cursor: profiles.delete_all(cursor, ALICE),
        lambda cursor: purges.under_way(cursor),
        lambda cursor: purges.done(cursor, 5),
        lambda cursor: presence.save(cursor, [SavedPresence(ALICE, "online", None, 0)]),
        lambda cursor: presence.read(cursor, [ALICE]),
        lambda cursor: presence.not_offline(cursor),
        lambda cursor: presence.delete(cursor, ALICE),
        lambda cursor: memberships.joined_rooms(cursor, [ALICE, BOB]),
        lambda cursor: memberships.share_a_room(cursor, ALICE, BOB),
        lambda cursor: filters.add(cursor, ALICE, b"{}"),
        lambda cursor: filters.get(cursor, ALICE, 0),
        lambda cursor: filters.delete_all(cursor, ALICE),
        lambda cursor: aliases.add(cursor, "#a:x", room.room_id, ALICE),
        lambda cursor: aliases.find(cursor, "#a:x"),
        lambda cursor: aliases.of_room(cursor, room.room_id),
        lambda cursor: aliases.move(cursor, room.room_id, "!other:x"),
        lambda cursor: aliases.remove(cursor, "#a:x"),
        lambda cursor: directory.publish(cursor, room.nid),
        lambda cursor: directory.is_published(cursor, room.nid),
        lambda cursor: directory.published(cursor),
        lambda cursor: directory.published(cursor, [room.nid]),
        lambda cursor: directory.listed(cursor, [room.nid]),
        lambda cursor: people.put(cursor, people.Somebody(ALICE, "Alice", None), {"alice", "test"}),
        lambda cursor: people.find(cursor, "ali", 10),
        lambda cursor: people.missing(cursor, 10),
        lambda cursor: people.sharing(cursor, ALICE, [BOB]),
        lambda cursor: people.rooms_joined(cursor, ALICE, 10),
        lambda cursor: people.shared_rooms(cursor, ALICE, BOB, 0, 10),
        lambda cursor: people.remove(cursor, BOB),
        lambda cursor: previews.read_previews(cursor, [room.room_id, "!none"], "test.example"),
        lambda cursor: previews._children(cursor, [room.nid]),
        lambda cursor: previews.memberships_among(cursor, [room.nid, 77], BOB),
        lambda cursor: previews.rooms_of_server(cursor, [room.nid], "elsewhere.example", ["join", "invite"]),
        lambda cursor: rooms.find_nids(cursor, [room.room_id, "!none"]),
        lambda cursor: directory.unpublish(cursor, room.nid),
        lambda cursor: guilds.set_unsettled(cursor, room.room_id, 7),
        lambda cursor: guilds.unsettled_at(cursor, room.room_id),
        lambda cursor: guilds.set_settled(cursor, room.room_id, 6),
        lambda cursor: guilds.unsettled(cursor),
        lambda cursor: guild_actions.note(cursor, "elsewhere.example", "1", 7, 5),
        lambda cursor: guild_invites.add(cursor, Invite("code", room.room_id, None, ALICE, 1, None, 5)),
        lambda cursor: guild_invites.get_valid(cursor, "code", 5),
        lambda cursor: guild_invites.valid_of_guild(cursor, room.room_id, 5),
        lambda cursor: guild_invites.take_use(cursor, "code", 5),
        lambda cursor: guild_invites.give_back(cursor, "code"),
        lambda cursor: guild_invites.remove_invalid(cursor, room.room_id, 5),
        lambda cursor: guild_invites.remove(cursor, room.room_id, "code"),
        lambda cursor: guild_invites.remove_all(cursor, "!other"),
        lambda cursor: guilds.set_untended(cursor, room.room_id),
        lambda cursor: guilds.untended(cursor),
        lambda cursor: guilds.set_tended(cursor, "!other"),
        lambda cursor: guilds.left_behind(cursor, ALICE),
        lambda cursor: guilds.spoilt(cursor, ALICE),
        lambda cursor: friend_news.add(cursor, FriendNews(ALICE, 5, "dm.created", BOB, room.room_id)),
        lambda cursor: friend_news.since(cursor, ALICE, 4, 5),
        lambda cursor: guilds.set_closing(cursor, room.room_id),
        lambda cursor: guilds.closing(cursor),
        lambda cursor: guilds.set_closed(cursor, "!other"),
        lambda cursor: guilds.add_audit(cursor, room.nid, AuditEntry(3, 0, 5, ALICE, "role.update", "red", b"{}")),
        lambda cursor: guilds.add_audit_aside(
            cursor, room.nid, 5, ts=5, user_id=ALICE, action="a", target="t", before=b"{}", after=b"{}"
        ),
        lambda cursor: guilds.read_audit(cursor, room.nid, None, 10),
        lambda cursor: guilds.read_audit(cursor, room.nid, (4, 1), 10),
        lambda cursor: friends.add(cursor, DirectRoom(ALICE, BOB, room.room_id, 0)),
        lambda cursor: friends.set_relation(cursor, DirectRoom(ALICE, BOB, room.room_id, 3)),
        lambda cursor: friends.of_pair(cursor, ALICE, BOB),
        lambda cursor: friends.of_room(cursor, room.room_id),
        lambda cursor: friends.listed(cursor, ALICE),
        lambda cursor: friends.joined_among(cursor, ALICE, [room.room_id, "!none"]),
        lambda cursor: friends.put_word(cursor, room.room_id, ALICE, Word("requested", 5)),
        lambda cursor: friends.words(cursor, room.room_id),
        lambda cursor: friends.remove_word(cursor, room.room_id, BOB),
        lambda cursor: friends.remove(cursor, ALICE, "@other:test", room.room_id),
        lambda cursor: friends.set_upto(cursor, 5),
        lambda cursor: mutes.put(cursor, Mute(ALICE, room.room_id, 5)),
        lambda cursor: mutes.due(cursor, 7, 10),
        lambda cursor: mutes.next_ts(cursor),
        lambda cursor: mutes.remove(cursor, BOB, room.room_id),
        lambda cursor: mutes.remove_all(cursor, BOB),
        lambda cursor: friends.unheeded(cursor),
        lambda cursor: device_keys.put_device(cursor, ALICE, "PHONE", b"{}"),
        lambda cursor: device_keys.get_device(cursor, ALICE, "PHONE"),
        lambda cursor: device_keys.devices_of(cursor, [ALICE, BOB]),
        lambda cursor: device_keys.put_cross_signing(cursor, CrossSigningKey(ALICE, "master", "k1", b"{}")),
        lambda cursor: device_keys.put_cross_signing(cursor, CrossSigningKey(ALICE, "master", "k2", b"{}")),
        lambda cursor: device_keys.cross_signing_of(cursor, [ALICE, BOB]),
        lambda cursor: device_keys.put_signature(cursor, KeySignature(ALICE, "PHONE", ALICE, "k2", "s"), 5),
        lambda cursor: device_keys.signatures_on(cursor, [ALICE, BOB], BOB),
        lambda cursor: device_keys.unsign_key(cursor, ALICE, "PHONE"),
        lambda cursor: device_keys.delete_key(cursor, ALICE, "master"),
        lambda cursor: device_keys.delete_cross_signing(cursor, ALICE),
        lambda cursor: one_time_keys.known_keys(cursor, ALICE, "PHONE"),
        lambda cursor: one_time_keys.add_keys(cursor, ALICE, "PHONE", [PublicKey("a", "1", b"{}")], 5, 0),
        lambda cursor: one_time_keys.put_fallback(cursor, ALICE, "PHONE", PublicKey("a", "2", b"{}")),
        lambda cursor: one_time_keys.stock_of(cursor, ALICE, "PHONE"),
        lambda cursor: one_time_keys.claim(cursor, ALICE, "PHONE", "a", 0),
        lambda cursor: one_time_keys.claim(cursor, ALICE, "PHONE", "a", 0),
        lambda cursor: device_keys.forget_devices(cursor, ALICE, ["PHONE", "TABLET"]),
        lambda cursor: device_lists.mark(cursor, ALICE, 5),
        lambda cursor: device_lists.put_update(cursor, ALICE, DeviceUpdate(1, "PHONE", 5)),
        lambda cursor: device_lists.last_update(cursor, ALICE),
        lambda cursor: device_lists.updated_since(cursor, 2),
        lambda cursor: device_lists.news(cursor, ALICE, 1, 9),
        lambda cursor: device_lists.news(cursor, BOB, 0, 9),
        lambda cursor: remote_devices.put_list(cursor, "@x:y", RemoteList(1, 5, 0), [RemoteDevice("A", b"{}", "a")]),
        lambda cursor: remote_devices.put_device(cursor, "@x:y", RemoteDevice("A", b"{}", None)),
        lambda cursor: remote_devices.lists_of(cursor, ["@x:y", "@z:y"]),
        lambda cursor: remote_devices.devices_of(cursor, ["@x:y", "@z:y"]),
        lambda cursor: remote_devices.advance(cursor, "@x:y", 2),
        lambda cursor: remote_devices.miss(cursor, "@x:y"),
        lambda cursor: remote_devices.all_stale(cursor),
        lambda cursor: remote_devices.delete_device(cursor, "@x:y", "A"),
        lambda cursor: remote_devices.stays_of(cursor, [ALICE, BOB]),
        lambda cursor: remote_devices.forget(cursor, "@x:y"),
        lambda cursor: to_device.devices_of(cursor, [ALICE, BOB]),
        lambda cursor: to_device.put(cursor, [Letter(ALICE, "PHONE", BOB, b"{}")], 5),
        lambda cursor: to_device.waiting(cursor, ALICE, "PHONE", 0, 9, 100),
        lambda cursor: to_device.newest(cursor, ALICE, "PHONE"),
        lambda cursor: to_device.weights(cursor, ALICE, "PHONE"),
        lambda cursor: to_device.delete_some(cursor, ALICE, "PHONE", [4, 5]),
        lambda cursor: to_device.delete(cursor, ALICE, "PHONE", 5),
        lambda cursor: to_device.see(cursor, "a.org", "m1", 0),
        lambda cursor: to_device.forget_seen(cursor, 1),
        lambda cursor: to_device.post(cursor, "a.org", 5, b"{}"),
        lambda cursor: to_device.posted(cursor, "a.org", 100),
        lambda cursor: to_device.delete_posted(cursor, "a.org", 5),
        lambda cursor: to_device.destinations(cursor),
        lambda cursor: dehydrated_devices.put(cursor, ALICE, Dehydrated("ASLEEP", b"{}"), None),
        lambda cursor: dehydrated_devices.get(cursor, ALICE),
        lambda cursor: key_backups.create(cursor, ALICE, "m.megolm", b"{}"),
        lambda cursor: key_backups.newest(cursor, ALICE),
        lambda cursor: key_backups.get(cursor, ALICE, 1),
        lambda cursor: key_backups.set_auth_data(cursor, ALICE, 1, b"{}"),
        lambda cursor: key_backups.put_keys(cursor, ALICE, backup, [room_key]),
        lambda cursor: key_backups.get_keys(cursor, ALICE, 1, room.room_id, "s"),
        lambda cursor: key_backups.delete_keys(cursor, ALICE, backup, room.room_id),
        lambda cursor: key_backups.delete(cursor, ALICE, 1),
        lambda cursor: key_backups.delete_all(cursor, ALICE),
        lambda cursor: media.create(cursor, medium("placed", expires_ts=9), 5),
        lambda cursor: media.may_fill(cursor, ("test.example", "placed"), ALICE, 1),
        lambda cursor: media.fill(cursor, medium("placed"), QUOTA),
        lambda cursor: media.add(cursor, medium("a"), QUOTA),
        lambda cursor: media.note_remote(cursor, medium("b", origin="a.org", user_id=None)),
        lambda cursor: media.get(cursor, "test.example", "a"),
        lambda cursor: media.usage(cursor, ALICE),
        lambda cursor: media.cached_bytes(cursor, "test.example"),
        lambda cursor: media.touch(cursor, [(("test.example", "a"), 7)]),
        lambda cursor: media.set_facts(cursor, ("test.example", "a"), b"{}"),
        lambda cursor: media.of_user(cursor, ALICE),
        lambda cursor: media.unused_remote(cursor, "test.example", 9),
        lambda cursor: media.unused_local(cursor, 9),
        lambda cursor: media.quarantine(cursor, [("test.example", "a")], ALICE),
        lambda cursor: media.is_alike(cursor, 5),
        lambda cursor: media.undigested(cursor, 5),
        lambda cursor: media.set_digest(cursor, ("test.example", "a"), b"h" * 32),
        lambda cursor: media.who_quarantined(cursor, 5, b"h" * 32),
        lambda cursor: thumbnails.add(cursor, ("test.example", "a"), [Thumbnail(SIZE, "image/png", 3, "t")]),
        lambda cursor: thumbnails.find(cursor, ("test.example", "a"), SIZE),
        lambda cursor: thumbnails.delete_file(cursor, ("test.example", "a"), "t", 0),
        lambda cursor: media_refs.hold_event(cursor, 1, True, URI),
        lambda cursor: media_refs.own_in(cursor, URI),
        lambda cursor: media_refs.hold_profile(cursor, ALICE, "avatar_url", URI),
        lambda cursor: media_refs.hold_account_data(cursor, ALICE, 0, "m.direct", URI),
        lambda cursor: media_refs.named_in_room(cursor, room.nid, 0),
        lambda cursor: media_refs.is_held(cursor, "a"),
        lambda cursor: media_refs.release_event(cursor, nids[0], b"{}"),
        lambda cursor: media_refs.release_profile(cursor, ALICE, "avatar_url"),
        lambda cursor: media_refs.release_profile(cursor, ALICE),
        lambda cursor: media_refs.release_account_data(cursor, ALICE),
        lambda cursor: media_refs.delete_unheld(cursor, ["a"], 0),
        lambda cursor: media.delete(cursor, [("test.example", "placed")], 0),
        lambda cursor: media.delete_expired(cursor, 9),
        lambda cursor: loose_files.put(cursor, ["x"], 5),
        lambda cursor: loose_files.unknown(cursor, ["x", "y"]),
        lambda cursor: loose_files.due(cursor, 9),
        lambda cursor: loose_files.take(cursor, "x"),
        lambda cursor: loose_files.drop(cursor, ["y"]),
        lambda cursor: url_previews.put(cursor, b"k", Preview(9, b"{}", "a"), 0),
        lambda cursor: url_previews.find(cursor, b"k", 0),
        lambda cursor: url_previews.delete_expired(cursor, 9),
        lambda cursor: destinations.read_upto(cursor),
        lambda cursor: destinations.write_upto(cursor, 2),
        lambda cursor: destinations.write_attempts(cursor, {"a.org": Attempts(1, 2), "b.org": None}),
        lambda cursor: destinations.all_attempts(cursor),
        lambda cursor: destinations.owe(cursor, [("a.org", room.room_id, 3), ("b.org", room.room_id, 2)]),
        lambda cursor: destinations.owe_devices(cursor, [("a.org", ALICE, 3), ("b.org", ALICE, 2)]),
        lambda cursor: destinations.device_debts_to(cursor, "a.org", 50),
        lambda cursor: destinations.settle_devices(cursor, [("a.org", ALICE, 3)]),
        lambda cursor: destinations.all_creditors(cursor),
        lambda cursor: destinations.debts_to(cursor, "a.org", 50),
        lambda cursor: destinations.settle(cursor, [("a.org", room.room_id, 3)]),
        lambda cursor: destinations.clear(cursor, ["b.org"]),
        lambda cursor: destinations.unsent(cursor, "test.example", 0, 9),
    ]


def complaints_of_sqlite(cursor: SqliteCursor, sql: str, parameters: Sequence[Any]) -> list[str]:
    rows = cursor._cursor.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    return [row[3] for row in rows if PLAINLY_SCANNED.match(row[3])]


def complaints_of_postgresql(cursor: PostgresCursor, sql: str, parameters: Sequence[Any]) -> list[str]:
    if cursor._waiting:
        cursor.flush()
    raw = cursor._raw
    raw.execute(b"EXPLAIN (FORMAT JSON) " + cursor._text(sql, parameters))
    row = raw.fetchone()
    assert row is not None
    return list(scans_of(row[0][0]["Plan"]))


def scans_of(node: dict[str, Any]) -> Iterator[str]:
    """The steps of a plan that read a table from end to end, be it in the order of an index."""
    kind = node["Node Type"]
    if kind == "Seq Scan" or (kind.startswith("Index") and "Index Cond" not in node):
        yield f"{kind} on {node['Relation Name']}"
    for child in node.get("Plans", ()):
        yield from scans_of(child)


def test_every_query_goes_by_an_index(database: Database, pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(database.counters)
    transaction = Transaction(ALICE, "PHONE", "send", "1")
    append_all(pump, database, *room.create(), room.member(BOB, "join"), room.send(transaction=transaction))
    root = room.send("root")
    root_id = root.events[0].stored.event.event_id
    related = [
        room.accept(room.event("m.room.message", {"m.relates_to": relation, "m.new_content": {}}))
        for rel_type in ("m.reference", "m.annotation", "m.replace", "m.thread")
        for relation in ({"rel_type": rel_type, "event_id": root_id},)
    ]
    append_all(pump, database, root, *related)
    relating = [entry.events[0].stored for entry in (root, *related)]
    complaints: list[str] = []
    explained: list[str] = []

    def watch(kind: type, explain: Callable[..., list[str]]) -> None:
        for name in ("execute", "later"):
            original = getattr(kind, name)

            def explaining(cursor: Any, sql: str, parameters: Sequence[Any] = (), *, original: Any = original) -> Any:
                if not sql.startswith(("INSERT", *WHOLE_TABLES)):
                    explained.append(sql)
                    complaints.extend(f"{complaint}: {sql}" for complaint in explain(cursor, sql, parameters))
                return original(cursor, sql, parameters)

            monkeypatch.setattr(kind, name, explaining)

    watch(SqliteCursor, complaints_of_sqlite)
    watch(PostgresCursor, complaints_of_postgresql)
    for call in calls(room, room.head.snapshot, relating):
        pump.wait(database.write(call))
    append_all(pump, database, room.send(transaction=Transaction(ALICE, "PHONE", "send", "2")), room.member(BOB, "ban"))
    assert complaints == []
    assert len(set(explained)) > 60


def test_no_function_is_left_out() -> None:
    """Whoever adds a function that takes a cursor adds it to `calls`."""
    modules = [module for module in globals().values() if getattr(module, "__name__", "").startswith("storage.")]
    source = Path(__file__).read_text(encoding="utf-8")
    missing = {
        f"{module.__name__}.{name}"
        for module in modules
        for name, function in vars(module).items()
        if not name.startswith("_")
        and getattr(function, "__module__", None) == module.__name__
        and "cursor" in getattr(function, "__annotations__", {})
        and f".{name}(" not in source
    }
    # Steps of every append.
    assert missing == {"storage.auth_chains.assign_places", "storage.state.write_snapshots"}
