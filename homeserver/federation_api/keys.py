"""`/_matrix/key/v2/…`: this server's signing keys, and those of others as far as it knows them.

Spec: https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from federation.keys.notary import Notary, Wanted
from federation.keys.own import OwnKeys
from federation.keys.response import is_key_id
from federation.room.identifiers import InvalidIdentifier, parse_server_name
from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import NONE, route

MAX_SERVERS = 100
"""Servers of one question: each may have to be asked first."""
MAX_KEYS = 50
"""Keys of one server in one question."""


class GetKey(msgspec.Struct, frozen=True):
    key_id: str


class QueryKeys(msgspec.Struct, frozen=True):
    server_name: str
    minimum_valid_until_ts: int | None = None


class QueryKey(msgspec.Struct, frozen=True):
    server_name: str
    key_id: str
    minimum_valid_until_ts: int | None = None


class Wish(msgspec.Struct, frozen=True):
    """What is wanted of one key."""

    minimum_valid_until_ts: int | None = None


class QueryManyKeys(msgspec.Struct, frozen=True):
    server_keys: dict[str, dict[str, Wish]]


# No limit: it is signed once in many hours, and every server asks for it.
@route("GET", "/_matrix/key/v2/server", auth=NONE, rate=None)
async def get_keys(own: OwnKeys) -> Mapping[str, Any]:
    return await own.response()


# COMPAT servers of before version 1.6 of the specification ask for one key by its id; the answer is the same.
@route("GET", "/_matrix/key/v2/server/{key_id}", auth=NONE, rate=None)
async def get_key(own: OwnKeys, ask: GetKey) -> Mapping[str, Any]:
    return await own.response()


@route("GET", "/_matrix/key/v2/query/{server_name}", auth=NONE, rate="anonymous", query=["minimum_valid_until_ts"])
async def query_keys(notary: Notary, clock: Clock, ask: QueryKeys) -> Mapping[str, Any]:
    return await _answer(notary, clock, {ask.server_name: [("", ask.minimum_valid_until_ts)]})


# COMPAT as above.
@route(
    "GET",
    "/_matrix/key/v2/query/{server_name}/{key_id}",
    auth=NONE,
    rate="anonymous",
    query=["minimum_valid_until_ts"],
)
async def query_key(notary: Notary, clock: Clock, ask: QueryKey) -> Mapping[str, Any]:
    return await _answer(notary, clock, {ask.server_name: [(ask.key_id, ask.minimum_valid_until_ts)]})


@route("POST", "/_matrix/key/v2/query", auth=NONE, rate="anonymous", interruptible=True)
async def query_many_keys(notary: Notary, clock: Clock, ask: QueryManyKeys) -> Mapping[str, Any]:
    if len(ask.server_keys) > MAX_SERVERS:
        raise InvalidParam(f"One question may name {MAX_SERVERS} servers at most")
    wishes = {
        server_name: [(key_id, wish.minimum_valid_until_ts) for key_id, wish in keys.items()]
        for server_name, keys in ask.server_keys.items()
    }
    return await _answer(notary, clock, wishes)


async def _answer(
    notary: Notary, clock: Clock, wishes: Mapping[str, Sequence[tuple[str, int | None]]]
) -> Mapping[str, Any]:
    """The answer to key ids (empty: any) and times of each server. Raises InvalidParam."""
    wanted = {}
    for server_name, keys in wishes.items():
        try:
            parse_server_name(server_name)
        except InvalidIdentifier as error:
            raise InvalidParam(str(error)) from None
        key_ids = frozenset(key_id for key_id, _ in keys if is_key_id(key_id))
        if len(key_ids) > MAX_KEYS:
            raise InvalidParam(f"One question may name {MAX_KEYS} keys of a server at most")
        minimum = max((minimum for _, minimum in keys if minimum is not None), default=clock.now_ms())
        wanted[server_name] = Wanted(key_ids, minimum)
    return {"server_keys": await notary.answer(wanted)}
