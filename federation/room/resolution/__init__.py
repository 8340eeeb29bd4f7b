"""State resolution 1, 2 and 2.1: one state from several forks, the same on every server.

Pure: forks, events and what an index knows of them come as arguments; what is missing is asked for by an exception.
"""

from __future__ import annotations

from federation.room.resolution.conflict import Conflict, StateMap, find_conflict
from federation.room.resolution.evidence import MissingEvent
from federation.room.resolution.precedents import Precedents
from federation.room.resolution.resolve import resolve, resolve_conflict

__all__ = ["Conflict", "MissingEvent", "Precedents", "StateMap", "find_conflict", "resolve", "resolve_conflict"]
