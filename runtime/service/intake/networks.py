"""Tell addresses of the public internet from those of private, local and reserved networks."""

from __future__ import annotations

import ipaddress
from typing import Any

NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for the IPv4 address in their last four bytes (RFC 6052)."""
UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out to the public; whatever lies outside is local, reserved, or a form of IPv4."""
NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA IPv4 Special-Purpose Address Registry, whole blocks
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
            "224.0.0.0/4",  # multicast
            "168.63.129.16/32",  # a public address by which machines of Azure reach the machine that carries them
            # IANA IPv6 Special-Purpose Address Registry, what lies in UNICAST
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        ),
    )
)  # fmt: skip
"""Networks from which nothing is fetched. Python's own list differs from one of its versions to the next."""


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet, also behind the forms that stand for IPv4's."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    if found.version == 6:
        inner = found.ipv4_mapped
        if found in NAT64:
            inner = ipaddress.ip_address(int(found) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if found not in UNICAST:
            return False
    return bool(found.is_global) and not any(found in network for network in NOT_PUBLIC)
