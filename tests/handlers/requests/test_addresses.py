"""Which addresses are private, in every form that leads there."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from ayb_jobs.handlers.requests.addresses import is_private, literal
from ayb_jobs.handlers.requests.resolving import PrivateAddress, Resolver

PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::1", "2600::5efe:10.0.0.1", "2600::200:5efe:192.168.0.1", "3fff::1", "5f00::1", "fc00::1", "fd00::1",
    "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "2600::1", "2a00:1450::1", "2002:808:808::1",
    "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_told_in_every_form(address: str) -> None:
    assert is_private(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_told_as_such(address: str) -> None:
    assert not is_private(ip_address(address))


def test_a_zone_does_not_hide_an_address() -> None:
    assert literal("fe80::1%eth0") == ip_address("fe80::1")
    assert literal("example.com") is None


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "017700000001", "localhost"])
def test_other_ways_to_write_this_machine_are_refused_once_they_are_resolved(host: str) -> None:
    with pytest.raises(PrivateAddress):
        asyncio.run(Resolver(allow_private=False).resolve(host, 80))
    assert asyncio.run(Resolver(allow_private=True).resolve(host, 80))


def test_a_name_with_any_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(*addresses: str) -> Any:
        rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: rows)
        return asyncio.run(Resolver(allow_private=False).resolve("mixed.example", 80))

    assert [row["host"] for row in answers("8.8.8.8", "1.1.1.1")] == ["8.8.8.8", "1.1.1.1"]
    with pytest.raises(PrivateAddress, match=r"mixed\.example \(10\.0\.0\.1\) lies in a private network"):
        answers("8.8.8.8", "10.0.0.1")
