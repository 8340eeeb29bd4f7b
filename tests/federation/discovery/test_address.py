"""Server names taken apart, and the addresses that some give by themselves."""

from __future__ import annotations

import pytest

from federation.discovery.address import Address, is_ip_literal, plain_address, split_server_name
from federation.room.identifiers import InvalidIdentifier


@pytest.mark.parametrize(
    ("name", "host", "port", "is_literal"),
    [
        ("example.org", "example.org", None, False),
        ("example.org:8449", "example.org", 8449, False),
        ("192.0.2.1", "192.0.2.1", None, True),
        ("192.0.2.1:1", "192.0.2.1", 1, True),
        ("[2001:db8::1]", "2001:db8::1", None, True),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535, True),
        ("localhost", "localhost", None, False),
        ("1.2.3", "1.2.3", None, False),
    ],
)
def test_names_are_split(name: str, host: str, port: int | None, is_literal: bool) -> None:
    split = split_server_name(name)
    assert (split.host, split.port, split.is_literal) == (host, port, is_literal)


@pytest.mark.parametrize("name", ["", "example.org:0", "example.org:65536", "2001:db8::1", "[::1", "a b", "@a:b"])
def test_what_is_no_server_name(name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        split_server_name(name)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        # Step 1: the certificate is for the address, the Host header is the name as it is.
        ("192.0.2.1", Address("192.0.2.1", 8448, "192.0.2.1", "192.0.2.1")),
        ("192.0.2.1:443", Address("192.0.2.1", 443, "192.0.2.1", "192.0.2.1:443")),
        ("[2001:db8::1]", Address("2001:db8::1", 8448, "2001:db8::1", "[2001:db8::1]")),
        ("[2001:db8::1]:443", Address("2001:db8::1", 443, "2001:db8::1", "[2001:db8::1]:443")),
        # Step 2: for the host, without the port.
        ("example.org:443", Address("example.org", 443, "example.org", "example.org:443")),
        ("example.org:8448", Address("example.org", 8448, "example.org", "example.org:8448")),
        ("example.org", None),
    ],
)
def test_addresses_that_a_name_gives_by_itself(name: str, address: Address | None) -> None:
    assert plain_address(name) == address


@pytest.mark.parametrize("host", ["fe80::1%eth0", "[::1]", "0x7f.1", "127.1", "2130706433", "", "a.b"])
def test_what_is_no_literal(host: str) -> None:
    assert not is_ip_literal(host)
