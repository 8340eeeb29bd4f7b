"""Public keys of devices: uploading, asking for, and claiming them, and who has new ones.

Spec: https://spec.matrix.org/v1.19/client-server-api/#key-management-api
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.encryption.news import DeviceNews
from homeserver.encryption.queries import DEFAULT_TIMEOUT_MS, KeyQueries
from homeserver.encryption.uploads import KeyUploads, check_upload
from homeserver.http.route import GUEST, USER, Requester, route
from homeserver.streams.hub import Hub
from homeserver.streams.tokens import parse_stream_token

LARGE_BODY = 1024 * 1024


class UploadKeys(msgspec.Struct, frozen=True):
    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, Any] | None = None
    fallback_keys: dict[str, Any] | None = None


class QueryKeys(msgspec.Struct, frozen=True):
    device_keys: dict[str, list[str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class ClaimKeys(msgspec.Struct, frozen=True):
    one_time_keys: dict[str, dict[str, str]]
    timeout: int = DEFAULT_TIMEOUT_MS


class KeyChanges(msgspec.Struct, frozen=True):
    from_: str = msgspec.field(name="from")
    to: str


@route("POST", "/_matrix/client/v3/keys/upload", auth=GUEST, rate="upload", max_body=LARGE_BODY)
async def upload_keys(uploads: KeyUploads, who: Requester, ask: UploadKeys) -> dict[str, Any]:
    upload = check_upload(who.user_id, who.device_id, ask.device_keys, ask.one_time_keys or {}, ask.fallback_keys or {})
    return {"one_time_key_counts": await uploads.upload(who, upload)}


@route("POST", "/_matrix/client/v3/keys/query", auth=GUEST, rate="read", max_body=LARGE_BODY, interruptible=True)
async def query_keys(queries: KeyQueries, who: Requester, ask: QueryKeys) -> dict[str, Any]:
    found = await queries.query(who.user_id, ask.device_keys, ask.timeout)
    return {
        "device_keys": found.device_keys,
        "master_keys": found.master_keys,
        "self_signing_keys": found.self_signing_keys,
        "user_signing_keys": found.user_signing_keys,
        "failures": found.failures,
    }


@route("POST", "/_matrix/client/v3/keys/claim", auth=GUEST, rate="write", max_body=LARGE_BODY)
async def claim_keys(queries: KeyQueries, who: Requester, ask: ClaimKeys) -> dict[str, Any]:
    found = await queries.claim(ask.one_time_keys, ask.timeout)
    return {"one_time_keys": found.one_time_keys, "failures": found.failures}


@route("GET", "/_matrix/client/v3/keys/changes", auth=USER, rate="read", query=("from", "to"))
async def get_key_changes(news: DeviceNews, hub: Hub, who: Requester, ask: KeyChanges) -> dict[str, Any]:
    after, upto = parse_stream_token(ask.from_), parse_stream_token(ask.to)
    found = await news.of(who.user_id, after.position, min(upto.position, hub.position))
    return {"changed": found.changed, "left": found.left}
