"""The authorisation rules of every room version: what an event must cite, and whether that and a state allow it.

Pure: events and state come as arguments, and the answer is a value.
"""

from __future__ import annotations

from federation.room.auth.case import SignedBy, StateLookup
from federation.room.auth.power_levels import CREATOR_LEVEL, PowerLevels, room_creators
from federation.room.auth.rules import check_auth, is_plain
from federation.room.auth.selection import auth_types_for, auth_types_of, check_auth_events
from federation.room.auth.verdict import ALLOWED, Allowed, Refused, Verdict

__all__ = [
    "ALLOWED",
    "CREATOR_LEVEL",
    "Allowed",
    "PowerLevels",
    "Refused",
    "SignedBy",
    "StateLookup",
    "Verdict",
    "auth_types_for",
    "auth_types_of",
    "check_auth",
    "check_auth_events",
    "is_plain",
    "room_creators",
]
