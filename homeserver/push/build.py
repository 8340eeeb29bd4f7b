"""Puts push together."""

from __future__ import annotations

from attrs import frozen

from homeserver.push.book import RuleBook, first_rules
from homeserver.push.rules import TYPE
from homeserver.userdata.account_data import AccountData


@frozen
class Push:
    """The services of `homeserver.push`."""

    book: RuleBook

    def collaborators(self) -> dict[type, object]:
        """What handlers ask for, by type."""
        return {type(one): one for one in (self.book,)}


def build_push(account_data: AccountData) -> Push:
    account_data.from_birth[TYPE] = first_rules
    return Push(RuleBook(account_data))
