"""All of accounts put together: built once, in the order in which the parts need each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorFromThreads

from config import Settings
from federation.service import service
from homeserver.accounts.changes import AccountChanges
from homeserver.accounts.credentials import Credentials
from homeserver.accounts.devices import Devices
from homeserver.accounts.interactive import DummyStage, InteractiveAuth, PasswordStage, Stage
from homeserver.accounts.last_seen import LastSeen
from homeserver.accounts.login import Login
from homeserver.accounts.openid import OpenIdTokens
from homeserver.accounts.passwords import Passwords
from homeserver.accounts.ports import DeviceBook, Listeners
from homeserver.accounts.registration import Registration
from homeserver.accounts.registration_tokens import RegistrationTokens, RegistrationTokenStage
from homeserver.accounts.sessions import Sessions
from homeserver.accounts.shared_secret import SharedSecretRegistration
from homeserver.clock import Clock
from homeserver.http.limits import RateLimiter
from homeserver.tasks import Tasks
from storage.database import Database


@service
class Accounts:
    """The parts that others use, and the listeners to which they may add themselves."""

    listeners: Listeners
    passwords: Passwords
    last_seen: LastSeen
    sessions: Sessions
    devices: Devices
    credentials: Credentials
    login: Login
    interactive: InteractiveAuth
    registration_tokens: RegistrationTokens
    registration: Registration
    shared_secret: SharedSecretRegistration
    changes: AccountChanges
    openid: OpenIdTokens

    def collaborators(self) -> Mapping[type[Any], object]:
        """What the handlers of `homeserver.client` take of this."""
        parts = (
            self.sessions,
            self.devices,
            self.login,
            self.registration_tokens,
            self.registration,
            self.shared_secret,
            self.changes,
            self.passwords,
            self.interactive,
            self.openid,
        )
        return {type(part): part for part in parts}

    async def close(self) -> None:
        """Write down what is only in memory and end the threads. The database must still be open."""
        await self.last_seen.flush()
        self.passwords.close()


def build_accounts(
    settings: Settings,
    database: Database,
    clock: Clock,
    limits: RateLimiter,
    tasks: Tasks,
    reactor: IReactorFromThreads,
    book: DeviceBook,
    reserved: Collection[str] = (),
) -> Accounts:
    """Put the parts together. `reactor` is for the threads that hash passwords; nobody registers what is `reserved`."""
    server_name = settings.server.name
    listeners = Listeners()
    passwords = Passwords(settings.passwords, reactor)
    last_seen = LastSeen(database, clock, tasks)
    sessions = Sessions(database, clock, settings.sessions, listeners, last_seen, book)
    credentials = Credentials(database, passwords, limits, server_name)
    tokens = RegistrationTokens(database, clock, settings.registration.tokens)
    stages: list[Stage] = [DummyStage(), PasswordStage(credentials), RegistrationTokenStage(tokens, limits)]
    interactive = InteractiveAuth(clock, {stage.type: stage for stage in stages})
    registration = Registration(
        database, clock, settings.registration, server_name, passwords, tokens, interactive, limits, listeners, reserved
    )
    return Accounts(
        listeners=listeners,
        passwords=passwords,
        last_seen=last_seen,
        sessions=sessions,
        devices=Devices(database, last_seen, book),
        credentials=credentials,
        login=Login(credentials, sessions, limits),
        interactive=interactive,
        registration_tokens=tokens,
        registration=registration,
        shared_secret=SharedSecretRegistration(settings.registration.shared_secret, clock, registration),
        changes=AccountChanges(database, passwords, sessions, interactive, listeners),
        openid=OpenIdTokens(database, clock, server_name),
    )
