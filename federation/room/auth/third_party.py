"""Invites that answer an `m.room.third_party_invite`: whoever proves to own the address may be invited.

Spec: https://spec.matrix.org/v1.19/rooms/v12/#authorisation-rules, rule 5.4.1, and
https://spec.matrix.org/v1.19/server-server-api/#verifying-the-invite
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from itertools import islice, product
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from federation.room.auth.case import Case
from federation.room.auth.verdict import ALLOWED, Verdict
from federation.room.canonical import canonical_json, canonical_json_loose

MAX_ATTEMPTS = 1_000
"""How many pairs of key and signature are tried. One event has room for some 600,000, or half a minute of work,
and an honest one has a handful."""


def check_third_party_invite(case: Case, target: str) -> Verdict:
    """Judge an `m.room.member` event of membership `invite` that has a `third_party_invite` in its content."""
    rule = "member.invite.third_party."
    if case.membership(target) == "ban":
        return case.refuse(rule + "banned", "the user is banned")
    given = case.event.content["third_party_invite"]
    if not isinstance(given, dict) or not isinstance(given.get("signed"), dict):
        return case.refuse(rule + "signed", "third_party_invite has no signed object")
    signed = given["signed"]
    if not isinstance(signed.get("mxid"), str) or not isinstance(signed.get("token"), str):
        return case.refuse(rule + "fields", "the signed object lacks mxid or token")
    if signed["mxid"] != target:
        return case.refuse(rule + "mxid", "what was signed is for another user")
    invite = case.state("m.room.third_party_invite", signed["token"])
    if invite is None:
        return case.refuse(rule + "token", "the room has no third-party invite with this token")
    if invite.sender != case.event.sender:
        return case.refuse(rule + "sender", "the third-party invite was sent by another user")
    if _signed_by_any(case, signed, _public_keys(invite.content)):
        return ALLOWED
    return case.refuse(rule + "otherwise", "no key of the third-party invite made a signature of the signed object")


def _signed_by_any(case: Case, signed: Mapping[str, Any], keys: list[bytes]) -> bool:
    bare = {key: value for key, value in signed.items() if key not in ("signatures", "unsigned")}
    message = canonical_json(bare) if case.version.strict_json else canonical_json_loose(bare)
    for key, signature in islice(product(keys, _signatures(signed)), MAX_ATTEMPTS):
        try:
            VerifyKey(key).verify(message, signature)
        except BadSignatureError:
            continue
        return True
    return False


def _public_keys(content: Mapping[str, Any]) -> list[bytes]:
    """The keys of an `m.room.third_party_invite`, each once: that in `public_key`, and those in `public_keys`."""
    given = [content.get("public_key")]
    several = content.get("public_keys")
    if isinstance(several, list):
        given.extend(entry.get("public_key") for entry in several if isinstance(entry, dict))
    keys = (_decode(text, 32) for text in given)
    return list(dict.fromkeys(key for key in keys if key is not None))


def _signatures(signed: Mapping[str, Any]) -> list[bytes]:
    """All Ed25519 signatures of a signed object, each once, whoever they are said to be by."""
    by_server = signed.get("signatures")
    if not isinstance(by_server, dict):
        return []
    signatures = (
        _decode(text, 64)
        for by_key in by_server.values()
        if isinstance(by_key, dict)
        for key_id, text in by_key.items()
        if key_id.startswith("ed25519:")
    )
    return list(dict.fromkeys(signature for signature in signatures if signature is not None))


def _decode(text: object, size_bytes: int) -> bytes | None:
    """Base64 of either alphabet, padded or not: identity servers have used all of them."""
    if not isinstance(text, str):
        return None
    standard = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if len(decoded) == size_bytes else None
