"""Streamable HTTP as an ASGI application; keys, hosts, limits and drain are those of what it is mounted in."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ...application.drain import Drain
from ...application.run_unless import run_unless

_MOST_BODY_BYTES = 1 << 20
"""Calls name recordings; they carry none."""
_MOST_SESSIONS = 256


class HttpTransport:
    """Serves clients while it runs; web pages of other origins are refused unless they are allowed."""

    def __init__(self, *, allowed_origins: Iterable[str]) -> None:
        """Serve nobody yet."""
        self._drain: Drain | None = None
        self._origins = frozenset(allowed_origins)
        self._manager: StreamableHTTPSessionManager | None = None

    @asynccontextmanager
    async def serving(self, server: MCPServer[Any], drain: Drain) -> AsyncGenerator[None]:
        """Serve `server` while in this context; streams that wait for news end with `drain`."""
        # Its application would serve the manager alone, behind a rule for hosts that knows no addresses.
        server.streamable_http_app(
            max_request_body_size=_MOST_BODY_BYTES,
            max_sessions=_MOST_SESSIONS,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        manager = server.session_manager
        async with manager.run():
            self._manager, self._drain = manager, drain
            try:
                yield
            finally:
                self._manager = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and not self._is_allowed(origin, headers.get("host", "")):
            await PlainTextResponse("ALLOWED_ORIGINS does not have this origin.", 403)(scope, receive, send)
        elif self._manager is None or self._drain is None:
            await PlainTextResponse("The service is shutting down.", 503)(scope, receive, send)
        elif scope["method"] == "GET":
            await run_unless(self._drain.wait_begun(), self._manager.handle_request(scope, receive, send))
        else:
            await self._manager.handle_request(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        return origin in self._origins or "*" in self._origins or urlsplit(origin).netloc == host
