"""Where a peer may live."""

from __future__ import annotations

import pytest

from federation.discovery.private import AddressPolicy

PUBLIC = ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1", "193.0.0.1"]
PRIVATE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "192.0.2.1",
    "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fc00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "::8.8.8.8", "4000::1",
    # The same in another dress.
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1",
    "2001:0:0:0:0:0:80ff:fffe", "::ffff:169.254.169.254",
    # No address at all.
    "", "example.org", "127.1", "0x7f000001", "1.2.3.4.5",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert AddressPolicy.of().allows(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not AddressPolicy.of().allows(address)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # which Linux connects to itself
        ("10.0.0.1", False),
        ("8.8.8.8", True),
    ],
)
def test_this_machine_where_it_is_allowed(address: str, allowed: bool) -> None:
    assert AddressPolicy.of(allow_loopback=True).allows(address) is allowed


def test_ranges_that_are_allowed() -> None:
    policy = AddressPolicy.of(["10.1.0.0/16", "fd00::/8", "192.168.0.7"])
    assert [policy.allows(one) for one in ("10.1.2.3", "10.2.0.1", "fd12::1", "fc00::1")] == [True, False, True, False]
    assert policy.allows("192.168.0.7")
    assert policy.allows("::ffff:10.1.2.3")
    assert not policy.allows("192.168.0.8")
