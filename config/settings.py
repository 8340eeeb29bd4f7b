"""All settings of one server, and the profiles that change many of them at once."""

from __future__ import annotations

from typing import Any, Literal

from attrs import frozen

from config.database import Database
from config.email import Email
from config.federation import Federation
from config.field import not_empty, setting
from config.gateway import Gateway
from config.limits import Limits
from config.listeners import Listener
from config.logs import Logging
from config.media import Media
from config.memory import Memory
from config.metrics import Metrics
from config.passwords import Passwords
from config.presence import Presence
from config.previews import Previews
from config.rate_limits import RateLimits
from config.registration import Registration
from config.retention import Retention
from config.rooms import Rooms
from config.server import Server
from config.sessions import Sessions
from config.transcription import Transcription
from config.voip import Voip
from config.web import Web

Profile = Literal["production", "dev", "test"]


@frozen(kw_only=True)
class Settings:
    """Everything that can be set. `load_settings` makes one; tests may build it directly."""

    profile: Profile = setting(
        "production",
        doc="What the defaults below are made for. production: a server on the internet. dev: a server for yourself "
        "on this machine, with open registration. test: for test suites and measurements, with everything open: "
        "open registration, no rate limits, cheap password hashing, loopback peers, no notaries, names of devices "
        "told to everybody, anybody may publish rooms.",
        live=True,
    )
    server: Server = setting(doc="")
    listeners: tuple[Listener, ...] = setting(
        (Listener(),),
        doc="Addresses on which the server answers, each with host, port, tls (certificate_path and key_path, to speak "
        "HTTPS itself; files that change are read again), forwarded (true behind a reverse proxy that sets "
        "X-Forwarded-For) and trusted_proxies (the addresses or ranges of such proxies; nobody else is believed).",
        check=not_empty,
    )
    database: Database = setting(factory=Database, doc="")
    registration: Registration = setting(factory=Registration, doc="")
    passwords: Passwords = setting(factory=Passwords, doc="")
    sessions: Sessions = setting(factory=Sessions, doc="")
    rooms: Rooms = setting(factory=Rooms, doc="")
    retention: Retention = setting(factory=Retention, doc="")
    presence: Presence = setting(factory=Presence, doc="")
    federation: Federation = setting(factory=Federation, doc="")
    web: Web = setting(factory=Web, doc="")
    media: Media = setting(factory=Media, doc="")
    previews: Previews = setting(factory=Previews, doc="")
    transcription: Transcription = setting(factory=Transcription, doc="")
    email: Email = setting(factory=Email, doc="")
    voip: Voip = setting(factory=Voip, doc="")
    gateway: Gateway = setting(factory=Gateway, doc="")
    limits: Limits = setting(factory=Limits, doc="")
    rate_limits: RateLimits = setting(factory=RateLimits, doc="")
    memory: Memory = setting(factory=Memory, doc="")
    logging: Logging = setting(factory=Logging, doc="")
    metrics: Metrics = setting(factory=Metrics, doc="")


#: What each profile puts in place of the defaults, in the shape of the settings file. The file and the environment
#: still have the last word.
PROFILES: dict[Profile, dict[str, dict[str, Any]]] = {
    "production": {},
    "dev": {
        "registration": {"enabled": True},
        "rooms": {"anybody_may_publish": True},
    },
    "test": {
        "registration": {"enabled": True},
        "passwords": {"argon2_time_cost": 1, "argon2_memory_kib": 8, "minimum_length": 1},
        "rooms": {"anybody_may_publish": True},
        "web": {"allow_loopback": True},
        "federation": {"allow_loopback": True, "notaries": [], "share_device_names": True},
        "rate_limits": {"enabled": False},
    },
}
