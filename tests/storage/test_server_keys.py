"""Keys of servers in both databases."""

from __future__ import annotations

import pytest

from federation.keys.ports import OwnKey
from federation.keys.response import KeyResponse, ServerKey
from storage import server_keys
from storage.database import Database
from tests.fixtures_db import Pump

PEER = "peer.example"


def key(key_id: str, valid_until_ts: int = 100, verify_key: bytes = b"k" * 32, server: str = PEER) -> ServerKey:
    return ServerKey(server, f"ed25519:{key_id}", verify_key, valid_until_ts)


def response(body: bytes, *keys: ServerKey, fetched_ts: int = 1, valid_until_ts: int = 100) -> KeyResponse:
    return KeyResponse(keys[0].server_name, valid_until_ts, fetched_ts, keys, body)


class Shelf:
    """The keys of one database."""

    def __init__(self, database: Database, pump: Pump) -> None:
        self._database = database
        self._pump = pump

    def save(self, one: KeyResponse, *, direct: bool = True) -> None:
        self._pump.wait(self._database.write(server_keys.save, one, direct=direct))

    def read(self, *key_ids: str, server: str = PEER) -> list[ServerKey]:
        wanted = [(server, f"ed25519:{key_id}") for key_id in key_ids]
        found = self._pump.wait(self._database.run(server_keys.read, wanted))
        assert all((one.server_name, one.key_id) == name for name, one in found.items())
        return [found[name] for name in wanted if name in found]

    def kept(self, server: str = PEER) -> list[tuple[bytes, list[str], int]]:
        found = self._pump.wait(self._database.run(server_keys.responses, server))
        return [(one.body, sorted(one.key_ids), one.fetched_ts) for one in found]

    def update_own(self, now_ms: int, *in_use: OwnKey) -> list[OwnKey]:
        return self._pump.wait(self._database.write(server_keys.update_own, in_use, now_ms))


@pytest.fixture
def shelf(database: Database, pump: Pump) -> Shelf:
    return Shelf(database, pump)


def test_keys_come_back(shelf: Shelf) -> None:
    assert shelf.read("a") == []
    assert shelf.read() == []
    shelf.save(response(b"{}", key("a"), key("old", 5, b"o" * 32)))
    shelf.save(response(b"{}", key("a", server="other.example")))
    assert shelf.read("a", "old", "nothing") == [key("a"), key("old", 5, b"o" * 32)]
    assert shelf.read("old", server="other.example") == []
    assert shelf.kept() == [(b"{}", ["ed25519:a", "ed25519:old"], 1)]


def test_its_own_word_replaces_what_was_known(shelf: Shelf) -> None:
    shelf.save(response(b"1", key("a", 100)))
    shelf.save(response(b"2", key("a", 50, b"n" * 32), fetched_ts=2))
    assert shelf.read("a") == [key("a", 50, b"n" * 32)]
    assert shelf.kept() == [(b"2", ["ed25519:a"], 2)]


def test_a_notary_only_adds(shelf: Shelf) -> None:
    shelf.save(response(b"1", key("a", 100)))
    shelf.save(response(b"2", key("a", 99), key("b", 99), fetched_ts=2, valid_until_ts=99), direct=False)
    assert shelf.read("a", "b") == [key("a", 100), key("b", 99)]
    assert shelf.kept() == [(b"1", ["ed25519:a"], 1), (b"2", ["ed25519:b"], 2)]
    shelf.save(response(b"3", key("a", 101), fetched_ts=3, valid_until_ts=101), direct=False)
    assert shelf.read("a") == [key("a", 101)]
    shelf.save(response(b"4", key("a", 101), fetched_ts=4, valid_until_ts=101), direct=False)
    assert [body for body, *_ in shelf.kept()] == [b"3", b"2"], "a response that says nothing new is not kept"


def test_the_same_response_again_is_only_newer(shelf: Shelf) -> None:
    shelf.save(response(b"1", key("a")))
    shelf.save(response(b"1", key("a", 200), fetched_ts=7, valid_until_ts=200))
    assert shelf.kept() == [(b"1", ["ed25519:a"], 7)]
    assert shelf.read("a") == [key("a", 200)]


def test_a_response_stays_while_a_key_stood_in_it_last(shelf: Shelf) -> None:
    shelf.save(response(b"1", key("a"), key("b")))
    shelf.save(response(b"2", key("b"), key("c"), fetched_ts=2, valid_until_ts=200))
    assert shelf.kept() == [(b"2", ["ed25519:b", "ed25519:c"], 2), (b"1", ["ed25519:a"], 1)]
    shelf.save(response(b"3", key("a"), fetched_ts=3, valid_until_ts=300))
    assert [body for body, *_ in shelf.kept()] == [b"3", b"2"]


def test_many_servers_at_once(shelf: Shelf, database: Database, pump: Pump) -> None:
    names = [f"peer{number}.example" for number in range(1000)]
    for name in names[::10]:
        shelf.save(response(b"{}", key("a", server=name)))
    found = pump.wait(database.run(server_keys.read, [(name, "ed25519:a") for name in names]))
    assert sorted(name for name, _ in found) == sorted(names[::10])


def test_own_keys_over_rotations(shelf: Shelf) -> None:
    first, second = OwnKey("ed25519:1", b"1" * 32, None), OwnKey("ed25519:2", b"2" * 32, None)
    assert shelf.update_own(10, first) == []
    assert shelf.update_own(20, first) == []
    assert shelf.update_own(30, second) == [OwnKey("ed25519:1", b"1" * 32, 30)]
    assert shelf.update_own(40, second) == [OwnKey("ed25519:1", b"1" * 32, 30)]
    assert shelf.update_own(50, first) == [OwnKey("ed25519:2", b"2" * 32, 50)]
    assert shelf.update_own(60, first, second) == []
