"""How other servers find this one. Spec: https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from OpenSSL.crypto import X509
from twisted.internet.defer import TimeoutError as DeferredTimeout

from federation.discovery.address import FEDERATION_PORT, Address, is_ip_literal, plain_address, split_server_name
from federation.discovery.ports import DiscoveryFailed
from federation.discovery.private import AddressPolicy
from federation.discovery.srv import SERVICES
from federation.discovery.wellknown import Delegates, read_page
from federation.gather import gather
from federation.outbound.answer import BadHttp
from federation.outbound.connection import ConnectionEnded, Question
from federation.outbound.transport import Unreachable
from homeserver.about import About
from homeserver.cli.certificates import check_expiry
from homeserver.cli.findings import Finding, bad, good, warning
from homeserver.cli.reach.world import PATIENCE_S, World

KEYS_PATH = "/_matrix/key/v2/server"
MAX_BYTES = 64 * 1024


class _Keys(msgspec.Struct):
    server_name: str
    verify_keys: dict[str, msgspec.Raw]


async def check_peers(world: World) -> list[Finding]:
    """From the server's name to wherever it leads, and whether that is this server."""
    if not world.settings.federation.enabled:
        return []
    addresses, findings = await _find(world, world.settings.server.name)
    for found in await gather(_check_address(world, address) for address in addresses):
        findings += found
    return findings


async def _find(world: World, name: str) -> tuple[Sequence[Address], list[Finding]]:
    own = plain_address(name)
    if own is not None:
        return [own], [good("delegation", f"{name} says itself where it is: {own.host} port {own.port}")]
    host = split_server_name(name).host
    delegated, finding = await _find_delegation(world, host)
    there = plain_address(delegated) if delegated is not None else None
    if there is not None:
        return [there], [finding]
    addresses, findings = await _find_services(world, delegated or host)
    return addresses, [finding, *findings]


async def _find_delegation(world: World, host: str) -> tuple[str | None, Finding]:
    url = f"https://{host}/.well-known/matrix/server"
    ours = About(world.settings).server_discovery()
    try:
        answer = read_page(await world.page(url))
    except DiscoveryFailed as error:
        return None, warning("delegation", f"{url} cannot be had ({error}), so others look for {host} by DNS")
    if not isinstance(answer, Delegates):
        return None, warning("delegation", f"{url}: {answer.why}, so others look for {host} by DNS")
    if ours is not None and answer.to != ours["m.server"]:
        text = f"{url} says {answer.to}, and by public_baseurl this server would say {ours['m.server']}"
        return answer.to, warning("delegation", text)
    return answer.to, good("delegation", f"{url} leads to {answer.to}")


async def _find_services(world: World, host: str) -> tuple[Sequence[Address], Sequence[Finding]]:
    """By SRV records, or else the usual port."""
    usual = [Address(host, FEDERATION_PORT, tls_name=host, host_header=host)]
    for service in SERVICES:
        name = f"{service}.{host}"
        try:
            records = (await world.srv.lookup(name)).records
        except DiscoveryFailed as error:
            return usual, [warning("SRV", f"the name servers do not answer: {error}")]
        if not records:
            continue
        targets = [record for record in sorted(records) if record.target]
        if not targets:
            return [], [bad("SRV", f"{name} says that this server is not to be had")]
        text = f"{name} leads to {', '.join(f'{each.target} port {each.port}' for each in targets)}"
        addresses = [Address(each.target, each.port, tls_name=host, host_header=host) for each in targets]
        if service == SERVICES[0]:
            return addresses, [good("SRV", text)]
        return addresses, [warning("SRV", f"{text}; that name is deprecated, {SERVICES[0]}.{host} takes its place")]
    return usual, []


async def _check_address(world: World, address: Address) -> list[Finding]:
    where = f"{address.host} port {address.port}"
    findings = [] if is_ip_literal(address.host) else [await _check_dns(world, address.host)]
    if findings and findings[0].level.is_bad:
        return findings
    try:
        keys, certificate = await world.patiently(_ask_for_keys(world, address))
    except Unreachable as error:
        why = f"{where} cannot be reached from here: {error.why}"
    except DeferredTimeout:
        why = f"{where} gave no answer within {PATIENCE_S:g} s"
    except (ConnectionEnded, BadHttp, msgspec.DecodeError) as error:
        why = f"{where} does not answer like a homeserver: {error}"
    else:
        return [*findings, check_expiry(certificate, f"of {where}", world.now_s()), _is_it_us(world, where, keys)]
    return [*findings, world.unreached("federation", why)]


async def _check_dns(world: World, host: str) -> Finding:
    try:
        found = await world.addresses.lookup(host)
    except DiscoveryFailed as error:
        return bad("DNS", str(error))
    ours = world.settings.federation
    policy = AddressPolicy.of(ours.allowed_private_ranges, allow_loopback=ours.allow_loopback)
    private = [address for address in found if not policy.allows(address)]
    if private:
        return warning("DNS", f"{host} is {', '.join(private)} as seen from here, and private: others cannot go there")
    return good("DNS", f"{host} is {', '.join(found)}")


async def _ask_for_keys(world: World, address: Address) -> tuple[_Keys, Any]:
    """What answers there says of its keys, and its certificate."""
    connection = await world.dialer.connect(world.settings.server.name, address)
    try:
        transport: Any = connection.transport
        certificate = transport.getPeerCertificate()
        question = Question("GET", KEYS_PATH, address.host_header, {"Connection": "close"}, None, MAX_BYTES)
        response = await connection.ask(question)
    finally:
        connection.abort()
    if response.status != 200:
        raise BadHttp(f"status {response.status}")
    keys = msgspec.json.decode(response.body, type=_Keys)
    return keys, certificate.to_cryptography() if isinstance(certificate, X509) else certificate


def _is_it_us(world: World, where: str, keys: _Keys) -> Finding:
    if keys.server_name != world.settings.server.name:
        return bad("federation", f"at {where} answers another server, {keys.server_name}")
    if not set(keys.verify_keys) & set(world.key_ids):
        theirs, ours = ", ".join(keys.verify_keys), ", ".join(world.key_ids)
        return bad("federation", f"at {where} answers a server of this name with other keys: {theirs}, and not {ours}")
    return good("federation", f"{where} leads to this server")
