"""The search index: which events hold which words. What a word is, is decided above (`homeserver.search.words`).

On SQLite the words are in an FTS5 table, on PostgreSQL in a `tsvector`; both are given words that are cut already, made
of ASCII letters and digits and of characters beyond ASCII only, and find the same by them.

An event leaves the index in the transaction that redacts it (`forget`). What is written into it may have been read
before such a transaction, so `write` looks again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from storage import strings
from storage.ports import Cursor, EventAppend, StoredEvent
from storage.sql import among

BODY, NAME, TOPIC = 0, 1, 2
KINDS: Mapping[str, int] = {"m.room.message": BODY, "m.room.name": NAME, "m.room.topic": TOPIC}
"""Types of events that can be found → kind."""

UPTO = "search_upto"
WALKED = "search_walked"
"""Of the rooms (nid) that are looked through after a start, how many are done: `<upto> <nid>`."""

RARE = 5_000
"""What matches no more often than that in all rooms is looked for without regard to rooms first."""
MOST_ROOMS_BY_INDEX = 500
"""In more rooms than that, what is common is looked for in the same way."""
MOST_COUNTED = 10_000
"""Of what matches a search, that are counted."""


class Doc(msgspec.Struct, frozen=True, gc=False):
    """What the index holds of one event."""

    event: StoredEvent
    source_nid: int
    """The event that the text is of: itself, or its newest edit."""
    kind: int
    words: Sequence[str]


class PhraseLike(Protocol):
    """Words that must follow each other."""

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def is_prefix(self) -> bool:
        """The last word may go on."""


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """What is searched for."""

    phrases: Sequence[PhraseLike]
    """All of them must be there. Not empty."""
    rooms: Sequence[int]
    """In these rooms (nids). Not empty."""
    kinds: Sequence[int]
    upto: int
    """Nothing later counts."""
    senders: Collection[str] | None = None
    """Only by these; None: by anybody …"""
    not_senders: Collection[str] = ()
    """… but these."""
    by_room: bool = True
    """Look at what there is in these rooms, rather than at what matches anywhere: see `how_to_look`."""


Order = Literal["rank", "recent"]


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where in what matches somebody looks."""

    order: Order
    after: int
    """The newest are those before that position; of the best, so many are passed over."""
    with_places: bool = False
    """By rank, each is to know its place among those of its room and sender."""


class Hit(msgspec.Struct, frozen=True, gc=False):
    """An event that matches."""

    event_nid: int
    room_nid: int
    source_nid: int
    """As in `Doc`."""
    position: int
    rank: float
    """The greater, the better. What is written into the index moves the ranks of all a little."""
    place_in_room: int = 0
    """The how-manieth among those of its room that is, by rank; 0 where that was not asked for."""
    place_of_sender: int = 0
    """And among those of its sender."""


# -- writing -----------------------------------------------------------------------------------------------------


def write(cursor: Cursor, docs: Sequence[Doc], done: Collection[int] = (), upto: int | None = None) -> None:
    """Put documents into the index, each in the place of what it held of the event; those without words leave it.

    `done`: events (nids) that are not to be looked at any more. `upto`: the index is complete up to there. For the
    writer.
    """
    if docs:
        nids = {nid for doc in docs for nid in (doc.event.nid, doc.source_nid)}
        condition, parameters = among(cursor, "nid", sorted(nids))
        rows = cursor.execute(
            f"SELECT nid FROM events WHERE {condition} AND redacted_by IS NULL", parameters
        ).fetchall()
        kept = {nid for (nid,) in rows}
        # An edit that was taken back meanwhile: the original is on the list of what to look at.
        _take_out(cursor, [doc.event.nid for doc in docs if doc.source_nid in kept])
        _put_in(cursor, [doc for doc in docs if doc.words and {doc.event.nid, doc.source_nid} <= kept])
    if done:
        condition, parameters = among(cursor, "event_nid", list(done))
        cursor.later(f"DELETE FROM search_todo WHERE {condition}", parameters)
    if upto is not None:
        set_mark(cursor, UPTO, str(upto))


def _put_in(cursor: Cursor, docs: Sequence[Doc]) -> None:
    senders = strings.intern_many(cursor, {doc.event.event.sender for doc in docs})
    columns = ["position", "event_nid", "room_nid", "sender_nid", "source_nid", "kind"]
    rows: list[list[Any]] = [
        [
            doc.event.position,
            doc.event.nid,
            doc.event.room_nid,
            senders[doc.event.event.sender],
            doc.source_nid,
            doc.kind,
        ]
        for doc in docs
    ]
    if cursor.dialect == "postgresql":
        columns.append("words")
        for row, doc in zip(rows, docs, strict=True):
            row.append(_tsvector(doc.words))
    cursor.insert_many("search_docs", columns, rows)
    if cursor.dialect == "sqlite":
        cursor.insert_many(
            "search_words",
            ("rowid", "words", "room"),
            [(doc.event.position, " ".join(doc.words), f"r{doc.event.room_nid}") for doc in docs],
        )


def _take_out(cursor: Cursor, event_nids: Sequence[int]) -> None:
    if not event_nids:
        return
    condition, parameters = among(cursor, "event_nid", event_nids)
    if cursor.dialect == "sqlite":
        for (position,) in cursor.execute(f"SELECT position FROM search_docs WHERE {condition}", parameters).fetchall():
            cursor.later("DELETE FROM search_words WHERE rowid = ?", (position,))
    cursor.later(f"DELETE FROM search_docs WHERE {condition}", parameters)


def forget(cursor: Cursor, event_nid: int) -> None:
    """An event has no text any more. If the text of another one was its, that one is to be looked at again. For the
    writer.
    """
    rows = cursor.execute(
        "SELECT event_nid FROM search_docs WHERE event_nid = ? UNION SELECT event_nid FROM search_docs"
        " WHERE source_nid = ?",
        (event_nid, event_nid),
    ).fetchall()
    found = [nid for (nid,) in rows]
    _take_out(cursor, found)
    look_again(cursor, [nid for nid in found if nid != event_nid])


def look_again(cursor: Cursor, event_nids: Collection[int]) -> None:
    """These events' texts are to be looked at. For the writer."""
    cursor.insert_many("search_todo", ("event_nid",), [(nid,) for nid in event_nids], "ON CONFLICT DO NOTHING")


def note_past(cursor: Cursor, appends: Sequence[EventAppend]) -> None:
    """What is fetched for the past is not met by whoever follows the stream. For the writer."""
    past = [new.stored for entry in appends if entry.head is None for new in entry.events if new.stored.position]
    look_again(cursor, [stored.nid for stored in past if stored.event.type in KINDS])


def set_mark(cursor: Cursor, name: str, value: str) -> None:
    """Write down how far the index is. For the writer."""
    cursor.later(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def tidy(cursor: Cursor, is_first: bool, pages: int = 64) -> None:
    """Have what was deleted leave the disk, a piece at a time, beginning with `is_first`. For the writer.

    SQLite only marks words as deleted until it next merges what holds them; PostgreSQL's autovacuum needs no help.
    Spec: https://www.sqlite.org/fts5.html#the_merge_command
    """
    if cursor.dialect == "sqlite":
        amount = -pages if is_first else pages
        cursor.execute("INSERT INTO search_words (search_words, rank) VALUES ('merge', ?)", (amount,))


def clear(cursor: Cursor) -> None:
    """Empty the index, so that the next start makes it anew. For the writer."""
    cursor.execute("DELETE FROM search_docs")
    if cursor.dialect == "sqlite":
        cursor.execute("DELETE FROM search_words")
    set_mark(cursor, UPTO, "0")
    set_mark(cursor, WALKED, "")


# -- finding out what to write -----------------------------------------------------------------------------------


def mark(cursor: Cursor, name: str) -> str:
    """What `set_mark` wrote last, or nothing."""
    row = cursor.execute("SELECT value FROM meta WHERE key = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def size(cursor: Cursor) -> int:
    """How many texts the index holds."""
    row = cursor.execute("SELECT COUNT(*) FROM search_docs").fetchone()
    assert row is not None
    return int(row[0])


def todo(cursor: Cursor, limit: int) -> list[int]:
    """Events (nids) that are to be looked at."""
    rows = cursor.execute("SELECT event_nid FROM search_todo ORDER BY event_nid LIMIT ?", (limit,)).fetchall()
    return [nid for (nid,) in rows]


def rooms_with_news(cursor: Cursor, after: int) -> list[int]:
    """Rooms (nids) with events later than a position, in order. Looks at every room."""
    rows = cursor.execute("SELECT nid FROM rooms WHERE newest > ? ORDER BY nid", (after,)).fetchall()
    return [nid for (nid,) in rows]


# -- searching ---------------------------------------------------------------------------------------------------


class Begun(msgspec.Struct, frozen=True, gc=False):
    """A search as it is gone about, what it found first, and how much there is by room."""

    wanted: Wanted
    hits: Sequence[Hit]
    counted: Mapping[int, int]


def begin(cursor: Cursor, wanted: Wanted, place: Place, limit: int) -> Begun:
    """Choose how to look, and look."""
    wanted = how_to_look(cursor, wanted)
    return Begun(wanted, find(cursor, wanted, place, limit), count(cursor, wanted))


def find(cursor: Cursor, wanted: Wanted, place: Place, limit: int) -> list[Hit]:
    """What matches from some place on."""
    if place.order == "recent":
        return find_recent(cursor, wanted, place.after, limit)
    return find_best(cursor, wanted, place.after, limit, place.with_places)


def how_to_look(cursor: Cursor, wanted: Wanted) -> Wanted:
    """Choose how a search goes about it: what is rare costs least by its words, what is common by the rooms."""
    if cursor.dialect == "postgresql":
        cursor.execute("SET LOCAL enable_bitmapscan = on")
        matching, query = "search_docs WHERE words @@ CAST(? AS tsquery)", _tsquery(wanted.phrases)
    else:
        matching, query = "search_words WHERE search_words MATCH ?", _fts5(wanted.phrases)
    row = cursor.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM {matching} LIMIT ?) AS found", (query, RARE + 1)
    ).fetchone()
    assert row is not None
    return msgspec.structs.replace(wanted, by_room=row[0] > RARE and len(wanted.rooms) <= MOST_ROOMS_BY_INDEX)


def find_recent(cursor: Cursor, wanted: Wanted, before: int, limit: int) -> list[Hit]:
    """What matches at positions below `before`, the newest first."""
    source, parameters = _matches(cursor, wanted)
    rows = cursor.execute(
        f"{source} SELECT event_nid, room_nid, source_nid, position, rank FROM hits WHERE position < ?"
        " ORDER BY position DESC LIMIT ?",
        [*parameters, before, limit],
    ).fetchall()
    return [Hit(*row) for row in rows]


def find_best(cursor: Cursor, wanted: Wanted, skip: int, limit: int, with_places: bool) -> list[Hit]:
    """What matches, the best first, of what is as good the newest; without the first `skip`."""
    source, parameters = _matches(cursor, wanted)
    places = "".join(
        f", ROW_NUMBER() OVER (PARTITION BY {column} ORDER BY rank DESC, position DESC)"
        for column in ("room_nid", "sender_nid")
        if with_places
    )
    rows = cursor.execute(
        f"{source} SELECT event_nid, room_nid, source_nid, position, rank{places} FROM hits"
        " ORDER BY rank DESC, position DESC LIMIT ? OFFSET ?",
        [*parameters, limit, skip],
    ).fetchall()
    return [Hit(*row) for row in rows]


def count(cursor: Cursor, wanted: Wanted) -> dict[int, int]:
    """How many match by room, of the first `MOST_COUNTED`."""
    source, parameters = _matches(cursor, wanted, MOST_COUNTED)
    rows = cursor.execute(f"{source} SELECT room_nid, COUNT(*) FROM hits GROUP BY room_nid", parameters).fetchall()
    counted: dict[int, int] = defaultdict(int)
    counted.update(rows)
    return counted


def _matches(cursor: Cursor, wanted: Wanted, limit: int | None = None) -> tuple[str, list[Any]]:
    """The beginning of a statement: a table `hits` of all that matches."""
    condition, parameters = among(cursor, "d.kind", list(wanted.kinds))
    if wanted.senders is not None:
        nids = list(strings.find_many(cursor, wanted.senders).values())
        more, values = among(cursor, "d.sender_nid", nids or [-1])
        condition, parameters = f"{condition} AND {more}", [*parameters, *values]
    if left_out := list(strings.find_many(cursor, wanted.not_senders).values()):
        more, values = among(cursor, "d.sender_nid", left_out)
        condition, parameters = f"{condition} AND NOT ({more})", [*parameters, *values]
    at_most = "" if limit is None else f" LIMIT {limit}"
    # By another expression than the column, no index of the rooms is thought of.
    in_rooms, rooms = among(cursor, "d.room_nid" if wanted.by_room else "(d.room_nid + 0)", list(wanted.rooms))
    if cursor.dialect == "postgresql":
        # Left to itself, the planner would walk along the positions and hope to meet the word soon.
        cursor.execute("SET LOCAL enable_bitmapscan = on")
        query = _tsquery(wanted.phrases)
        return (
            "WITH hits AS MATERIALIZED (SELECT d.position, d.event_nid, d.room_nid, d.sender_nid, d.source_nid,"
            " ts_rank(d.words, CAST(? AS tsquery), 1) AS rank FROM search_docs d"
            f" WHERE d.words @@ CAST(? AS tsquery) AND {in_rooms} AND d.position <= ? AND {condition}{at_most})",
            [query, query, *rooms, wanted.upto, *parameters],
        )
    query = _fts5(wanted.phrases)
    if wanted.by_room:
        query += " AND room : (" + " OR ".join(f"r{room_nid}" for room_nid in wanted.rooms) + ")"
    return (
        "WITH hits AS (SELECT w.rowid AS position, d.event_nid, d.room_nid, d.sender_nid, d.source_nid, -w.rank AS rank"
        " FROM search_words w CROSS JOIN search_docs d ON d.position = w.rowid"
        f" WHERE w.search_words MATCH ? AND w.rowid <= ? AND {in_rooms} AND {condition}{at_most})",
        [query, wanted.upto, *rooms, *parameters],
    )


def _fts5(phrases: Sequence[PhraseLike]) -> str:
    """Spec: https://www.sqlite.org/fts5.html#full_text_query_syntax"""
    parts = [f'"{" ".join(phrase.words)}"{"*" if phrase.is_prefix else ""}' for phrase in phrases]
    return f"words : ({' AND '.join(parts)})"


def _tsquery(phrases: Sequence[PhraseLike]) -> str:
    """Spec: https://www.postgresql.org/docs/current/datatype-textsearch.html#DATATYPE-TSQUERY"""
    parts = []
    for phrase in phrases:
        words = [f"'{word}'" for word in phrase.words]
        if phrase.is_prefix:
            words[-1] += ":*"
        parts.append(f"({' <-> '.join(words)})")
    return " & ".join(parts)


MOST_PLACES = 255
"""PostgreSQL keeps so many places of one word in a text, and numbers them up to `LAST_PLACE`."""
LAST_PLACE = 16_383


def _tsvector(words: Sequence[str]) -> str:
    places: dict[str, list[str]] = defaultdict(list)
    for place, word in enumerate(words, 1):
        if place <= LAST_PLACE and len(places[word]) < MOST_PLACES:
            places[word].append(str(place))
    return " ".join(f"'{word}':{','.join(numbers)}" for word, numbers in places.items())
