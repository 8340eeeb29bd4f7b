"""Settings: frozen values, each declared once with its default and its documentation.

`load_settings(path, environ)` reads a server's file and the environment into a `Settings`, of which every section is
an attrs class in a file of its own. Nothing here imports the rest of the house.
"""

from __future__ import annotations

from config.database import Database
from config.federation import Federation
from config.limits import Limits
from config.listeners import Listener, Tls
from config.load import load_settings, make_settings
from config.logs import Logging
from config.media import S3, Media, TypeLimit
from config.metrics import Metrics
from config.passwords import Passwords
from config.presence import Presence
from config.previews import Previews
from config.rate_limits import RateLimit, RateLimits
from config.registration import Registration
from config.retention import Retention
from config.rooms import Rooms
from config.server import Server
from config.sessions import Sessions
from config.settings import PROFILES, Profile, Settings
from config.source import SettingsError
from config.transcription import Transcription
from config.voip import Voip
from config.web import Web

__all__ = [
    "PROFILES",
    "S3",
    "Database",
    "Federation",
    "Limits",
    "Listener",
    "Logging",
    "Media",
    "Metrics",
    "Passwords",
    "Presence",
    "Previews",
    "Profile",
    "RateLimit",
    "RateLimits",
    "Registration",
    "Retention",
    "Rooms",
    "Server",
    "Sessions",
    "Settings",
    "SettingsError",
    "Tls",
    "Transcription",
    "TypeLimit",
    "Voip",
    "Web",
    "load_settings",
    "make_settings",
]
