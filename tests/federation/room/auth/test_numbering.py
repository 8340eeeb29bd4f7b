"""Rule numbers, held against those that people quote from the specification's pages."""

from __future__ import annotations

import pytest

from federation.room.auth.numbering import rule_numbers
from federation.room.versions import ROOM_VERSIONS

QUOTED = {
    "1": {
        "create.creator": "1.4",
        "citations.other_room": "2.5",
        "federate": "3",
        "aliases.domain": "4.2",
        "member.join.public": "5.2.5",
        "member.join.otherwise": "5.2.6",
        "member.invite.third_party.otherwise": "5.3.1.8",
        "member.leave.otherwise": "5.4.5",
        "member.unknown": "5.6",
        "state_key": "9",
        "power_levels.users": "10.1",
        "power_levels.settings.new": "10.3.2",
        "power_levels.users_new.level": "10.7.1",
        "redaction.otherwise": "11.3",
    },
    "3": {"aliases.domain": "4.2", "power_levels.users": "10.1"},
    "6": {"member.join.banned": "4.2.3", "member.unknown": "4.6", "sender": "5", "power_levels.users": "9.1"},
    "7": {"member.knock.sender": "4.6.2", "member.unknown": "4.7"},
    "8": {
        "member.authorised.signature": "4.2.1",
        "member.join.restricted.authorised": "4.3.5.2",
        "member.join.otherwise": "4.3.7",
        "member.knock.join_rule": "4.7.1",
        "member.unknown": "4.8",
    },
    "10": {"power_levels.integers": "9.1", "power_levels.users": "9.3", "power_levels.users_new.level": "9.9.1"},
    "11": {"create.version": "1.3", "citations.create": "2.4"},
    "12": {
        "create.room_id": "1.2",
        "create.creators": "1.4",
        "room": "2",
        "citations.selection": "3.2",
        "federate": "4",
        "member.join.first": "5.3.1",
        "member.join.invited": "5.3.4",
        "state_key": "9",
        "power_levels.creators": "10.4",
        "power_levels.users_current.level": "10.9.1",
    },
}


@pytest.mark.parametrize("version", QUOTED)
def test_numbers_are_those_of_the_specification(version: str) -> None:
    numbers = rule_numbers(ROOM_VERSIONS[version])
    assert {name: numbers.get(name) for name in QUOTED[version]} == QUOTED[version]


def test_versions_lack_what_they_do_not_have() -> None:
    assert "create.creator" not in rule_numbers(ROOM_VERSIONS["11"])
    assert "redaction" not in rule_numbers(ROOM_VERSIONS["3"])
    assert "member.knock" not in rule_numbers(ROOM_VERSIONS["6"])
