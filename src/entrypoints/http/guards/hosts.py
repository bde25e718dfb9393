"""Under which names the service may be called. Pure ASGI."""

import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import UnknownHostError
from .path_kinds import KindOf, PathKind
from .route_path import route_path
from .upload_limits import refuse_unread


class HostMiddleware:
    """Refuses a name that is not ours: a web page may have its own name point to us, and would then pass for our page.

    That needs a name, so addresses pass. So does what has no Host, as no browser does. Probes are not asked.
    """

    def __init__(self, app: ASGIApp, *, allowed: Iterable[str], kind_of: KindOf) -> None:
        """Guard `app`; see `is_known_host` for what may be `allowed`."""
        self._app = app
        self._allowed = frozenset({*allowed, *_own_names()})
        self._kind_of = kind_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or refuse."""
        if scope["type"] != "lifespan" and self._kind_of(route_path(scope)) is not PathKind.PROBE:
            for host in Headers(scope=scope).getlist("host"):
                if not is_known_host(host, self._allowed):
                    await refuse_unread(UnknownHostError(), scope, receive, send)
                    return
        await self._app(scope, receive, send)


def is_known_host(host: str, allowed: Iterable[str]) -> bool:
    """Whether a Host header, with its port, is an address, localhost, or one of the names that are `allowed`.

    ``*`` allows any name, and ``*.example.com`` those below it.
    """
    name = _without_port(host.strip().lower()).rstrip(".")
    if not name or name == "localhost" or _is_address(name):
        return True
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])) for pattern in allowed
    )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname().lower().rstrip(".")
    # The second one is what other machines of a network call it, by multicast DNS.
    return {name, f"{name.partition('.')[0]}.local"} if name else set()
