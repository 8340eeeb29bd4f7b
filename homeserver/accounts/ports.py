"""What accounts tell the rest of the house: stated here, implemented above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import attrs

from storage.ports import Cursor

T = TypeVar("T")


class AccountListener(Protocol):
    """Wants to know who comes and goes. What it does is awaited before the client is answered."""

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        """A new account, guests' too; `displayname` is given where whoever made it chose one."""

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        """An account is closed for good: it leaves all rooms; with `erase` everything of the person is wiped out.

        The account can no longer be used when this is called. It may be called again for the same account.
        """


class DeviceChanges(Protocol):
    """One transaction that does something to the devices of one person. It is told what, when it is done."""

    @property
    def cursor(self) -> Cursor: ...

    def added(self, device_id: str) -> None: ...

    def changed(self, device_id: str) -> None: ...

    def removed(self, device_ids: Sequence[str]) -> None: ...


class DeviceBook(Protocol):
    """Keeps track of everybody's devices for those who have to do with them."""

    async def write(self, user_id: str, work: Callable[[DeviceChanges], T]) -> T:
        """Call `work` in the writer's thread, perhaps twice; what else must be written goes into the same transaction.

        Answers when that is durable.
        """


class DeviceListener(Protocol):
    """Wants to know which devices are gone, to end what they wait for and drop what was kept for them."""

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None: ...


@attrs.define
class Listeners:
    """Everybody who wants to know, in the order in which they are told. Add to the lists when the house is built."""

    accounts: list[AccountListener] = attrs.field(factory=list)
    devices: list[DeviceListener] = attrs.field(factory=list)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        for listener in self.accounts:
            await listener.account_registered(user_id, displayname)

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        for listener in self.accounts:
            await listener.account_deactivated(user_id, erase=erase)

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        if device_ids:
            for listener in self.devices:
                await listener.devices_removed(user_id, device_ids)
