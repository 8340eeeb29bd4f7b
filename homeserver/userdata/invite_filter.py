"""Whose invitations people want: those of others are refused, or let in and not shown.

Spec: https://spec.matrix.org/v1.19/client-server-api/#invite-permission
MSC4155: https://github.com/matrix-org/matrix-spec-proposals/pull/4155 (lists of people and servers)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Protocol

import msgspec
import orjson

from federation.room.globs import matches
from federation.room.identifiers import server_of
from homeserver.errors import Forbidden
from homeserver.userdata.ignoring import Ignorance
from homeserver.userdata.known import Known
from storage.account_data import AccountDatum
from storage.database import Database

CONFIG = "m.invite_permission_config"
CONFIG_UNSTABLE = "org.matrix.msc4155.invite_permission_config"

Verdict = Literal["allow", "ignore", "block"]
"""Let in and shown; let in and shown to nobody; refused."""

MOST_PATTERNS = 1_000
"""Of one list, that count."""


class Invitees(Protocol):
    """Has a say in who invites people of this server."""

    async def check(self, inviter: str, invitee: str) -> None:
        """Raises Forbidden (`M_INVITE_BLOCKED`) where the invitee wants no invitation of that person's."""

    async def refuses(self, inviter: str, invitee: str) -> bool:
        """The same as an answer."""


class Anybody:
    """Where nobody minds."""

    async def check(self, inviter: str, invitee: str) -> None:
        return

    async def refuses(self, inviter: str, invitee: str) -> bool:
        return False


class InviteConfig(msgspec.Struct, frozen=True):
    """One person's wishes, understood."""

    rules: tuple[tuple[Verdict, bool, tuple[str, ...]], ...] = ()
    """In order, the first that fits counts: verdict, whether it is about servers, patterns."""
    default: Verdict = "allow"

    @classmethod
    def parse(cls, content: bytes | None) -> InviteConfig:
        """What makes no sense is as if it were not there."""
        given: Any = {} if content is None else orjson.loads(content)
        default: Verdict = "block" if given.get("default_action") == "block" else "allow"
        if given.get("enabled") is False:
            return cls(default=default)
        orders: tuple[tuple[Verdict, str], ...] = (("allow", "allowed"), ("ignore", "ignored"), ("block", "blocked"))
        rules = tuple(
            (verdict, kind == "servers", patterns)
            for kind in ("users", "servers")
            for verdict, name in orders
            if (patterns := _patterns(given, f"{name}_{kind}"))
        )
        return cls(rules, default)

    def judge(self, inviter: str) -> Verdict:
        """What becomes of an invitation by that user."""
        for verdict, is_about_servers, patterns in self.rules:
            name = server_of(inviter) if is_about_servers else inviter
            if any(matches(pattern, name) for pattern in patterns):
                return verdict
        return self.default


class Wishes(msgspec.Struct, frozen=True):
    """A person's wishes on invitations, with those whom they ignore altogether."""

    config: InviteConfig
    ignored: frozenset[str]

    def judge(self, inviter: str) -> Verdict:
        return "ignore" if inviter in self.ignored else self.config.judge(inviter)


class InviteFilter:
    """Knows the wishes of this server's people. A listener of `AccountData`."""

    def __init__(self, database: Database, ignoring: Ignorance, never: Collection[str] = ()) -> None:
        """`never`: accounts of the server's own, which nobody can invite."""
        self._never = frozenset(never)
        self._ignoring = ignoring
        self._configs = Known(database, CONFIG, _parse)
        self._unstable = Known(database, CONFIG_UNSTABLE, InviteConfig.parse)

    async def of(self, user_id: str) -> Wishes:
        """What somebody wishes now."""
        config = await self._configs.of(user_id) or await self._unstable.of(user_id)
        return Wishes(config, await self._ignoring.of(user_id))

    async def check(self, inviter: str, invitee: str) -> None:
        if await self.refuses(inviter, invitee):
            raise Forbidden(f"{invitee} does not want to be invited", "M_INVITE_BLOCKED")

    async def refuses(self, inviter: str, invitee: str) -> bool:
        return invitee in self._never or (await self.of(invitee)).judge(inviter) == "block"

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        self._configs.data_changed(user_id, datum)
        self._unstable.data_changed(user_id, datum)


def _parse(content: bytes | None) -> InviteConfig | Literal[False]:
    return False if content is None else InviteConfig.parse(content)


def _patterns(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    listed = given.get(name)
    return tuple(one for one in listed if isinstance(one, str))[:MOST_PATTERNS] if isinstance(listed, list) else ()
