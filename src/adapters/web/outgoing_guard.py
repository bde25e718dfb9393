"""Decides which URLs the service opens for its callers, and holds the connection to the address that was checked."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

import httpcore2
import httpx2

from ...domain.errors import UrlNotAllowedError, UrlUnreachableError
from ...domain.internet_addresses import Address, is_public, is_usable_inside, parsed_address

Resolve: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""Gives every address of a host name; raises `OSError` where there is none."""

_LONGEST_URL = 8192
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?")
_CREDENTIALS = re.compile(r"[^/?#]*//[^/?#]*@")
"""Empty ones, too, which the parsed URL does not tell."""
_SocketOptions: TypeAlias = Iterable[
    tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
]


async def resolved(host: str) -> list[str]:
    """Every address of `host`, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class OutgoingGuard:
    """One rule for every URL, at every redirect."""

    def __init__(self, *, allow_http: bool, allowed_hosts: Iterable[str], resolve: Resolve = resolved) -> None:
        """Decide what is allowed.

        Args:
            allow_http: Whether ``http://`` is, beside ``https://``.
            allowed_hosts: Hosts that may have private addresses and any port, in lower case: names, addresses, or
                ``*.example.com`` for all names below it.
            resolve: Asked once for each connection.
        """
        self._schemes = {"http", "https"} if allow_http else {"https"}
        self._allowed = frozenset(allowed_hosts)
        self._resolve = resolve

    def check(self, url: str) -> httpx2.URL:
        """The URL, parsed, if nothing is wrong with it as it stands.

        Raises:
            UrlNotAllowedError: Something is; the message says what, and names nothing behind the host.
        """
        if len(url) > _LONGEST_URL:
            raise UrlNotAllowedError(f"The URL is longer than {_LONGEST_URL} characters.")
        if not url.isprintable() or "\\" in url or url != url.strip():
            raise UrlNotAllowedError("The URL has characters that no URL may have.")
        try:
            parsed = httpx2.URL(url)
        except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
            raise UrlNotAllowedError("The URL cannot be read.") from error
        if parsed.scheme not in self._schemes:
            raise UrlNotAllowedError(
                f"The URL must begin with {' or '.join(f'{s}://' for s in sorted(self._schemes))}."
            )
        if parsed.userinfo or _CREDENTIALS.match(url):
            raise UrlNotAllowedError("The URL may not have a user name or password in it.")
        host = parsed.raw_host.decode("ascii")
        address = _stated_address(host)
        if address is not None:
            self._check_address(host, address)
        if parsed.port not in (None, _PORTS[parsed.scheme]) and not self._is_trusted(host):
            raise UrlNotAllowedError(f"The URL may not name port {parsed.port}.")
        return parsed

    async def addresses(self, host: str) -> list[str]:
        """What to connect to for `host`: every one of its addresses is allowed.

        Raises:
            UrlNotAllowedError: One of them is not.
            UrlUnreachableError: It has none.
        """
        stated = _stated_address(host)
        if stated is not None:
            self._check_address(host, stated)
            return [str(stated)]
        try:
            found = await self._resolve(host)
        except (OSError, UnicodeError) as error:
            raise UrlUnreachableError(f"{host} cannot be resolved.") from error
        if not found:
            raise UrlUnreachableError(f"{host} cannot be resolved.")
        for one in found:
            self._check_address(host, ip_address(one))
        return found

    def _check_address(self, host: str, address: Address) -> None:
        is_allowed = is_usable_inside if self._is_trusted(host) else is_public
        if not is_allowed(address):
            raise UrlNotAllowedError(f"{host} is not a host on the public internet.")

    def _is_trusted(self, host: str) -> bool:
        name = host.rstrip(".")
        parents = name.split(".")[1:]
        below = ("*." + ".".join(parents[start:]) for start in range(len(parents)))
        return name in self._allowed or any(one in self._allowed for one in below)


def _stated_address(host: str) -> Address | None:
    """The address that `host` is, or ``None`` for a name."""
    try:
        address = parsed_address(host)
    except ValueError as error:
        raise UrlNotAllowedError("The host of the URL is neither a name nor an address in its usual form.") from error
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise UrlNotAllowedError("The address in the URL may not have a zone.")
    if address is None and not _NAME.fullmatch(host):
        raise UrlNotAllowedError("The URL has no valid host name.")
    return address


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that the guard has checked: the name is resolved once, so no second answer can differ."""

    def __init__(self, guard: OutgoingGuard, network: httpcore2.AsyncNetworkBackend) -> None:
        """Ask `guard` where to connect, and do it through `network`."""
        self._guard = guard
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: _SocketOptions | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of `host` that answers; `timeout` is for each."""
        failure: Exception | None = None
        for address in await self._guard.addresses(host):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError(f"no address of {host} answers") from failure

    async def sleep(self, seconds: float) -> None:
        """See httpcore: between attempts to connect."""
        await self._network.sleep(seconds)
