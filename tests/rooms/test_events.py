"""The cache of events: what is kept of what was read."""

from __future__ import annotations

import pytest

from homeserver.rooms import events as module
from homeserver.rooms.events import EventCache
from tests.fixtures_rooms import Town

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@on_sqlite
def test_a_large_reading_drives_nothing_out(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    room_id = town.create("alice")
    nids = [ref.nid for ref in town.room(room_id).visible.state.values()]
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    cache = EventCache(town.database, 1024 * 1024)
    assert sorted(town.wait(cache.get_many(nids))) == sorted(nids)
    assert len(cache) == 0
    assert len(town.wait(cache.get_many(nids[:2]))) == len(cache) == 2
    assert sorted(town.wait(cache.get_many(nids))) == sorted(nids)
    assert [nid for nid in nids if cache.peek(nid) is not None] == nids[:2]
