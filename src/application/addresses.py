"""Whom an address stands for, where a caller shows no key."""

import ipaddress


def caller_at(host: str | None) -> str:
    """The caller's name for the quota; of IPv6 the /64 network, which is what one subscriber has.

    Args:
        host: Its address; ``None`` for a Unix socket, whose callers count as one.
    """
    return f"address {'unix socket' if host is None else _subscriber(host)}"


def _subscriber(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
