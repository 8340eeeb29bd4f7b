"""Where people want their notifications sent, in memory and in the database.

A pusher goes with the device that set it, with the account, when its gateway no longer knows its key, and when somebody
else signs in on the same device (unless they ask for both).

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3pushersset
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from attrs import define, field

from homeserver.clock import Clock
from homeserver.errors import InvalidParam
from homeserver.http.route import Requester
from homeserver.push.kinds import EMAIL, check_pusher, leads_alike, needs_consent
from homeserver.rooms.live import LiveRoom
from homeserver.streams.hub import Hub
from storage import pushers as rows
from storage.database import Database
from storage.pushers import Pusher

MOST_EACH = 100

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

    async def start(self) -> None:
        """Read them."""
        for pusher in await self.database.run(rows.every):
            self._by_user.setdefault(pusher.user_id, {}).setdefault(pusher.key, pusher)

    def every(self) -> Sequence[Pusher]:
        return [pusher for mine in self._by_user.values() for pusher in mine.values()]

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

    async def set(self, who: Requester, told: Mapping[str, Any], is_shared: bool, enabled: bool) -> Pusher:
        """Set a pusher. `told`: its members as the specification names them. Raises MatrixError.

        Addresses are known to many: whoever sets one takes it from nobody. A pusher is activated if
        its kind needs no consent, or if there was consent for the very same one.
        """
        check_pusher(told, allows_plain=self.allows_plain)
        mine = self._by_user.get(who.user_id, {})
        before = mine.get((who.user_id, told["app_id"], told["pushkey"]))
        is_mail = told["kind"] == EMAIL
        token = secrets.token_urlsafe(32) if is_mail else None
        if is_mail and before is not None and before.token is not None:
            token = before.token  # links in letters that are out stay good
        pusher = Pusher(
            who.user_id,
            told["app_id"],
            told["pushkey"],
            who.device_id,
            orjson.dumps({name: value for name, value in told.items() if value is not None}),
            enabled,
            self.clock.now_ms(),
            self.hub.position,
            not needs_consent(told) or self.is_wanted(who.user_id, told),
            token,
        )
        if before is None and len(mine) >= MOST_EACH:
            raise InvalidParam(f"There can be at most {MOST_EACH} pushers", "M_TOO_LARGE")
        for gone in await self.database.write(rows.put, pusher, is_shared or is_mail):
            self._drop(gone.key)
        self._by_user.setdefault(who.user_id, {})[pusher.key] = pusher
        return pusher

    def is_wanted(self, user_id: str, told: Mapping[str, Any]) -> bool:
        """Whether a pusher needs no consent any more."""
        before = self.get((user_id, told["app_id"], told["pushkey"]))
        return before is not None and before.activated and leads_alike(before, told)

    async def activate(self, key: Key) -> None:
        """Where it leads wants it."""
        pusher = self.get(key)
        if pusher is None:
            return
        await self.database.write(rows.activate, key)
        if self.get(key) is pusher:
            self._by_user[key[0]][key] = msgspec.structs.replace(pusher, activated=True)

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
