"""What puts federation together, with nothing replaced and with everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import make_settings
from federation.keys.keyring import KeyUnavailable
from federation.keys.notary import Notary
from federation.keys.own import OwnKeys
from federation.outbound.https import HttpsTransport
from federation.outbound.transport import Request, Unreachable
from federation.outbound.trust import BadAuthorities
from federation.room.signing import SigningKey
from federation.threads import inline
from homeserver.clock import Clock
from homeserver.federation_api.all import FEDERATION_ROUTES
from homeserver.federation_api.build import build_federation
from homeserver.http.route import routes_of
from storage.database import Database
from tests.federation.doubles import Network
from tests.fixtures_db import SERVER_NAME, Pump
from tests.fixtures_house import StillReactor

KEY = SigningKey.generate("1")


def test_with_a_network_in_memory(database: Database, pump: Pump) -> None:
    reactor, network = StillReactor(), Network()
    clock = Clock(reactor.timers, lambda: 1_700_000_000_000)
    made = build_federation(
        make_settings({"profile": "test", "server": {"name": SERVER_NAME}}),
        database,
        clock,
        reactor,
        [KEY],
        hire=inline,
        transport=network,
    )
    pump.wait(made.start())
    with pytest.raises(KeyUnavailable):
        pump.wait(made.keyring.verify_key("dead.example", "ed25519:1", 0))
    assert (made.client.server_name, made.client.timeout_s) == (SERVER_NAME, 60)
    collaborators = made.collaborators()
    assert collaborators[OwnKeys] is made.own_keys
    assert collaborators[Notary] is made.notary
    pump.wait(made.close())


def test_the_real_one_refuses_what_the_settings_do_not_allow(database: Database, pump: Pump) -> None:
    reactor = StillReactor()
    made = build_federation(
        make_settings({"profile": "production", "server": {"name": SERVER_NAME}}),
        database,
        Clock(reactor.timers, lambda: 1_700_000_000_000),
        reactor,
        [KEY],
        hire=inline,
    )
    assert isinstance(made.transport, HttpsTransport)
    for name in ("127.0.0.1:8448", "[::1]", "10.0.0.1", "192.168.0.1:443", "[fe80::1]"):
        with pytest.raises(Unreachable, match="private address"):
            pump.wait(made.transport.send(Request(name, "GET", "/")))
    pump.wait(made.close())


def test_authorities_that_cannot_be_read(database: Database, tmp_path: Path) -> None:
    reactor = StillReactor()
    ours = {"ca_path": str(tmp_path / "nowhere.pem")}
    with pytest.raises(BadAuthorities, match=r"nowhere\.pem"):
        build_federation(
            make_settings({"server": {"name": SERVER_NAME}, "federation": ours}),
            database,
            Clock(reactor.timers),
            reactor,
            [KEY],
            hire=inline,
        )


def test_every_module_of_the_list_has_routes() -> None:
    assert all(routes_of(module) for module in FEDERATION_ROUTES)
