"""Aliases of other servers: what is made of their answers, good and bad."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import Forbidden, MatrixError
from homeserver.rooms.aliases import MOST_SERVERS, ResolvedAlias
from tests.federation.doubles import outcome
from tests.queries.asking import NOT_ANSWERS, PEER, Scene

ALIAS = f"#tea/and#cake:{PEER}"
ROOM = "!room:elsewhere.example"


@pytest.fixture
def scene() -> Scene:
    return Scene.open()


def look_up(scene: Scene, alias: str = ALIAS) -> ResolvedAlias | None:
    return outcome(scene.asking.aliases.look_up(alias))


def test_an_alias_is_asked_for_at_its_server(scene: Scene) -> None:
    heard = scene.writes_down({"room_id": ROOM, "servers": ["a.example", PEER, "b.example:8449"]})
    assert look_up(scene) == ResolvedAlias(ROOM, ["a.example", PEER, "b.example:8449"])
    path = "/_matrix/federation/v1/query/directory?room_alias=%23tea%2Fand%23cake%3Apeer.example"
    assert heard == [("GET", path, None)]


@pytest.mark.parametrize("room_id", ["!" + "a" * 43, "!old:b.example"])
@pytest.mark.parametrize("servers", [{}, {"servers": []}])
def test_a_server_that_names_nobody_may_help_itself(scene: Scene, room_id: str, servers: dict[str, Any]) -> None:
    scene.answers({"room_id": room_id, **servers})
    assert look_up(scene) == ResolvedAlias(room_id, [PEER])


def test_names_that_are_none_are_left_out_and_many_are_cut(scene: Scene) -> None:
    scene.answers({"room_id": ROOM, "servers": ["", "no server", "x" * 300, "\0", "a.example", "a.example", "[::z]"]})
    assert look_up(scene) == ResolvedAlias(ROOM, ["a.example", PEER])
    scene.answers({"room_id": ROOM, "servers": [f"s{number}.example" for number in range(1000)]})
    found = look_up(scene)
    assert found is not None and len(found.servers) == MOST_SERVERS + 1


def test_an_alias_that_is_not_there(scene: Scene) -> None:
    scene.refuses(404, "M_NOT_FOUND")
    assert look_up(scene) is None


@pytest.mark.parametrize(
    ("status", "errcode"),
    [(404, "M_UNRECOGNIZED"), (400, "M_INVALID_PARAM"), (401, "M_UNAUTHORIZED"), (500, ""), (429, "")],
)
def test_other_refusals_are_the_other_servers_fault(scene: Scene, status: int, errcode: str) -> None:
    scene.refuses(status, errcode)
    with pytest.raises(MatrixError) as caught:
        look_up(scene)
    assert (caught.value.status, caught.value.errcode) == (502, "M_UNKNOWN") and PEER in caught.value.error


def test_what_must_not_be_told_is_forbidden(scene: Scene) -> None:
    scene.refuses(403, "M_FORBIDDEN", "go away")
    with pytest.raises(Forbidden, match="go away"):
        look_up(scene)


def test_nobody_there(scene: Scene) -> None:
    with pytest.raises(MatrixError, match=f"{PEER} can't be reached") as caught:
        look_up(scene)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "body",
    [
        *NOT_ANSWERS,
        {},
        {"room_id": 5},
        {"room_id": ""},
        {"room_id": "room"},
        {"room_id": "!a\0:b.example"},
        {"room_id": "!" + "a" * 300},
        {"room_id": ROOM, "servers": None},
        {"room_id": ROOM, "servers": {"a": 1}},
        {"room_id": ROOM, "servers": [5]},
    ],
)
def test_nonsense(scene: Scene, body: object) -> None:
    scene.answers(body)
    with pytest.raises(MatrixError) as caught:
        look_up(scene)
    assert caught.value.status == 502 and "makes no sense" in caught.value.error
