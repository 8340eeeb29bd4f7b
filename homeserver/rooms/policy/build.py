"""Puts together what has to do with policy servers: asking them, and being one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from federation.outbound.client import FederationClient
from federation.outbound.patience import Patience
from federation.outbound.policy import MOST_WAITING, PolicyQueries
from federation.room.policy import KEY_ID
from federation.room.signing import SigningKey
from homeserver.keyfile import read_key_file, replace_key_file
from homeserver.rooms.accept import Door
from homeserver.rooms.policy.desk import Desk
from homeserver.rooms.policy.guard import Guard
from homeserver.rooms.policy.rules import RoomRules
from homeserver.rooms.receive.gather import Gatherer
from homeserver.rooms.receive.judge import Judge
from homeserver.rooms.receive.known import KnownEvents
from homeserver.rooms.serve.access import PeerAccess


class PolicyParts(msgspec.Struct, frozen=True):
    """Made by `build_policy`."""

    guard: Guard
    desk: Desk
    patience: Patience
    """Wants to know which servers are heard of."""


def build_policy(
    door: Door,
    client: FederationClient,
    access: PeerAccess,
    gatherer: Gatherer,
    judge: Judge,
    known: KnownEvents,
    key: SigningKey | None,
) -> PolicyParts:
    server_name, events = door.identity.server_name, door.events
    patience = Patience(door.clock.now_ms, MOST_WAITING, MOST_WAITING)
    desk = Desk(server_name, key, events, access, gatherer)
    desk.rules.append(RoomRules(access, judge, known))
    return PolicyParts(Guard(server_name, events, PolicyQueries(client, patience), desk), desk, patience)


def read_policy_key(path: Path | None) -> SigningKey | None:
    """The key that this server signs with as a policy server; a file that is not there is made.

    Raises OSError, BadSigningKey.
    """
    if path is None:
        return None
    version = KEY_ID.partition(":")[2]
    if not path.exists():
        replace_key_file(path, SigningKey.generate(version))
    return SigningKey.from_seed(version, read_key_file(path)[0].seed)
