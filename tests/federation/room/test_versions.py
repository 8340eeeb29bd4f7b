from __future__ import annotations

import pytest

from federation.room.versions import ROOM_VERSIONS, EventIdFormat, StateResolution, get_room_version

ALL = [str(number) for number in range(1, 13)]


def having(flag: str) -> list[str]:
    return [name for name, version in ROOM_VERSIONS.items() if getattr(version, flag)]


def test_there_are_twelve() -> None:
    assert list(ROOM_VERSIONS) == ALL
    assert [version.identifier for version in ROOM_VERSIONS.values()] == ALL
    assert all(version.stable for version in ROOM_VERSIONS.values())


@pytest.mark.parametrize(
    ("flag", "first", "last"),
    [
        # One row for each "new in this version" of https://spec.matrix.org/v1.19/rooms/
        ("redaction_auth", 1, 2),
        ("cites_with_hashes", 1, 2),
        ("enforce_key_validity", 5, 12),
        ("strict_json", 6, 12),
        ("aliases_auth", 1, 5),
        ("redaction_drops_aliases", 6, 12),
        ("notifications_auth", 6, 12),
        ("knock", 7, 12),
        ("restricted", 8, 12),
        ("redaction_keeps_allow", 8, 12),
        ("redaction_keeps_join_authorised", 9, 12),
        ("integer_power_levels", 10, 12),
        ("knock_restricted", 10, 12),
        ("redaction_tidied", 11, 12),
        ("redacts_in_content", 11, 12),
        ("creator_is_sender", 11, 12),
        ("room_id_is_hash", 12, 12),
        ("privileged_creators", 12, 12),
    ],
)
def test_which_versions_have_it(flag: str, first: int, last: int) -> None:
    assert having(flag) == ALL[first - 1 : last]


def test_event_ids_and_state_resolution() -> None:
    formats = [version.event_id_format for version in ROOM_VERSIONS.values()]
    assert formats == [EventIdFormat.DOMAIN] * 2 + [EventIdFormat.HASH] + [EventIdFormat.URLSAFE_HASH] * 9
    resolutions = [version.state_resolution for version in ROOM_VERSIONS.values()]
    assert resolutions == [StateResolution.V1] + [StateResolution.V2] * 10 + [StateResolution.V2_1]


@pytest.mark.parametrize("unknown", ["13", "", "01", "org.example.mine", None, 1, ["1"], {"1": 1}])
def test_unknown_versions(unknown: object) -> None:
    assert get_room_version(unknown) is None


def test_a_version_is_one_object() -> None:
    assert get_room_version("10") is ROOM_VERSIONS["10"]
    assert len(set(ROOM_VERSIONS.values())) == 12
