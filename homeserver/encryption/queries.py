"""`keys/query`: the devices of people and the keys by which they vouch for each other, from here and from elsewhere.

Spec: https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from attrs import define

from federation.room.identifiers import InvalidIdentifier, parse_user_id, server_of
from homeserver.encryption.claims import Claimed, KeyClaims, Wanted
from homeserver.encryption.rendering import read_public_keys
from homeserver.errors import InvalidParam
from storage import accounts as account_rows
from storage.database import Database
from storage.device_keys import MASTER, SELF_SIGNING, USER_SIGNING
from storage.ports import Cursor

DEFAULT_TIMEOUT_MS = 10_000
MOST_PEOPLE = 5_000
"""In one request."""

Asked = Mapping[str, Sequence[str]]
"""User id → device ids; none means all."""
ByUser = dict[str, Any]


class Answer(msgspec.Struct, frozen=True):
    """What is known of some people's keys."""

    device_keys: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """User id → device id → keys."""
    master_keys: ByUser = msgspec.field(default_factory=dict)
    self_signing_keys: ByUser = msgspec.field(default_factory=dict)
    user_signing_keys: ByUser = msgspec.field(default_factory=dict)
    failures: ByUser = msgspec.field(default_factory=dict)
    """Servers that could not be asked."""

    def add(self, other: Answer) -> None:
        for name in ("device_keys", "master_keys", "self_signing_keys", "user_signing_keys", "failures"):
            getattr(self, name).update(getattr(other, name))


class ClaimAnswer(msgspec.Struct, frozen=True):
    one_time_keys: Claimed
    failures: ByUser


class Elsewhere(Protocol):
    """Asks other servers for what is theirs."""

    async def query(self, viewer: str, asked: Asked, timeout_ms: int) -> Answer: ...

    async def claim(self, wanted: Wanted, timeout_ms: int) -> ClaimAnswer: ...


class NobodyElsewhere:
    """For a server that keeps to itself: people of other servers are unknown."""

    async def query(self, viewer: str, asked: Asked, timeout_ms: int) -> Answer:
        return Answer()

    async def claim(self, wanted: Wanted, timeout_ms: int) -> ClaimAnswer:
        return ClaimAnswer({}, {})


@define(eq=False)
class KeyQueries:
    """Answers clients."""

    _database: Database
    _server_name: str
    _claims: KeyClaims
    _elsewhere: Elsewhere

    async def query(self, viewer: str, asked: Asked, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> Answer:
        """The keys of some people as `viewer` may see them. Raises InvalidParam for what is no user id."""
        here, there = self._sort(asked, "device_keys")
        answer = Answer()
        if here:
            answer.add(await self._database.run(read_answer, {user_id: asked[user_id] for user_id in here}, viewer))
        if there:
            answer.add(await self._elsewhere.query(viewer, {user_id: asked[user_id] for user_id in there}, timeout_ms))
        return answer

    async def claim(self, wanted: Wanted, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> ClaimAnswer:
        """A one-time key of each device that has one. Raises InvalidParam for what is no user id."""
        here, there = self._sort(wanted, "one_time_keys")
        found = ClaimAnswer({}, {})
        if here:
            found.one_time_keys.update(await self._claims.claim({user_id: wanted[user_id] for user_id in here}))
        if there:
            theirs = await self._elsewhere.claim({user_id: wanted[user_id] for user_id in there}, timeout_ms)
            found.one_time_keys.update(theirs.one_time_keys)
            found.failures.update(theirs.failures)
        return found

    def _sort(self, users: Collection[str], where: str) -> tuple[list[str], list[str]]:
        """Those of this server, and those of others."""
        if len(users) > MOST_PEOPLE:
            raise InvalidParam(f"`{where}` names more than {MOST_PEOPLE} people")
        here: list[str] = []
        there: list[str] = []
        for user_id in users:
            try:
                is_here = server_of(parse_user_id(user_id)) == self._server_name
            except InvalidIdentifier as error:
                raise InvalidParam(f"`{where}`: {error}") from None
            (here if is_here else there).append(user_id)
        return here, there


def read_answer(cursor: Cursor, asked: Asked, viewer: str | None, *, show_names: bool = True) -> Answer:
    """What is known of people here, as `viewer` may see it (None: another server). In a database thread.

    Somebody without any keys has an empty entry; who has no account here has none.
    """
    public = read_public_keys(cursor, list(asked), viewer)
    known = account_rows.existing(cursor, list(asked))
    device_keys = {
        user_id: {
            keys.device_id: public.device(keys, show_name=show_names)
            for keys in public.devices.get(user_id, ())
            if not device_ids or keys.device_id in device_ids
        }
        for user_id, device_ids in asked.items()
        if user_id in known
    }
    own = [] if viewer is None or viewer not in asked else [viewer]
    return Answer(
        device_keys,
        public.keys(asked, MASTER),
        public.keys(asked, SELF_SIGNING),
        public.keys(own, USER_SIGNING),
    )
