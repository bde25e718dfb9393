"""Announces the service on the local network, where Home Assistant finds it by itself."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from .errors import CannotListenError

SERVICE_TYPE = "_wyoming._tcp.local."


def check_installed() -> None:
    """Look for the library, which comes with the extra `wyoming`.

    Raises:
        CannotListenError: It is missing.
    """
    if find_spec("zeroconf") is None:
        raise CannotListenError("WYOMING_ZEROCONF needs the extra: pip install 'parakeet-service[wyoming]'.")


@asynccontextmanager
async def announced(host: str, port: int, name: str) -> AsyncGenerator[None]:
    """Be found while in this context.

    Args:
        host: What is bound; where that is every address, the one of the default route is announced.
        port: Where the service listens.
        name: What Home Assistant tells this service by; must be the same after each start.
    """
    from zeroconf import IPVersion  # noqa: PLC0415 - an extra
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf  # noqa: PLC0415 - an extra

    addresses = [_own_address() if host in {"0.0.0.0", "::"} else host]  # noqa: S104 - compared, not bound
    info = AsyncServiceInfo(SERVICE_TYPE, f"{name}.{SERVICE_TYPE}", port=port, parsed_addresses=addresses)
    zeroconf = AsyncZeroconf(
        interfaces=addresses, ip_version=IPVersion.V6Only if ":" in addresses[0] else IPVersion.V4Only
    )
    try:
        await zeroconf.async_register_service(info)  # pyright: ignore[reportUnknownMemberType]
        yield
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


def _own_address() -> str:
    """The address from which others are reached; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Reserved for documentation (RFC 5737): any address beyond the local network does.
        probe.connect(("192.0.2.1", 9))
        address: str = probe.getsockname()[0]
        return address
