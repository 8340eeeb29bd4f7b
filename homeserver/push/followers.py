"""Who follows which thread, of the people here. All of it is in memory, as each event in a thread is judged by it.

MSC4306: https://github.com/matrix-org/matrix-spec-proposals/pull/4306
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from sys import intern

from attrs import define, field

Followed = tuple[str, int, str]
"""(user id, room nid, event id of the thread's root)"""

NOBODY: frozenset[str] = frozenset()


@define(eq=False)
class Followers:
    """One per process. Changed where a subscription is committed (`homeserver.relations.subscriptions`)."""

    _by_thread: dict[tuple[int, str], set[str]] = field(factory=dict, init=False)
    _counts: Counter[str] = field(factory=Counter, init=False)
    _heard: set[Followed] | None = field(factory=set, init=False)
    """What changed before the rest was read; None: it was."""

    def load(self, found: Iterable[Followed]) -> None:
        """What the database holds. What changed meanwhile is known better already."""
        heard, self._heard = self._heard or set(), None
        for one in found:
            if one not in heard:
                self._put(*one, follows=True)

    def put(self, user_id: str, room_nid: int, root_id: str, *, follows: bool) -> None:
        """Somebody follows a thread from now on, or does not any more."""
        if self._heard is not None:
            self._heard.add((user_id, room_nid, root_id))
        self._put(user_id, room_nid, root_id, follows=follows)

    def of(self, room_nid: int, root_id: str) -> Set[str]:
        """Those who follow a thread; whether they are in the room or not."""
        return self._by_thread.get((room_nid, root_id), NOBODY)

    def count(self, user_id: str) -> int:
        """How many threads somebody follows."""
        return self._counts[user_id]

    def forget(self, user_id: str) -> None:
        """The account is no more."""
        if self._counts[user_id]:
            for room_nid, root_id in [key for key, users in self._by_thread.items() if user_id in users]:
                self.put(user_id, room_nid, root_id, follows=False)

    def _put(self, user_id: str, room_nid: int, root_id: str, *, follows: bool) -> None:
        key = (room_nid, root_id)
        users = self._by_thread.get(key, NOBODY)
        if (user_id in users) is follows:
            return
        self._counts[user_id] += 1 if follows else -1
        if follows:
            self._by_thread.setdefault(key, set()).add(intern(user_id))
            return
        if not self._counts[user_id]:
            del self._counts[user_id]
        self._by_thread[key].discard(user_id)
        if not self._by_thread[key]:
            del self._by_thread[key]
