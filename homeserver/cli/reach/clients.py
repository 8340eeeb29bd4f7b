"""How clients find this server. Spec: https://spec.matrix.org/v1.19/client-server-api/#server-discovery"""

from __future__ import annotations

import msgspec

from federation.discovery.address import split_server_name
from federation.discovery.ports import DiscoveryFailed
from homeserver.cli.findings import Finding, bad, good, warning
from homeserver.cli.reach.world import World


class _Home(msgspec.Struct):
    base_url: str


class _File(msgspec.Struct):
    home: _Home = msgspec.field(name="m.homeserver")


async def check_clients(world: World) -> list[Finding]:
    """The public address, and the file that leads to it from the server's name."""
    base = world.settings.server.public_baseurl
    if base is None or not base.startswith("https://"):
        return []  # `check_public_address` has words for it
    base = base.rstrip("/")
    findings = [await _check_address(world, base)]
    name = split_server_name(world.settings.server.name)
    if not name.is_literal and name.port is None:
        findings.append(await _check_file(world, name.host, base))
    return findings


async def _check_address(world: World, base: str) -> Finding:
    url = f"{base}/_matrix/client/versions"
    try:
        page = await world.page(url)
    except DiscoveryFailed as error:
        return world.unreached("clients", f"{url} cannot be had: {error}")
    if page.status != 200 or b'"versions"' not in page.body:
        return world.unreached("clients", f"{url} does not answer like a homeserver: status {page.status}")
    return good("clients", f"{url} answers")


async def _check_file(world: World, host: str, base: str) -> Finding:
    url = f"https://{host}/.well-known/matrix/client"
    hint = "so people have to type the address into their client"
    try:
        page = await world.page(url)
        if page.status != 200:
            return warning("clients", f"{url}: status {page.status}, {hint}")
        found = msgspec.json.decode(page.body, type=_File).home.base_url.rstrip("/")
    except (DiscoveryFailed, msgspec.DecodeError) as error:
        return warning("clients", f"{url} cannot be had ({error}), {hint}")
    if found != base:
        return bad("clients", f"{url} sends clients to {found}, and public_baseurl is {base}")
    if page.headers.get("access-control-allow-origin") != "*":
        return warning("clients", f"{url} lacks Access-Control-Allow-Origin: *, so clients in browsers cannot read it")
    return good("clients", f"{url} leads to {found}")
