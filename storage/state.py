"""Room state as chains of deltas: a snapshot is its rows laid over those of its base, over those of its base's …

The room engine makes a snapshot from a parent, one step after another. If every snapshot's base were its parent,
reading state would walk a room's whole history; so heights are read as numbers of base 64, as an odometer does:

    height 1 … 63      base: the parent                  its own delta
    height 64, 128 …   base: the one 64 steps before     the last 64 deltas as one
    height 4096 …      base: the one 4096 steps before   the last 64 of those as one

Reading follows at most 63 bases per digit, fewer than 200 until a room has seen 262,144 changes, and a change is
written once per digit at most. Where keys change again and again, even these deltas come to more rows than there is
state; so a snapshot of height 4096·n (or with a large delta) whose path would hold more than twice the state's rows is
written whole, on base 0. That happens only after as many rows were written as it costs.

A base has a lower nid than what stands on it: of several rows for one key the one of the greatest snapshot counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federation.room.event import StateKey
from storage import memberships, strings
from storage.ports import Cursor, NewSnapshot, StateRef
from storage.sql import among

FAN_OUT = 64
WEIGH_HEIGHT = FAN_OUT * FAN_OUT
WEIGH_ROWS = 512
"""A delta of this many rows is reason enough to ask whether writing the whole state is better."""

MANY_KEYS = 200
"""Past this many keys, reading the whole state and picking from it is cheaper than looking each one up."""

Delta = dict[tuple[int, int], int]
"""(type nid, state key nid) → event nid, 0 where the key was taken away."""

_CHAIN = (
    "WITH RECURSIVE chain(nid, base) AS ("
    "SELECT nid, base FROM state_snapshots WHERE nid = ? "
    "UNION ALL SELECT s.nid, s.base FROM chain JOIN state_snapshots s ON s.nid = chain.base) "
)


def write_snapshots(cursor: Cursor, snapshots: Iterable[tuple[int, NewSnapshot]], nids: dict[str, int]) -> None:
    """Write (room nid, snapshot) pairs, parents before children. `nids` holds their event types and state keys.

    Raises LookupError for a parent that does not exist.
    """
    writing = _Writing(cursor)
    for room_nid, snapshot in snapshots:
        writing.add(room_nid, snapshot, nids)
    writing.flush()


def read_state(
    cursor: Cursor,
    snapshot: int,
    keys: Sequence[StateKey] | None = None,
    types: Sequence[str] | None = None,
) -> dict[StateKey, int]:
    """The state at a snapshot as event nids: all of it, or some keys, or the keys of some event types."""
    if keys is not None:
        return _read_keys(cursor, snapshot, keys)
    condition = ""
    parameters: list[object] = [snapshot]
    if types is not None:
        type_nids = list(strings.find_many(cursor, types).values())
        if not type_nids:
            return {}
        among_types, more = among(cursor, "d.type_nid", type_nids)
        condition = f" AND {among_types}"
        parameters += more
    delta = _lay(
        cursor.execute(
            f"{_CHAIN} SELECT d.type_nid, d.key_nid, d.event_nid FROM state_deltas d"
            f" WHERE d.snapshot IN (SELECT nid FROM chain){condition} ORDER BY d.snapshot",
            parameters,
        ).fetchall()
    )
    texts = strings.texts_of(cursor, {nid for key in delta for nid in key})
    return {(texts[type_nid], texts[key_nid]): nid for (type_nid, key_nid), nid in delta.items() if nid}


def read_state_refs(cursor: Cursor, snapshot: int) -> dict[StateKey, StateRef]:
    """The whole state at a snapshot with the events' ids and memberships."""
    rows = cursor.execute(
        f"{_CHAIN} SELECT d.type_nid, d.key_nid, e.nid, e.event_id, e.membership FROM state_deltas d"
        " LEFT JOIN events e ON e.nid = d.event_nid"
        " WHERE d.snapshot IN (SELECT nid FROM chain) ORDER BY d.snapshot",
        (snapshot,),
    ).fetchall()
    # Rooms of ten thousand members are read by this: every step that is spared is a millisecond.
    latest = {row[:2]: row for row in rows}
    texts = strings.texts_of(cursor, {nid for key in latest for nid in key})
    names = memberships.NAMES
    return {
        (texts[type_nid], texts[key_nid]): StateRef(nid, event_id, None if membership is None else names[membership])
        for type_nid, key_nid, nid, event_id, membership in latest.values()
        if nid is not None
    }


def _read_keys(cursor: Cursor, snapshot: int, keys: Sequence[StateKey]) -> dict[StateKey, int]:
    if len(keys) > MANY_KEYS:
        state = read_state(cursor, snapshot)
        return {key: state[key] for key in keys if key in state}
    nids = strings.find_many(cursor, {text for key in keys for text in key})
    wanted = {
        (nids[event_type], nids[state_key]): (event_type, state_key)
        for event_type, state_key in keys
        if event_type in nids and state_key in nids
    }
    if not wanted:
        return {}
    # Always a power of two of rows, so that the statement can be kept: the last key is repeated.
    size = 1
    while size < len(wanted):
        size *= 2
    pairs = [number for pair in wanted for number in pair]
    pairs += pairs[-2:] * (size - len(wanted))
    values = ",".join(["(CAST(? AS BIGINT), CAST(? AS BIGINT))"] * size)
    delta = _lay(
        cursor.execute(
            f"{_CHAIN}, wanted(type_nid, key_nid) AS (VALUES {values}) "
            "SELECT d.type_nid, d.key_nid, d.event_nid FROM chain CROSS JOIN wanted w JOIN state_deltas d"
            " ON d.snapshot = chain.nid AND d.type_nid = w.type_nid AND d.key_nid = w.key_nid ORDER BY d.snapshot",
            [snapshot, *pairs],
        ).fetchall()
    )
    return {wanted[pair]: nid for pair, nid in delta.items() if nid}


def _lay(rows: Iterable[tuple[int, int, int]]) -> Delta:
    """Rows in the order of their snapshots: later ones lie over earlier ones."""
    return {(type_nid, key_nid): event_nid for type_nid, key_nid, event_nid in rows}


class _Writing:
    """Snapshots on their way into the tables; those of one batch build upon each other before they are there."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._bases: dict[int, int] = {}
        self._deltas: dict[int, Delta] = {}
        self._rows: list[tuple[int, int, int, int, int]] = []

    def add(self, room_nid: int, snapshot: NewSnapshot, nids: dict[str, int]) -> None:
        if snapshot.nid <= snapshot.parent:
            raise ValueError("a snapshot's nid is greater than its parent's")
        height, path_rows = self._find(snapshot.parent)
        height += 1
        base = snapshot.parent
        delta: Delta = {(nids[key[0]], nids[key[1]]): event_nid for key, event_nid in snapshot.delta}
        step = FAN_OUT
        while height % (step * FAN_OUT) == 0:
            step *= FAN_OUT
        if base and height % step == 0:
            base, path_rows, delta = self._merge(base, height - step, path_rows, delta)
        if base and (height % WEIGH_HEIGHT == 0 or len(delta) >= WEIGH_ROWS):
            base, path_rows, delta = self._weigh(base, path_rows, delta)
        if not base:
            delta = {key: event_nid for key, event_nid in delta.items() if event_nid}
        path_rows += len(delta)
        self._bases[snapshot.nid] = base
        self._deltas[snapshot.nid] = delta
        self._rows.append((snapshot.nid, room_nid, base, height, path_rows))
        self._cursor.writer.snapshots.put(snapshot.nid, (height, path_rows))

    def flush(self) -> None:
        self._cursor.insert_many("state_snapshots", ("nid", "room_nid", "base", "height", "path_rows"), self._rows)
        self._cursor.insert_many(
            "state_deltas",
            ("snapshot", "type_nid", "key_nid", "event_nid"),
            [(nid, *key, event_nid) for nid, delta in self._deltas.items() for key, event_nid in delta.items()],
        )

    def _find(self, nid: int) -> tuple[int, int]:
        """Height of a snapshot and the rows on its path."""
        if nid == 0:
            return 0, 0
        found = self._cursor.writer.snapshots.get(nid)
        if found is None:
            row = self._cursor.execute("SELECT height, path_rows FROM state_snapshots WHERE nid = ?", (nid,)).fetchone()
            if row is None:
                raise LookupError(f"there is no snapshot {nid}")
            found = row[0], row[1]
            self._cursor.writer.snapshots.put(nid, found)
        return found

    def _merge(self, base: int, down_to: int, path_rows: int, delta: Delta) -> tuple[int, int, Delta]:
        """Take all deltas above height `down_to` together with `delta`: the new base, its path's rows, the delta."""
        merged = delta
        layers, base = self._walk(base, down_to)
        for layer in layers:
            merged = {**layer, **merged}
        return base, self._find(base)[1], merged

    def _weigh(self, base: int, path_rows: int, delta: Delta) -> tuple[int, int, Delta]:
        """The whole state instead of a delta, where the path holds more than twice its rows."""
        layers, _ = self._walk(base, 0)
        whole = dict(delta)
        for layer in layers:
            whole = {**layer, **whole}
        alive = sum(1 for event_nid in whole.values() if event_nid)
        if path_rows + len(delta) > 2 * alive + WEIGH_ROWS:
            return 0, 0, whole
        return base, path_rows, delta

    def _walk(self, nid: int, down_to: int) -> tuple[list[Delta], int]:
        """The deltas from `nid` down, newest first, to the first snapshot not above height `down_to`, and that one."""
        layers: list[Delta] = []
        while nid and nid in self._bases and self._find(nid)[0] > down_to:
            layers.append(self._deltas[nid])
            nid = self._bases[nid]
        if nid and self._find(nid)[0] > down_to:
            stored, nid = self._read_layers(nid, down_to)
            layers += stored
        return layers, nid

    def _read_layers(self, nid: int, down_to: int) -> tuple[list[Delta], int]:
        path = self._cursor.execute(
            "WITH RECURSIVE chain(nid, base, height) AS ("
            "SELECT nid, base, height FROM state_snapshots WHERE nid = ? "
            "UNION ALL SELECT s.nid, s.base, s.height FROM chain JOIN state_snapshots s ON s.nid = chain.base"
            " WHERE s.height > ?) SELECT nid, base FROM chain ORDER BY nid DESC",
            (nid, down_to),
        ).fetchall()
        layers: dict[int, Delta] = {snapshot: {} for snapshot, _ in path}
        condition, parameters = among(self._cursor, "snapshot", list(layers))
        for snapshot, type_nid, key_nid, event_nid in self._cursor.execute(
            f"SELECT snapshot, type_nid, key_nid, event_nid FROM state_deltas WHERE {condition}", parameters
        ).fetchall():
            layers[snapshot][type_nid, key_nid] = event_nid
        return list(layers.values()), path[-1][1]
