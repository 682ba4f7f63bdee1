"""Which addresses lie within one's own network, whatever their form. Pure."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# The registries of special-purpose addresses (RFC 6890 and later), and multicast. `is_private` of Python's own module
# differs from release to release.
PRIVATE_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All that is public in version 6 lies within this, but for what a gateway makes an address of version 4.
PUBLIC_6 = IPv6Network("2000::/3")
PRIVATE_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "3fff::/20"))
NAT64 = IPv6Network("64:ff9b::/96")
MAPPED = IPv6Network("::ffff:0:0/96")
SIX_TO_FOUR = IPv6Network("2002::/16")
# The first half of an ISATAP interface's number; the second is an address of version 4.
ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def is_private(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address is not one of the public internet's: private, loopback, link-local, reserved, multicast.

    An address of version 6 that stands for one of version 4 is as private as that.
    """
    if isinstance(address, IPv4Address):
        return any(address in network for network in PRIVATE_4)
    if any(is_private(within) for within in embedded(address)):
        return True
    if address in NAT64 or address in MAPPED:
        return False
    return address not in PUBLIC_6 or any(address in network for network in PRIVATE_6)


def embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """Yield the addresses of version 4 that packets to this one may reach."""
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address in NAT64 or address in MAPPED or (number >> 32) & 0xFFFFFFFF in ISATAP:
        yield low
    if address in SIX_TO_FOUR:
        yield IPv4Address((number >> 80) & 0xFFFFFFFF)


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a URL's host is, or None if it is a name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None
