"""Routes for people of other servers too: an OpenID token instead of an access token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from config import RateLimits
from homeserver.errors import UnknownToken
from homeserver.http.route import USER, VISITOR, Requester, route
from tests.http.wire import Wire, one_a_minute


@route("GET", "/open", auth=VISITOR, rate="read")
async def open_to_visitors(who: Requester) -> dict[str, str]:
    return {"who": who.user_id}


@route("GET", "/ours", auth=USER, rate="read")
async def for_ours(who: Requester) -> dict[str, str]:
    return {"who": who.user_id}


async def visitors(token: str, server: str) -> Requester:
    if token != "good":
        raise UnknownToken()
    return Requester(f"@bob:{server}", "", b"")


def wire(limits: RateLimits | None = None, **options: Any) -> Wire:
    module = SimpleNamespace(open_to_visitors=open_to_visitors, for_ours=for_ours)
    return Wire.to([module], limits=limits, **options)


@pytest.mark.parametrize(
    "path, header, expected",
    [
        ("/open", "MatrixOpenID good far.example", '200 {"who":"@bob:far.example"}'),
        ("/open", "matrixopenid good far.example", '200 {"who":"@bob:far.example"}'),
        ("/open", "Bearer alice", '200 {"who":"@alice:test.example"}'),
        ("/open", "MatrixOpenID bad far.example", "401 M_UNKNOWN_TOKEN"),
        ("/open", "MatrixOpenID good", "401 M_MISSING_TOKEN"),
        ("/open", "MatrixOpenID good far.example more", "401 M_MISSING_TOKEN"),
        ("/open", "", "401 M_MISSING_TOKEN"),
        ("/ours", "MatrixOpenID good far.example", "401 M_MISSING_TOKEN"),
    ],
)
def test_who_comes_in(path: str, header: str, expected: str) -> None:
    response = wire(visitors=visitors).ask("GET", path, token=None, headers={"Authorization": header})
    found = response.body.decode() if response.status == 200 else response.json["errcode"]
    assert f"{response.status} {found}" == expected


def test_without_federation_nobody_visits() -> None:
    response = wire().ask("GET", "/open", token=None, headers={"Authorization": "MatrixOpenID good far.example"})
    assert response.status == 401


def test_each_question_costs_its_address() -> None:
    site = wire(one_a_minute(), visitors=visitors)
    header = {"Authorization": "MatrixOpenID bad far.example"}
    assert [site.ask("GET", "/open", token=None, headers=header).status for _ in range(2)] == [401, 429]
