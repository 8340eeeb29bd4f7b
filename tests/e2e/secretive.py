"""People whose clients encrypt: matrix-nio with vodozemac, which we did not write, and what nio leaves to others.

    async with company(server) as enter:
        alice = await enter("alice")              # an account and a device with keys
        tablet = await enter("alice")             # a device more of the same person
        await settle(alice, tablet)

nio knows no key backup; `Backup` makes one with vodozemac's cryptography and plain requests, as
https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import nio
import vodozemac
from attrs import frozen
from nio.crypto import InboundGroupSession
from nio.store import SqliteMemoryStore

from tests.fixtures_server import ServerProcess

T = TypeVar("T")

PASSWORD = "a good password"
PATIENCE_S = 90.0
BACKUP = "m.megolm_backup.v1.curve25519-aes-sha2"
KEYS = "/_matrix/client/v3/room_keys"
_CONFIG = nio.AsyncClientConfig(store=SqliteMemoryStore, encryption_enabled=True)


class Enter(Protocol):
    async def __call__(self, name: str, *, known: bool = False) -> nio.AsyncClient:
        """Somebody new; or on a device more, where they came in here before or are `known` from elsewhere."""


def ok(response: object, wanted: type[T]) -> T:
    """The response, if it is the one that success has."""
    assert isinstance(response, wanted), response
    return response


def play(story: Coroutine[Any, Any, None]) -> None:
    """Play a story in a thread of its own: the one that calls belongs to the tests' reactor. Raises TimeoutError where
    somebody waits for what never comes."""
    with ThreadPoolExecutor(1) as stage:
        stage.submit(asyncio.run, asyncio.wait_for(story, PATIENCE_S)).result()


@contextlib.asynccontextmanager
async def company(server: ServerProcess) -> AsyncIterator[Enter]:
    """Gives what lets people in: the first time by an account, then on one device after the other."""
    clients: list[nio.AsyncClient] = []

    async def enter(name: str, *, known: bool = False) -> nio.AsyncClient:
        user_id = f"@{name}:{server.name}"
        known = known or any(client.user_id == user_id for client in clients)
        client = nio.AsyncClient(server.base, user_id, config=_CONFIG)
        clients.append(client)
        if known:
            ok(await client.login(PASSWORD), nio.LoginResponse)
        else:
            ok(await client.register(name, PASSWORD), nio.RegisterResponse)
        await turn(client)
        return client

    try:
        yield enter
    finally:
        for client in clients:
            await client.close()


async def turn(client: nio.AsyncClient) -> list[nio.Event]:
    """One round of a client's life: sync, and do what follows from it for encryption. What was said in the rooms."""
    response = ok(await client.sync(timeout=0), nio.SyncResponse)
    for answer in await client.send_to_device_messages():
        ok(answer, nio.ToDeviceResponse)
    if client.should_upload_keys:
        ok(await client.keys_upload(), nio.KeysUploadResponse)
    if client.should_query_keys:
        ok(await client.keys_query(), nio.KeysQueryResponse)
    if client.should_claim_keys:
        ok(await client.keys_claim(client.get_users_for_key_claiming()), nio.KeysClaimResponse)
    return [event for room in response.rooms.join.values() for event in room.timeline.events]


async def until(look: Callable[[], object], *clients: nio.AsyncClient) -> None:
    """Let them live until it is so."""
    while not look():
        for client in clients:
            await turn(client)


async def hear(client: nio.AsyncClient, text: str) -> nio.RoomMessageText:
    """Until somebody says so, readably; the event."""
    while True:
        for event in await turn(client):
            if isinstance(event, nio.RoomMessageText) and event.body == text:
                return event


async def say(client: nio.AsyncClient, room_id: str, text: str) -> str:
    """To whoever is verified; nio refuses where a device in the room is not. The event id."""
    content = {"msgtype": "m.text", "body": text}
    return str(ok(await client.room_send(room_id, "m.room.message", content), nio.RoomSendResponse).event_id)


async def verify(one: nio.AsyncClient, other: nio.AsyncClient) -> None:
    """Both compare seven emoji, over messages from device to device."""
    device = one.device_store[other.user_id][other.device_id]
    ok(await one.start_key_verification(device), nio.ToDeviceResponse)
    (number,) = [key for key, sas in one.key_verifications.items() if sas.other_olm_device is device]
    await until(lambda: number in other.key_verifications, other)
    ok(await other.accept_key_verification(number), nio.ToDeviceResponse)
    await until(lambda: all(who.key_verifications[number].established_sas for who in (one, other)), one, other)
    mine, theirs = (who.key_verifications[number].get_emoji() for who in (one, other))
    assert mine == theirs and len(mine) == 7
    for who in (one, other):
        ok(await who.confirm_short_auth_string(number), nio.ToDeviceResponse)
    await until(lambda: device.verified and other.device_store[one.user_id][one.device_id].verified, one, other)


# -- what nio does not do -------------------------------------------------------------------------------------------


async def ask(client: nio.AsyncClient, method: str, path: str, body: object = None) -> Any:
    """A plain request with the client's token, which must succeed; its JSON."""
    data = None if body is None else json.dumps(body)
    headers = {"Authorization": f"Bearer {client.access_token}"}
    answer = await client.send(method, path, data, headers)
    assert answer.status == 200, await answer.text()
    return await answer.json()


@frozen
class Backup:
    """A backup as the device sees it that has the secret, or learnt it from the person's recovery key."""

    version: str
    secret: vodozemac.Curve25519SecretKey

    @classmethod
    async def founded(cls, client: nio.AsyncClient) -> Backup:
        """A new one, signed by the device."""
        secret = vodozemac.Curve25519SecretKey()
        auth_data: dict[str, Any] = {"public_key": secret.public_key().to_base64()}
        assert client.olm is not None
        signature = client.olm.sign_json(auth_data)
        auth_data["signatures"] = {client.user_id: {f"ed25519:{client.device_id}": signature}}
        made = await ask(client, "POST", f"{KEYS}/version", {"algorithm": BACKUP, "auth_data": auth_data})
        return cls(made["version"], secret)

    @classmethod
    async def opened(cls, client: nio.AsyncClient, secret: vodozemac.Curve25519SecretKey) -> Backup:
        """The person's current one, which this secret must belong to."""
        found = await ask(client, "GET", f"{KEYS}/version")
        assert found["algorithm"] == BACKUP
        assert found["auth_data"]["public_key"] == secret.public_key().to_base64()
        return cls(found["version"], secret)

    async def keep(self, client: nio.AsyncClient) -> int:
        """Put all sessions that the device knows into it; how many it has then."""
        assert client.olm is not None
        public = vodozemac.PkEncryption.from_key(self.secret.public_key())
        rooms: dict[str, dict[str, Any]] = {}
        for session in client.olm.inbound_group_store:
            plain = {
                "algorithm": "m.megolm.v1.aes-sha2",
                "forwarding_curve25519_key_chain": session.forwarding_chain,
                "sender_claimed_keys": {"ed25519": session.ed25519},
                "sender_key": session.sender_key,
                "session_key": session.export_session(session.first_known_index),
            }
            ephemeral, mac, ciphertext = public.encrypt(json.dumps(plain).encode()).to_base64()
            rooms.setdefault(session.room_id, {})[session.id] = {
                "first_message_index": session.first_known_index,
                "forwarded_count": 0,
                "is_verified": True,
                "session_data": {"ciphertext": ciphertext, "mac": mac, "ephemeral": ephemeral},
            }
        body = {"rooms": {room_id: {"sessions": sessions} for room_id, sessions in rooms.items()}}
        answer = await ask(client, "PUT", f"{KEYS}/keys?version={self.version}", body)
        return int(answer["count"])

    async def restore(self, client: nio.AsyncClient) -> int:
        """Give the device all sessions that are in it; how many these were."""
        found = await ask(client, "GET", f"{KEYS}/keys?version={self.version}")
        sessions = [
            self._open(room_id, session_id, kept)
            for room_id, room in found["rooms"].items()
            for session_id, kept in room["sessions"].items()
        ]
        assert client.olm is not None
        for session in sessions:
            client.olm.inbound_group_store.add(session)
        return len(sessions)

    def _open(self, room_id: str, session_id: str, kept: Mapping[str, Any]) -> InboundGroupSession:
        data = kept["session_data"]
        message = vodozemac.Message.from_base64(data["ciphertext"], data["mac"], data["ephemeral"])
        plain = json.loads(vodozemac.PkDecryption.from_key(self.secret).decrypt(message))
        session = InboundGroupSession.import_session(
            plain["session_key"], plain["sender_claimed_keys"]["ed25519"], plain["sender_key"], room_id
        )
        assert session.id == session_id
        return session
