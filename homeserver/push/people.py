"""What single people want of push, in memory: of those only who have changed something, or ignore somebody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from attrs import define, field

from homeserver.push.compiled import DEFAULT, Wishes, compile_rules
from homeserver.push.rules import TYPE, complete
from homeserver.push.word_index import WordIndex
from homeserver.userdata.ignoring import IGNORED, parse_ignored
from storage.account_data import GLOBAL, AccountDatum

EVERYWHERE = ""
"""Stands for all rooms in `Turn`."""
THREADS = "threads"
"""And this for the threads in all rooms that somebody does not follow."""

Turn = tuple[str, str]
"""(user id, room id, `EVERYWHERE` or `THREADS`): where somebody's usual messages began or ceased to be told of."""


@define(eq=False)
class People:
    """A listener of `AccountData`."""

    wishes: dict[str, Wishes] = field(factory=dict)
    apart: set[str] = field(factory=set)
    """Those for whom messages may be something else than usual, whatever is said in them."""
    hushed: set[str] = field(factory=set)
    """Those for whom they are in threads only."""
    words: WordIndex = field(factory=WordIndex)
    """And those for whom they are if certain words are."""
    ignored: dict[str, frozenset[str]] = field(factory=dict)
    turns: dict[Turn, int] = field(factory=dict)
    """Positions of the stream. What was said before that does not count any more."""
    turned: dict[Turn, int] = field(factory=dict)
    """Those of them that are not written down yet."""
    _heard: set[tuple[str, str]] = field(factory=set)

    def load(self, heeded: Iterable[tuple[str, AccountDatum]], turns: Mapping[Turn, int]) -> None:
        """What the database holds. What changed meanwhile is known better already."""
        for user_id, datum in heeded:
            if (user_id, datum.type) not in self._heard:
                self._heed(user_id, datum)
        for turn, position in turns.items():
            self.turns.setdefault(turn, position)

    def data_changed(self, user_id: str, datum: AccountDatum) -> None:
        """Somebody's account data changed."""
        if datum.room_nid == GLOBAL and datum.type in (TYPE, IGNORED):
            before = self.wishes_of(user_id)
            self._heard.add((user_id, datum.type))
            self._heed(user_id, datum)
            self._note_turns(user_id, before, self.wishes_of(user_id), datum.position)

    def wishes_of(self, user_id: str) -> Wishes:
        return self.wishes.get(user_id, DEFAULT)

    def is_special(self, user_id: str) -> bool:
        """Whether there is anything about the person here."""
        return user_id in self.wishes or user_id in self.ignored

    def is_plain(self, user_id: str, room_id: str, *, in_thread: bool = False) -> bool:
        """Whether the person is told of usual messages in a room as everybody is: in its timeline, or in threads."""
        wishes = self.wishes.get(user_id)
        if wishes is None:
            return True
        return (wishes.is_plain_in_threads if in_thread else wishes.is_plain) and room_id not in wishes.rooms

    def since(self, user_id: str, room_id: str, *, in_thread: bool = False) -> int:
        """From where on that holds."""
        since = max(self.turns.get((user_id, EVERYWHERE), 0), self.turns.get((user_id, room_id), 0))
        return max(since, self.turns.get((user_id, THREADS), 0)) if in_thread else since

    def forget(self, user_id: str) -> None:
        """The account is no more."""
        self.wishes.pop(user_id, None)
        self.ignored.pop(user_id, None)
        self._place(user_id)

    def _heed(self, user_id: str, datum: AccountDatum) -> None:
        if datum.type == IGNORED:
            if ignored := parse_ignored(datum.content):
                self.ignored[user_id] = ignored
            else:
                self.ignored.pop(user_id, None)
            self._place(user_id)
            return
        wishes = compile_rules(user_id, complete(user_id, orjson.loads(datum.content)))
        if wishes.base is DEFAULT.base and not wishes.rooms and not wishes.senders:
            self.wishes.pop(user_id, None)
        else:
            self.wishes[user_id] = wishes
        self.words.put(user_id, wishes.words)
        self._place(user_id)

    def _place(self, user_id: str) -> None:
        wishes = self.wishes.get(user_id)
        self.apart.discard(user_id)
        self.hushed.discard(user_id)
        if user_id in self.ignored:
            self.apart.add(user_id)
        elif wishes is None:
            self.words.put(user_id, ())
        elif wishes.hushes_only_threads:
            self.hushed.add(user_id)
        elif not wishes.has_only_words:
            self.apart.add(user_id)

    def _note_turns(self, user_id: str, before: Wishes, after: Wishes, position: int) -> None:
        rooms = before.rooms.keys() ^ after.rooms.keys()
        turned = [(user_id, room_id) for room_id in sorted(rooms)]
        if before.is_plain != after.is_plain:
            turned.append((user_id, EVERYWHERE))
        elif before.is_plain_in_threads != after.is_plain_in_threads:
            turned.append((user_id, THREADS))
        for turn in turned:
            self.turns[turn] = self.turned[turn] = position
