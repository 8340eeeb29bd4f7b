"""Directories of other servers: what is asked, and that clients are shown nothing malformed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from homeserver.errors import Forbidden, MatrixError
from homeserver.http.answer import encode_json
from homeserver.rooms.directory import DEFAULT_LIMIT, MOST_ROOMS, ListAsk
from tests.federation.doubles import outcome
from tests.queries.asking import DEEP, NOT_ANSWERS, PEER, Scene

PATH = "/_matrix/federation/v1/publicRooms"
ROOM = {"room_id": "!a:b.example", "num_joined_members": 7, "world_readable": True, "guest_can_join": False}


@pytest.fixture
def scene() -> Scene:
    return Scene.open()


def listed(scene: Scene, ask: ListAsk | None = None) -> Any:
    return orjson.loads(encode_json(outcome(scene.asking.directory.list(PEER, ask or ListAsk()))))


def test_what_is_asked(scene: Scene) -> None:
    heard = scene.writes_down({"chunk": []})
    listed(scene)
    listed(scene, ListAsk(limit=3, since="a b&c"))
    listed(scene, ListAsk(limit=10**9, all_networks=True))
    listed(scene, ListAsk(limit=2, network="irc"))
    listed(scene, ListAsk(limit=2, term=""))
    listed(scene, ListAsk(limit=2, since="x", term="tea", room_types=[None, "m.space"]))
    listed(scene, ListAsk(limit=2, room_types=[]))
    filters: list[dict[str, Any]] = [
        {"generic_search_term": "tea", "room_types": [None, "m.space"]},
        {"room_types": []},
    ]
    assert heard == [
        ("GET", f"{PATH}?limit={DEFAULT_LIMIT}", None),
        ("GET", f"{PATH}?limit=3&since=a%20b%26c", None),
        ("GET", f"{PATH}?limit={MOST_ROOMS}&include_all_networks=true", None),
        ("GET", f"{PATH}?limit=2&third_party_instance_id=irc", None),
        ("GET", f"{PATH}?limit=2", None),
        ("POST", PATH, {"limit": 2, "since": "x", "filter": filters[0]}),
        ("POST", PATH, {"limit": 2, "filter": filters[1]}),
    ]


def test_a_page(scene: Scene) -> None:
    whole = {
        **ROOM, "name": "Tea", "topic": "and cake", "canonical_alias": "#tea:b.example", "avatar_url": "mxc://b/c",
        "join_rule": "public", "room_type": "m.space",
    }  # fmt: skip
    scene.answers(
        {"chunk": [whole, ROOM], "next_batch": "n", "prev_batch": "p", "total_room_count_estimate": 115, "x": 1}
    )
    assert listed(scene) == {
        "chunk": [whole, ROOM], "next_batch": "n", "prev_batch": "p", "total_room_count_estimate": 115,
    }  # fmt: skip


@pytest.mark.parametrize("tokens", [{}, {"next_batch": None, "prev_batch": None}, {"next_batch": "", "prev_batch": ""}])
def test_the_last_page(scene: Scene, tokens: dict[str, Any]) -> None:
    scene.answers({"chunk": [ROOM], **tokens})
    assert listed(scene) == {"chunk": [ROOM], "total_room_count_estimate": 1}


BAD_ROOMS: list[Any] = [
    None, 5, "room", [], {}, {**ROOM, "room_id": "a"}, {**ROOM, "room_id": None}, {**ROOM, "num_joined_members": -1},
    {**ROOM, "num_joined_members": 2**53}, {**ROOM, "num_joined_members": 1.5}, {**ROOM, "num_joined_members": "7"},
    {**ROOM, "world_readable": "yes"}, {**ROOM, "guest_can_join": None}, {**ROOM, "name": {"a": 1}},
    {**ROOM, "topic": ["a"]}, {**ROOM, "avatar_url": 5}, {**ROOM, "room_type": {}}, {**ROOM, "join_rule": 5},
    {key: value for key, value in ROOM.items() if key != "room_id"},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ROOMS)
def test_a_malformed_room_takes_no_others_along(scene: Scene, bad: Any) -> None:
    scene.answers({"chunk": [ROOM, bad, ROOM]})
    assert listed(scene)["chunk"] == [ROOM, ROOM]


def test_rooms_that_nobody_could_pass_on(scene: Scene) -> None:
    room = orjson.dumps(ROOM)
    bad = [
        room[:-1] + b',"x":' + DEEP + b"}",
        room[:-1] + b',"name":"\xff"}',
        room[:-1] + b',"name":"\\ud800"}',
        room.replace(b":7,", b":" + b"9" * 400 + b","),
    ]
    for each in bad:
        scene.answers(b'{"chunk":[' + each + b"," + room + b"]}")
        try:
            chunk = listed(scene)["chunk"]
        except MatrixError as error:
            assert error.status == 502
        else:
            assert chunk[-1] == ROOM


def test_more_than_anybody_asked_for(scene: Scene) -> None:
    scene.answers({"chunk": [ROOM] * (MOST_ROOMS + 50)})
    assert len(listed(scene, ListAsk(limit=5))["chunk"]) == MOST_ROOMS


@pytest.mark.parametrize(
    "body",
    [
        *NOT_ANSWERS,
        {},
        {"chunk": None},
        {"chunk": {}},
        {"chunk": [], "next_batch": 5},
        {"chunk": [], "next_batch": "x" * 10_000},
        {"chunk": [], "total_room_count_estimate": -1},
        {"chunk": [], "total_room_count_estimate": 2**60},
    ],
)
def test_nonsense(scene: Scene, body: object) -> None:
    scene.answers(body)
    with pytest.raises(MatrixError) as caught:
        listed(scene)
    assert caught.value.status == 502


def test_refusals_and_silence(scene: Scene) -> None:
    with pytest.raises(MatrixError, match="can't be reached") as caught:
        listed(scene)
    assert caught.value.status == 502
    scene.asking.patience.heard_of(PEER)
    scene.refuses(403, "M_FORBIDDEN", "members only")
    with pytest.raises(Forbidden, match="members only"):
        listed(scene)
    scene.refuses(404, "M_UNRECOGNIZED")
    with pytest.raises(MatrixError, match="answered with an error: 404 M_UNRECOGNIZED") as caught:
        listed(scene)
    assert caught.value.status == 502
