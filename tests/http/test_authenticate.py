"""Tokens to requesters: what is remembered, for how long, and what is forgotten at once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Timers

from homeserver.clock import Clock
from homeserver.errors import UnknownToken
from homeserver.http.authenticate import MAX_TOKEN, Session, TokenAuthenticate, hash_token
from homeserver.http.route import Requester

ALICE = Requester("@alice:x", "PHONE", hash_token("t1"))


class Source:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Session | None]] = []

    async def find_session(self, token_hash: bytes) -> Session | None:
        waiting: Deferred[Session | None] = Deferred()
        self.asked.append(waiting)
        return await waiting


class Bench:
    def __init__(self, capacity: int = 10) -> None:
        self.now = 0
        self.source = Source()
        self.tokens = TokenAuthenticate(self.source, Clock(Timers(), lambda: self.now), capacity=capacity)

    def find(self, token: str) -> list[Any]:
        """A list that will hold the outcome."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(self.tokens.find(token)).addBoth(outcome.append)
        return outcome

    def know(self, token: str, session: Session) -> None:
        self.find(token)
        self.source.asked.pop().callback(session)


def test_remembers() -> None:
    bench = Bench()
    assert bench.tokens.recall("t1") is None
    outcome = bench.find("t1")
    bench.source.asked.pop().callback(Session(ALICE))
    assert outcome == [ALICE]
    assert bench.tokens.recall("t1") == ALICE
    assert bench.find("t1") == [ALICE]
    assert not bench.source.asked


def test_unknown_is_not_remembered() -> None:
    bench = Bench()
    outcome = bench.find("t1")
    bench.source.asked.pop().callback(None)
    assert outcome[0].check(UnknownToken)
    bench.find("t1")
    assert len(bench.source.asked) == 1


@pytest.mark.parametrize("refreshable", [True, False])
def test_expiry(refreshable: bool) -> None:
    bench = Bench()
    bench.know("t1", Session(ALICE, expires_ms=1000, refreshable=refreshable))
    bench.now = 999
    assert bench.tokens.recall("t1") == ALICE
    bench.now = 1000
    assert bench.tokens.recall("t1") is None
    (failure,) = bench.find("t1")
    assert failure.value.errcode == "M_UNKNOWN_TOKEN"
    assert failure.value.more == {"soft_logout": refreshable}


def test_forgets() -> None:
    bench = Bench()
    laptop = Requester("@alice:x", "LAPTOP", hash_token("t2"))
    for token, who in (("t1", ALICE), ("t2", laptop)):
        bench.know(token, Session(who))
    bench.tokens.forget_device("@alice:x", "PHONE")
    assert bench.tokens.recall("t1") is None
    assert bench.tokens.recall("t2") == laptop
    bench.tokens.forget_user("@bob:x")
    assert bench.tokens.recall("t2") == laptop
    bench.tokens.forget_user("@alice:x")
    assert bench.tokens.recall("t2") is None
    bench.know("t1", Session(ALICE))
    bench.tokens.forget(hash_token("t1"))
    bench.tokens.forget(hash_token("never there"))
    assert bench.tokens.recall("t1") is None


@pytest.mark.parametrize(
    ("forget", "remembered"),
    [
        (lambda tokens: tokens.forget(hash_token("t1")), False),
        (lambda tokens: tokens.forget_device("@alice:x", "PHONE"), False),
        (lambda tokens: tokens.forget_user("@alice:x"), False),
        (lambda tokens: tokens.forget_user("@bob:x"), True),
    ],
)
def test_a_look_up_does_not_bring_back_what_ended_meanwhile(forget: Any, remembered: bool) -> None:
    bench = Bench()
    bench.find("t1")
    forget(bench.tokens)
    bench.source.asked.pop().callback(Session(ALICE))
    assert (bench.tokens.recall("t1") == ALICE) is remembered


def test_the_longest_unused_goes_first() -> None:
    bench = Bench(capacity=2)
    for token in ("t1", "t2"):
        bench.know(token, Session(Requester("@u:x", token, hash_token(token))))
    assert bench.tokens.recall("t1") is not None
    bench.know("t3", Session(Requester("@u:x", "t3", hash_token("t3"))))
    assert [bench.tokens.recall(token) is not None for token in ("t1", "t2", "t3")] == [True, False, True]
    bench.tokens.forget_user("@u:x")
    assert not bench.tokens._known and not bench.tokens._tokens_of


def test_endless_tokens_are_not_hashed() -> None:
    bench = Bench()
    assert bench.tokens.recall("x" * (MAX_TOKEN + 1)) is None
    (failure,) = bench.find("x" * (MAX_TOKEN + 1))
    assert failure.check(UnknownToken)
    assert not bench.source.asked
