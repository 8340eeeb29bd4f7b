"""The route table beside the specification's: what is served, under which paths, for whom, with which parameters."""

from __future__ import annotations

import re
from typing import get_type_hints

import attrs
import msgspec
import pytest

from config import RateLimit, RateLimits
from homeserver.about import SPEC_VERSIONS
from homeserver.client.all import ALL_ROUTES
from homeserver.client.media.paths import MOST_UPLOADED
from homeserver.errors import MatrixError
from homeserver.federation_api.all import FEDERATION_ROUTES
from homeserver.http.asks import is_ask
from homeserver.http.route import Auth
from homeserver.http.table import Endpoint, RouteTable
from tests.spec.anybody import Anybody
from tests.spec.operations import BY_ID, LATER, OPERATIONS, SERVED, Operation, route_table

RATES = {name for name, one in attrs.asdict(RateLimits(), recurse=False).items() if isinstance(one, RateLimit)}
#: Harmless without a limit: constants, and what watches over the server.
UNLIMITED = {
    "/", "/health", "/_guildhall/metrics", "/_matrix/client/versions", "/.well-known/matrix/client",
    "/.well-known/matrix/server", "/.well-known/matrix/support", "/.well-known/matrix/policy_server",
    "/_matrix/federation/v1/version", "/_matrix/key/v2/server", "/_matrix/key/v2/server/{key_id}",
}  # fmt: skip


def find(operation: Operation, path: str | None = None) -> Endpoint:
    """What serves an operation. Raises MatrixError."""
    filled = re.sub(r"\{[^}]+\}", "x", path or operation.path)
    return route_table().match(operation.method, filled.encode()).endpoint


ALL = RouteTable([*ALL_ROUTES, *FEDERATION_ROUTES], Anybody()).endpoints
#: A transaction of another server: 50 events and 100 pieces of news; and files, which never stand in memory.
LARGE = {
    "/_matrix/federation/v1/send/{txn_id}": 10 * 1024 * 1024,
    "/_matrix/media/v3/upload": MOST_UPLOADED,
    "/_matrix/media/v3/upload/{server_name}/{media_id}": MOST_UPLOADED,
}


@pytest.mark.parametrize("endpoint", ALL, ids=lambda one: f"{one.route.method} {one.route.path}")
def test_every_route_states_its_policy(endpoint: Endpoint) -> None:
    route = endpoint.route
    assert isinstance(route.auth, Auth)
    assert (route.auth is Auth.FEDERATION) <= route.path.startswith(("/_matrix/federation/", "/_matrix/policy/"))
    assert route.rate in RATES if route.rate is not None else route.path in UNLIMITED
    assert 0 < route.max_body <= LARGE.get(route.path, 1024 * 1024) or not endpoint.reads_body
    assert endpoint.streams or route.max_body <= 10 * 1024 * 1024


@pytest.mark.parametrize("operation", SERVED, ids=lambda one: one.id)
def test_operations_are_served(operation: Operation) -> None:
    endpoint = find(operation)
    if operation.path.startswith("/_matrix/client/v3/"):
        assert find(operation, operation.path.replace("/v3/", "/r0/", 1)).route == endpoint.route


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.module in LATER], ids=lambda one: one.id)
def test_operations_of_later_are_not_there_yet(operation: Operation) -> None:
    """Whoever brings one takes its module off the list in `operations.py`."""
    with pytest.raises(MatrixError) as caught:
        find(operation)
    assert caught.value.errcode == "M_UNRECOGNIZED"


#: Operations of promised versions that are not served, each for a reason.
LEFT_OUT = {
    # Without the capability `m.get_login_token` nobody may count on it.
    "generateLoginToken",
    # For those who log in elsewhere, and for application services: this server offers neither yet.
    "redirectToSSO", "redirectToIdP", "pingAppservice", "updateAppserviceRoomDirectoryVisibility",
    "getProtocols", "getProtocolMetadata", "queryLocationByAlias", "queryLocationByProtocol", "queryUserByID",
    "queryUserByProtocol",
    # Without OAuth whoever looks for it must be told that there is none.
    "getAuthMetadata",
    # For administrators, who have `homeserver shell` as yet.
    "getWhoIs",
}  # fmt: skip


def test_what_is_promised_is_served() -> None:
    # What has been there for ever is of `v1.0` in the table, and older versions are promised too.
    missing = {one.id for one in OPERATIONS if one.module in LATER and one.since in (*SPEC_VERSIONS, "v1.0")}
    assert missing == LEFT_OUT


def test_every_theme_names_modules_that_exist() -> None:
    assert {operation.module for operation in OPERATIONS} >= LATER


#: Without a token these would need an address of the caller's to write to, and we keep none.
NEED_A_TOKEN = {"changePassword", "deactivateAccount"}


@pytest.mark.parametrize("operation", SERVED, ids=lambda one: one.id)
def test_who_may_call(operation: Operation) -> None:
    auth = find(operation).route.auth
    if operation.auth == "required" or operation.id in NEED_A_TOKEN:
        assert auth in (Auth.USER, Auth.GUEST, Auth.ADMIN)
    else:
        assert auth in (Auth.NONE, Auth.OPTIONAL)


#: Operation → parameters of the specification that the handler does not take, each with a reason.
IGNORED: dict[str, set[str]] = {
    # No email addresses or phone numbers are kept here, so there is nothing to add, take away or log in by.
    "deactivateAccount": {"id_server"},
    "post3PIDs": {"three_pid_creds"},
    "add3PID": {"auth", "client_secret", "sid"},
    "bind3PID": {"client_secret", "id_access_token", "id_server", "sid"},
    "delete3pidFromAccount": {"address", "id_server", "medium"},
    "unbind3pidFromAccount": {"address", "id_server", "medium"},
    # `token` belongs to a kind of login that comes with the accounts' issue; `address` and `medium` as above.
    "login": {"address", "medium", "token"},
}


@pytest.mark.parametrize("operation", SERVED, ids=lambda one: one.id)
def test_parameters_are_taken(operation: Operation) -> None:
    """In the query, and members of the body: what a handler does not name it cannot heed."""
    endpoint = find(operation)
    route = endpoint.route
    query = {one.name for one in operation.parameters if one.place == "query"}
    missing = query - {*route.query}
    if operation.body is not None and route.body is None:
        asks = [kind for kind in get_type_hints(route.handler).values() if is_ask(kind)]
        fields = {field.encode_name for kind in asks for field in msgspec.structs.fields(kind)}
        missing |= set(operation.body.get("properties", {})) - fields
    assert missing == IGNORED.get(operation.id, set())


def test_parameters_that_are_ignored_exist() -> None:
    assert set(IGNORED) <= set(BY_ID)
