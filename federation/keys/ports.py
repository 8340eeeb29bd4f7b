"""What the key ring needs: somewhere to keep keys, and somebody to ask for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from federation.keys.response import KeyResponse, ServerKey

KeyName = tuple[str, str]
"""A server's name and a key's id."""


class KeptResponse(msgspec.Struct, frozen=True):
    """The newest response of a server in which certain keys stood, for those who ask this server as a notary."""

    fetched_ts: int
    valid_until_ts: int
    body: bytes
    key_ids: frozenset[str]


class OwnKey(msgspec.Struct, frozen=True):
    """A key that this server signs with, or did."""

    key_id: str
    verify_key: bytes
    expired_ts: int | None
    """When this server was first started without it; None while it is in use."""


class KeyStore(Protocol):
    """Keeps keys over restarts."""

    async def read(self, wanted: Collection[KeyName]) -> Mapping[KeyName, ServerKey]:
        """Those that are there."""

    async def save(self, response: KeyResponse, *, direct: bool) -> None:
        """Keep a response and its keys. One that came by a notary never shortens what is known of a key."""

    async def responses(self, server_name: str) -> Sequence[KeptResponse]:
        """Everything that is kept of a server's own word, newest first."""

    async def update_own(self, in_use: Sequence[OwnKey], now_ms: int) -> Sequence[OwnKey]:
        """Keep the keys that this server signs with now; those it did before are expired from now on. Gives those."""


class KeyFetcher(Protocol):
    """Gets key responses from elsewhere."""

    async def fetch(self, server_name: str) -> KeyResponse:
        """From the server itself. Raises `PeerError`, also for a response that cannot be believed."""

    async def ask_notary(
        self, notary: str, wanted: Mapping[str, Mapping[str, int]], notary_keys: Mapping[str, bytes]
    ) -> Sequence[KeyResponse]:
        """From a notary: for each server and key id, `minimum_valid_until_ts`. Raises `PeerError`.

        What neither the notary (by one of `notary_keys`) nor the server itself has signed is left out.
        """
