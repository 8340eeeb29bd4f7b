"""Other servers' keys, their own word on them as it came, and the keys that this server signed with once.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

from federation.keys.ports import KeptResponse, KeyName, OwnKey
from federation.keys.response import KeyResponse, ServerKey
from storage.ports import Cursor
from storage.sql import among


def read(cursor: Cursor, wanted: Collection[KeyName]) -> dict[KeyName, ServerKey]:
    """Those of the wanted keys that are there."""
    servers = sorted({server_name for server_name, _ in wanted})
    if not servers:
        return {}
    condition, parameters = among(cursor, "server_name", servers)
    rows = cursor.execute(
        f"SELECT server_name, key_id, verify_key, valid_until_ts FROM server_keys WHERE {condition}", parameters
    ).fetchall()
    return {
        (server_name, key_id): ServerKey(server_name, key_id, bytes(verify_key), valid_until_ts)
        for server_name, key_id, verify_key, valid_until_ts in rows
        if (server_name, key_id) in wanted
    }


def save(cursor: Cursor, response: KeyResponse, *, direct: bool) -> None:
    """Keep a response with its keys, and drop those in which no key stood last.

    One that did not come from the server itself only adds to what is known: keys, and time for which they are valid.
    """
    digest = sha256(response.body).digest()
    cursor.insert_many(
        "key_responses",
        ("server_name", "digest", "fetched_ts", "valid_until_ts", "body"),
        [(response.server_name, digest, response.fetched_ts, response.valid_until_ts, response.body)],
        "ON CONFLICT (server_name, digest) DO UPDATE SET fetched_ts = excluded.fetched_ts,"
        " valid_until_ts = excluded.valid_until_ts",
    )
    newer = "" if direct else " WHERE excluded.valid_until_ts > server_keys.valid_until_ts"
    cursor.insert_many(
        "server_keys",
        ("server_name", "key_id", "verify_key", "valid_until_ts", "digest"),
        [(key.server_name, key.key_id, key.verify_key, key.valid_until_ts, digest) for key in response.keys],
        "ON CONFLICT (server_name, key_id) DO UPDATE SET verify_key = excluded.verify_key,"
        f" valid_until_ts = excluded.valid_until_ts, digest = excluded.digest{newer}",
    )
    cursor.later(
        "DELETE FROM key_responses WHERE server_name = ? AND digest NOT IN"
        " (SELECT digest FROM server_keys WHERE server_name = ?)",
        (response.server_name, response.server_name),
    )


def responses(cursor: Cursor, server_name: str) -> list[KeptResponse]:
    """A server's own word, newest first, each with the keys for which it is the newest."""
    key_ids: dict[bytes, set[str]] = {}
    for key_id, digest in cursor.execute(
        "SELECT key_id, digest FROM server_keys WHERE server_name = ?", (server_name,)
    ).fetchall():
        key_ids.setdefault(bytes(digest), set()).add(key_id)
    rows = cursor.execute(
        "SELECT digest, fetched_ts, valid_until_ts, body FROM key_responses WHERE server_name = ?"
        " ORDER BY valid_until_ts DESC, digest",
        (server_name,),
    ).fetchall()
    return [
        KeptResponse(fetched_ts, valid_until_ts, bytes(body), frozenset(key_ids.get(bytes(digest), ())))
        for digest, fetched_ts, valid_until_ts, body in rows
    ]


def update_own(cursor: Cursor, in_use: Sequence[OwnKey], now_ms: int) -> list[OwnKey]:
    """Keep the keys in use; those that were until now are expired. Gives all that are out of use, by id."""
    known: Mapping[str, OwnKey] = {
        key_id: OwnKey(key_id, bytes(verify_key), expired_ts)
        for key_id, verify_key, expired_ts in cursor.execute(
            "SELECT key_id, verify_key, expired_ts FROM own_keys"
        ).fetchall()
    }
    current = {key.key_id for key in in_use}
    changed = [key for key in in_use if known.get(key.key_id) != key]
    changed += [
        OwnKey(key.key_id, key.verify_key, now_ms)
        for key in known.values()
        if key.expired_ts is None and key.key_id not in current
    ]
    cursor.insert_many(
        "own_keys",
        ("key_id", "verify_key", "expired_ts"),
        [(key.key_id, key.verify_key, key.expired_ts) for key in changed],
        "ON CONFLICT (key_id) DO UPDATE SET verify_key = excluded.verify_key, expired_ts = excluded.expired_ts",
    )
    everything = {**known, **{key.key_id: key for key in changed}}
    return sorted((key for key in everything.values() if key.expired_ts is not None), key=lambda key: key.key_id)
