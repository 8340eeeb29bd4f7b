"""Devices and keys as servers tell each other of them: EDUs, and answers to questions.

What holds many things is read one thing at a time, so that one that is malformed takes no others along.

Spec: https://spec.matrix.org/v1.19/server-server-api/#device-management
Spec: https://spec.matrix.org/v1.19/server-server-api/#end-to-end-encryption
Spec: https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

MAX_INTEGER = 2**53 - 1

StreamId = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class DeviceListUpdate(msgspec.Struct, frozen=True):
    """Content of `m.device_list_update`."""

    user_id: str
    device_id: Name
    stream_id: StreamId
    prev_id: list[StreamId] = []
    device_display_name: str | None = None
    deleted: bool = False
    keys: dict[str, Any] | None = None


class SigningKeyUpdate(msgspec.Struct, frozen=True):
    """Content of `m.signing_key_update`."""

    user_id: str
    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None


class DirectToDevice(msgspec.Struct, frozen=True):
    """Content of `m.direct_to_device`."""

    sender: str
    type: Name
    message_id: Name
    messages: dict[str, dict[str, dict[str, Any]]]
    """User id → device id or `*` → content."""


class UserDevice(msgspec.Struct, frozen=True):
    """One of the devices of `UserDevices`."""

    device_id: Name
    keys: dict[str, Any]
    device_display_name: str | None = None


class UserDevices(msgspec.Struct, frozen=True):
    """Answer to `user/devices`."""

    user_id: str
    stream_id: StreamId
    devices: list[msgspec.Raw]
    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None

    def each(self) -> list[UserDevice]:
        """The devices that are well formed."""
        found = []
        for raw in self.devices:
            try:
                found.append(_read_device(raw))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        return found


class QueriedKeys(msgspec.Struct, frozen=True):
    """Answer to `user/keys/query`."""

    device_keys: dict[str, dict[str, Any]] = {}
    master_keys: dict[str, Any] = {}
    self_signing_keys: dict[str, Any] = {}


class ClaimedKeys(msgspec.Struct, frozen=True):
    """Answer to `user/keys/claim`."""

    one_time_keys: dict[str, dict[str, dict[str, Any]]] = {}


_read_device = msgspec.json.Decoder(UserDevice).decode
