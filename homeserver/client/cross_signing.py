"""The keys by which people vouch for their devices and for each other, and their signatures.

Spec: https://spec.matrix.org/v1.19/client-server-api/#cross-signing
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.accounts.changes import AccountChanges
from homeserver.client.keys import LARGE_BODY
from homeserver.encryption.signing import CrossSigning, check_signing_keys
from homeserver.http.route import USER, Requester, RequestInfo, route


class UploadSigningKeys(msgspec.Struct, frozen=True):
    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None
    user_signing_key: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None


class UploadSignatures(msgspec.Struct, frozen=True):
    signatures: dict[str, dict[str, dict[str, Any]]]


@route("POST", "/_matrix/client/v3/keys/device_signing/upload", auth=USER, rate="write")
async def upload_signing_keys(
    signing: CrossSigning, changes: AccountChanges, who: Requester, ask: UploadSigningKeys, info: RequestInfo
) -> None:
    keys = check_signing_keys(
        who.user_id,
        {
            "master_key": ask.master_key,
            "self_signing_key": ask.self_signing_key,
            "user_signing_key": ask.user_signing_key,
        },
    )
    if await signing.needs_owner(who.user_id, keys):
        await changes.require_owner("change the keys by which you are known", who, ask.auth, info.address)
    await signing.put_keys(who.user_id, keys)


@route(
    "POST",
    "/_matrix/client/v3/keys/signatures/upload",
    auth=USER,
    rate="write",
    max_body=LARGE_BODY,
    body="signatures",
)
async def upload_signatures(signing: CrossSigning, who: Requester, ask: UploadSignatures) -> dict[str, Any]:
    return {"failures": await signing.put_signatures(who.user_id, ask.signatures)}
