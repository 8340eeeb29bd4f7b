"""Every feature of people among themselves: a new file is served, and described, once it stands here."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from homeserver.friends.api import dms, friends, mutes, rooms, status

FRIEND_FEATURES: Sequence[ModuleType] = (dms, friends, mutes, rooms, status)
