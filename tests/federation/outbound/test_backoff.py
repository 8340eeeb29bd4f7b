"""Pauses."""

from __future__ import annotations

from random import Random

from federation.outbound.backoff import BackOff


def test_pauses_are_seconds_at_first_and_a_day_at_most() -> None:
    random = Random(1)
    for _ in range(100):
        pauses = [BackOff().pause_s(failures, random) for failures in range(1, 5000)]
        assert 1 <= pauses[0] <= 2 and 2 <= pauses[1] <= 4
        assert all(pause <= 86_400 for pause in pauses) and min(pauses[20:]) >= 43_200


def test_a_peer_may_ask_for_more_but_not_for_ever() -> None:
    assert BackOff().pause_s(1, Random(1), 100.0) == 100
    assert BackOff().pause_s(1, Random(1), 1e9) == 86_400
    assert BackOff().pause_s(20, Random(1), 1.0) >= 43_200
