"""What a pusher may be, by its kind.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset
MSC4174 (https://github.com/matrix-org/matrix-spec-proposals/pull/4174): web push.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from config.email import is_address
from federation.outbound.web import BadUrl, Url, parse_url
from homeserver.errors import InvalidParam, MissingParam
from storage.pushers import Pusher

HTTP, EMAIL = "http", "email"
EMAIL_APP = "m.email"
WEB_PUSH = frozenset({"org.matrix.msc4174.webpush", "webpush"})

GATEWAY_PATH = "/_matrix/push/v1/notify"
LONGEST_APP_ID = 64
LONGEST_PUSHKEY_BYTES = 512
LONGEST_TEXT_BYTES = 1_024
LARGEST_DATA_BYTES = 8_192

TEXTS = ("app_display_name", "device_display_name", "lang", "profile_tag")
NEEDED = (*TEXTS[:3], "data")

POINT_BYTES, SECRET_BYTES = 65, 16
UNCOMPRESSED = b"\x04"


def needs_consent(told: Mapping[str, Any]) -> bool:
    """Whether somebody has to say that they want it, who is not the client that sets it."""
    return told["kind"] == EMAIL or told["kind"] in WEB_PUSH


def leads_alike(before: Pusher, told: Mapping[str, Any]) -> bool:
    """Whether a pusher with the same key leads to the same place as before."""
    old = orjson.loads(before.told)
    return bool(
        old["kind"] == told["kind"]
        and url_of(old["data"]) == url_of(told["data"])
        and old["data"].get("auth") == told["data"].get("auth")
    )


def url_of(data: Mapping[str, Any]) -> Any:
    """Where a pusher leads. COMPAT Hydrogen: it says `endpoint`, as older drafts of web push did."""
    return data.get("url", data.get("endpoint"))


def check_pusher(told: Mapping[str, Any], *, allows_plain: bool) -> None:
    """Raises InvalidParam or MissingParam. `allows_plain`: whether http will do."""
    kind = told["kind"]
    if kind not in (HTTP, EMAIL) and kind not in WEB_PUSH:
        raise InvalidParam("'kind': only http, email and web push are served here, and null to delete")
    missing = [name for name in NEEDED if told.get(name) is None]
    if missing:
        raise MissingParam(f"Missing parameters: {', '.join(missing)}")
    for name in ("app_id", "pushkey", *TEXTS):
        if len(str(told.get(name) or "").encode("utf-8", "surrogatepass")) > LONGEST_TEXT_BYTES:
            raise InvalidParam(f"'{name}' has at most {LONGEST_TEXT_BYTES} bytes")
    if not 0 < len(told["app_id"]) <= LONGEST_APP_ID:
        raise InvalidParam(f"'app_id' has 1 to {LONGEST_APP_ID} characters")
    if not 0 < len(told["pushkey"].encode("utf-8", "surrogatepass")) <= LONGEST_PUSHKEY_BYTES:
        raise InvalidParam(f"'pushkey' has 1 to {LONGEST_PUSHKEY_BYTES} bytes")
    data = told["data"]
    if len(orjson.dumps(data)) > LARGEST_DATA_BYTES:
        raise InvalidParam(f"'data' has at most {LARGEST_DATA_BYTES} bytes")
    if data.get("format") not in (None, "event_id_only"):
        raise InvalidParam("'data': `format` is `event_id_only` or absent")
    if kind == EMAIL:
        _check_address(told["app_id"], told["pushkey"])
        return
    target = _check_url(kind, url_of(data))
    if not target.encrypted and not allows_plain:
        raise InvalidParam("'data': `url` must be https")
    if kind == HTTP and urlsplit(target.text).path != GATEWAY_PATH:
        raise InvalidParam(f"'data': the path of `url` is {GATEWAY_PATH}")
    if kind in WEB_PUSH:
        _check_keys(told["pushkey"], data.get("auth"))


def read_base64(text: str) -> bytes:
    """Base64 for URLs; whether with padding does not matter. Raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars="-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64 for URLs") from None


def _check_url(kind: str, url: object) -> Url:
    if not isinstance(url, str):
        raise MissingParam(f"'data': a pusher of kind {kind} needs a `url`")
    try:
        return parse_url(url)
    except BadUrl as error:
        raise InvalidParam(f"'data': {error}") from None


def _check_address(app_id: str, pushkey: str) -> None:
    if app_id != EMAIL_APP:
        raise InvalidParam(f"'app_id' of an email pusher is {EMAIL_APP}")
    if not is_address(pushkey):
        raise InvalidParam("'pushkey' of an email pusher is an email address")


def _check_keys(pushkey: str, auth: object) -> None:
    """Spec: https://www.rfc-editor.org/rfc/rfc8291#section-3"""
    from homeserver.push.sealing import read_point  # few need it

    if not isinstance(auth, str):
        raise MissingParam("'data': web push needs `auth`")
    try:
        point, secret = read_base64(pushkey), read_base64(auth)
    except ValueError as error:
        raise InvalidParam(f"'pushkey' or `auth` in 'data': {error}") from None
    if len(secret) != SECRET_BYTES:
        raise InvalidParam(f"'data': `auth` has {SECRET_BYTES} bytes")
    try:
        if len(point) != POINT_BYTES or not point.startswith(UNCOMPRESSED):
            raise ValueError
        read_point(point)
    except ValueError:
        raise InvalidParam("'pushkey': not a point on P-256 in its uncompressed form") from None
