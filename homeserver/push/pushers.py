"""Where people want their notifications sent, in memory and in the database.

A pusher goes with the device that set it, with the account, when its gateway no longer knows its key, and when somebody
else signs in on the same device (unless they ask for both).

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
from attrs import define, field

from federation.outbound.web import BadUrl, parse_url
from homeserver.clock import Clock
from homeserver.errors import InvalidParam, MissingParam
from homeserver.http.route import Requester
from homeserver.rooms.live import LiveRoom
from homeserver.streams.hub import Hub
from storage import pushers as rows
from storage.database import Database
from storage.pushers import Pusher

GATEWAY_PATH = "/_matrix/push/v1/notify"
MOST_EACH = 100
LONGEST_APP_ID = 64
LONGEST_PUSHKEY_BYTES = 512
LONGEST_TEXT_BYTES = 1_024
LARGEST_DATA_BYTES = 8_192

TEXTS = ("app_display_name", "device_display_name", "lang", "profile_tag")
NEEDED = (*TEXTS[:3], "data")

Key = tuple[str, str, str]
"""(user, app, pushkey)"""


@define(eq=False)
class Pushers:
    """A listener of accounts and devices. Once per process."""

    database: Database
    hub: Hub
    clock: Clock
    allows_plain: bool
    """Whether http will do: where this server may reach private addresses, a gateway may be its neighbour."""
    on_gone: list[Callable[[Key], None]] = field(factory=list, init=False)
    _by_user: dict[str, dict[Key, Pusher]] = field(factory=dict, init=False)

    async def start(self) -> Sequence[Pusher]:
        """Read them; gives all."""
        found = await self.database.run(rows.every)
        for pusher in found:
            self._by_user.setdefault(pusher.user_id, {}).setdefault(pusher.key, pusher)
        return found

    def of(self, user_id: str) -> Sequence[Pusher]:
        return list(self._by_user.get(user_id, {}).values())

    def get(self, key: Key) -> Pusher | None:
        return self._by_user.get(key[0], {}).get(key)

    def owners_in(self, room: LiveRoom) -> Collection[str]:
        """Who has any, of the local people who are in a room or invited to it."""
        state = room.visible.state
        if len(self._by_user) > len(room.local_joined) * 2 + 100:
            return [user_id for user_id in room.local_joined if user_id in self._by_user]
        return [
            user_id
            for user_id in self._by_user
            if user_id in room.local_joined
            or ((ref := state.get(("m.room.member", user_id))) is not None and ref.membership == "invite")
        ]

    async def set(self, who: Requester, told: Mapping[str, Any], is_shared: bool, enabled: bool) -> None:
        """Set a pusher. `told`: its members as the specification names them. Raises MatrixError."""
        self._check(told)
        pusher = Pusher(
            who.user_id,
            told["app_id"],
            told["pushkey"],
            who.device_id,
            orjson.dumps({name: value for name, value in told.items() if value is not None}),
            enabled,
            self.clock.now_ms(),
            self.hub.position,
        )
        mine = self._by_user.get(who.user_id, {})
        if pusher.key not in mine and len(mine) >= MOST_EACH:
            raise InvalidParam(f"There can be at most {MOST_EACH} pushers", "M_TOO_LARGE")
        for gone in await self.database.write(rows.put, pusher, is_shared):
            self._drop(gone.key)
        self._by_user.setdefault(who.user_id, {})[pusher.key] = pusher

    async def remove(self, key: Key) -> None:
        """Forget a pusher; one that is not there does not matter."""
        if "\0" in key[1] + key[2]:
            return
        self._drop(key)
        await self.database.write(rows.delete, *key)

    async def sent(self, key: Key, upto: int) -> None:
        """Everything up to a position was passed on."""
        await self.database.write(rows.sent, key, upto)

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        """These devices are gone (`homeserver.accounts.ports.DeviceListener`)."""
        for pusher in self.of(user_id):
            if pusher.device_id in device_ids:
                await self.remove(pusher.key)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account has none yet (`homeserver.accounts.ports.AccountListener`)."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        for pusher in self.of(user_id):
            self._drop(pusher.key)
        await self.database.write(rows.delete_all, user_id)

    def _drop(self, key: Key) -> None:
        mine = self._by_user.get(key[0], {})
        mine.pop(key, None)
        if not mine:
            self._by_user.pop(key[0], None)
        for listener in self.on_gone:
            listener(key)

    def _check(self, told: Mapping[str, Any]) -> None:
        if told["kind"] != "http":
            raise InvalidParam("'kind': only http is served here, and null to delete")
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
        url = data.get("url")
        if not isinstance(url, str):
            raise MissingParam("'data': an http pusher needs a `url`")
        try:
            target = parse_url(url)
        except BadUrl as error:
            raise InvalidParam(f"'data': {error}") from None
        if urlsplit(target.text).path != GATEWAY_PATH:
            raise InvalidParam(f"'data': the path of `url` is {GATEWAY_PATH}")
        if not target.encrypted and not self.allows_plain:
            raise InvalidParam("'data': `url` must be https")
