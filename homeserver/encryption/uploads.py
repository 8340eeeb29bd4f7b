"""`keys/upload`: what a device brings of public keys.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define

from federation.service import service
from homeserver.clock import Clock
from homeserver.encryption.lists import DeviceChanges, DeviceLists
from homeserver.encryption.shapes import check_device_keys, check_public_keys
from homeserver.encryption.states import ALWAYS_COUNTED, DeviceStates
from homeserver.errors import InvalidParam
from homeserver.http.route import Requester
from storage import device_keys as key_rows
from storage import one_time_keys as rows
from storage.one_time_keys import KeyStock, PublicKey

MOST_UPLOADED = 200
"""One-time keys in one upload. A device of Olm can hold 100."""
MOST_KEPT = 500
"""One-time keys of one device."""
MOST_FALLBACK = 10
"""One for each algorithm."""


@service
class Upload:
    """What a device brings, checked."""

    device_keys: bytes | None
    one_time_keys: Sequence[PublicKey]
    fallback_keys: Sequence[PublicKey]


def check_upload(
    user_id: str,
    device_id: str,
    device_keys: Mapping[str, Any] | None,
    one_time_keys: Mapping[str, Any],
    fallback_keys: Mapping[str, Any],
) -> Upload:
    """Raises BadJson, InvalidParam or M_TOO_LARGE, naming the key."""
    fallback = check_public_keys("fallback_keys", fallback_keys, MOST_FALLBACK)
    if len({key.algorithm for key in fallback}) < len(fallback):
        raise InvalidParam("`fallback_keys` holds two keys of an algorithm")
    return Upload(
        None if device_keys is None else check_device_keys(device_keys, user_id, device_id),
        check_public_keys("one_time_keys", one_time_keys, MOST_UPLOADED),
        fallback,
    )


@define(eq=False)
class KeyUploads:
    """Takes them in."""

    _lists: DeviceLists
    _states: DeviceStates
    _clock: Clock

    async def upload(self, who: Requester, upload: Upload) -> Mapping[str, int]:
        """Keep the keys; all of them or none. Gives the counts of one-time keys.

        Raises InvalidParam where a one-time key goes by the name of another one, or there are too many.
        """
        now_ms = self._clock.now_ms()
        stock = await self._lists.write(
            who.user_id, lambda changes: write_upload(changes, who.device_id, upload, now_ms)
        )
        self._states.restocked(who.user_id, who.device_id, stock)
        return {ALWAYS_COUNTED: 0, **stock.counts}


def write_upload(changes: DeviceChanges, device_id: str, upload: Upload, now_ms: int) -> KeyStock:
    """In the writer's thread. Raises as `KeyUploads.upload` does."""
    cursor, user_id = changes.cursor, changes.user_id
    if upload.device_keys is not None and key_rows.put_device(cursor, user_id, device_id, upload.device_keys):
        key_rows.unsign_key(cursor, user_id, device_id)
        changes.changed(device_id)
    if upload.one_time_keys:
        known = rows.known_keys(cursor, user_id, device_id)
        new = [key for key in upload.one_time_keys if _is_new(known, key)]
        if len(new) + sum(json is not None for json in known.values()) > MOST_KEPT:
            raise InvalidParam(f"`one_time_keys`: a device has at most {MOST_KEPT} of them")
        rows.add_keys(cursor, user_id, device_id, new, changes.position, now_ms)
    for key in upload.fallback_keys:
        rows.put_fallback(cursor, user_id, device_id, key)
    return rows.stock_of(cursor, user_id, device_id)


def _is_new(known: Mapping[tuple[str, str], bytes | None], key: PublicKey) -> bool:
    """Whether a key was not brought before; one that was given out meanwhile must not be given out again."""
    place = (key.algorithm, key.key_id)
    if place not in known:
        return True
    if (before := known[place]) is not None and before != key.json:
        raise InvalidParam(f"`one_time_keys`: there is another key by the name of {key.name}")
    return False
