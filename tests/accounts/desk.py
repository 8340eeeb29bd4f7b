"""The front desk of a server: real accounts over a real database, asked over HTTP without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Timers

from config import Passwords, RateLimits, Registration, Server, Sessions, Settings
from homeserver.about import About
from homeserver.accounts.service import Accounts, build_accounts
from homeserver.client import (
    account,
    admin_register,
    auth_fallback,
    capabilities,
    devices,
    health,
    landing,
    login,
    openid,
    register,
    versions,
    wellknown,
    whoami,
)
from homeserver.clock import Clock
from homeserver.encryption.build import build_devices
from homeserver.federation_api import openid as userinfo
from homeserver.http.limits import RateLimiter
from homeserver.http.site import Site
from homeserver.http.table import RouteTable
from homeserver.streams.hub import Hub
from homeserver.tasks import Tasks
from storage.database import Database
from tests.fixtures_db import SERVER_NAME, Pump
from tests.http.wire import Connection, Response, request

V3 = "/_matrix/client/v3"
PASSWORD = "correct horse battery"
MODULES = [
    account,
    admin_register,
    auth_fallback,
    capabilities,
    devices,
    health,
    landing,
    login,
    openid,
    register,
    userinfo,
    versions,
    wellknown,
    whoami,
]


def open_settings(**sections: Any) -> Settings:
    """A server with open registration, no limits and cheap hashing; `sections` replace whole sections."""
    usual: dict[str, Any] = {
        "server": Server(name=SERVER_NAME),
        "registration": Registration(enabled=True),
        "passwords": Passwords(argon2_time_cost=1, argon2_memory_kib=8),
        "rate_limits": RateLimits(enabled=False),
        "sessions": Sessions(),
    }
    return Settings(**{**usual, **sections})


@define
class Ear:
    """Hears what accounts tell, and writes it all into one list."""

    heard: list[tuple[Any, ...]] = field(factory=list)

    async def account_registered(self, user_id: str, displayname: str | None) -> None:
        self.heard.append(("registered", user_id, displayname))

    async def account_deactivated(self, user_id: str, *, erase: bool) -> None:
        self.heard.append(("deactivated", user_id, erase))

    async def devices_removed(self, user_id: str, device_ids: Sequence[str]) -> None:
        self.heard.append(("devices removed", user_id, list(device_ids)))


@define
class Desk:
    accounts: Accounts
    database: Database
    pump: Pump
    timers: Timers
    site: Site
    ear: Ear
    answered: Deferred[None] | None = None

    @classmethod
    def open(cls, database: Database, pump: Pump, settings: Settings | None = None) -> Desk:
        settings = settings or open_settings()
        timers = Timers()
        timers.advance(1_000_000)
        clock = Clock(timers, lambda: int(timers.seconds() * 1000))
        limits = RateLimiter.of(settings.rate_limits, clock)
        hub = Hub(clock, database.counters.position - 1)
        database.on_commit(hub.committed)
        devices = build_devices(settings, database, hub)
        accounts = build_accounts(settings, database, clock, limits, Tasks(), pump, devices.lists)
        ear = Ear()
        accounts.listeners.accounts.append(ear)
        accounts.listeners.devices.append(ear)
        collaborators = {**accounts.collaborators(), About: About(settings), Database: database}
        table = RouteTable(MODULES, collaborators)
        desk: Desk

        def on_answer(method: str, pattern: str, status: int, seconds: float) -> None:
            if desk.answered is not None:
                desk.answered.callback(None)

        site = Site(table, accounts.sessions.authenticate, limits, reactor=timers, on_answer=on_answer)
        desk = cls(accounts, database, pump, timers, site, ear)
        return desk

    def ask(
        self, method: str, path: str, body: object = None, *, token: str | None = None, address: str = "192.0.2.7"
    ) -> Response:
        """One request and its answer."""
        connection = Connection(self.site, address)
        self.answered = Deferred()
        connection.send(request(method, path, body, token=token, headers={"User-Agent": "tester"}))
        self.pump.wait(self.answered)
        self.answered = None
        (response,) = connection.responses()
        connection.hang_up()
        return response

    def post(self, path: str, body: object = None, **more: Any) -> Response:
        return self.ask("POST", f"{V3}{path}", {} if body is None else body, **more)

    def get(self, path: str, **more: Any) -> Response:
        return self.ask("GET", f"{V3}{path}", **more)

    def register(self, name: str, **fields: object) -> Mapping[str, Any]:
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}, **fields}
        response = self.post("/register", body)
        assert response.status == 200, response.body
        found: Mapping[str, Any] = response.json
        return found

    def login(self, name: str, password: str = PASSWORD, **fields: object) -> Response:
        identifier = {"type": "m.id.user", "user": name}
        body = {"type": "m.login.password", "identifier": identifier, "password": password, **fields}
        return self.post("/login", body)

    def works(self, token: str) -> bool:
        """Whether a token lets in."""
        response = self.get("/account/whoami", token=token)
        assert response.status == 200 or response.errcode == "M_UNKNOWN_TOKEN"
        return response.status == 200

    def later(self, seconds: float) -> None:
        self.timers.advance(seconds)


def with_secret(secret: str | None) -> Settings:
    settings = open_settings()
    return attrs.evolve(settings, registration=Registration(enabled=False, shared_secret=secret))
