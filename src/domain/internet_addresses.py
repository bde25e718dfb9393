"""Which addresses belong to the public internet, and which to this machine or its network."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_SPECIAL_IPV4 = tuple(
    IPv4Network(network)
    for network in (
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
"""Source: https://www.iana.org/assignments/iana-ipv4-special-registry (public domain). Not `is_global` of the standard
library, whose answers differ among the releases of one Python version."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
"""Inside `_GLOBAL_UNICAST`. Source: https://www.iana.org/assignments/iana-ipv6-special-registry (public domain)."""
_NAT64 = IPv6Network("64:ff9b::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_NEVER = tuple(
    IPv4Network(network) for network in ("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4")
)
_LOCAL_IPV6 = (IPv6Network("::1/128"), IPv6Network("fc00::/7"))


def is_public(address: Address) -> bool:
    """Whether it is reached through the public internet, whatever it is wrapped in.

    An IPv4 address inside an IPv6 address counts as itself: mapped, NAT64, 6to4, Teredo (server and client), ISATAP.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_IPV4)
    carried = _carried(address)
    if not all(is_public(one) for one in carried):
        return False
    if carried and address not in _GLOBAL_UNICAST:
        return address.scope_id is None
    if address.teredo is not None:
        return True
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_IPV6)


def is_usable_inside(address: Address) -> bool:
    """Whether a trusted host may have it: public, or private or loopback.

    Not link-local addresses, where clouds answer with credentials, nor those that name no single host.
    """
    if is_public(address):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER)
    if address.ipv4_mapped is not None:
        return is_usable_inside(address.ipv4_mapped)
    return any(address in network for network in _LOCAL_IPV6)


def parsed_address(host: str) -> Address | None:
    """The address that a URL's host states, without brackets; ``None`` for a name.

    Raises:
        ValueError: It would be taken for an address by some, but is not written like one: ``127.1``, ``0x7f000001``.
    """
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or _is_number(last):
        return ip_address(host)
    return None


def _is_number(label: str) -> bool:
    """Whether a host that ends in `label` is an IPv4 address to those who read old forms; they differ in which."""
    label = label.lower()
    if label.startswith("0x"):
        return all(digit in "0123456789abcdef" for digit in label[2:])
    return label.isdigit()


def _carried(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a router or gateway would take out of it."""
    bits = int(address)
    last = IPv4Address(bits & 0xFFFFFFFF)
    found = [one for one in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if one is not None]
    if address in _NAT64:
        found.append(last)
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(last)
    return tuple(found)
