"""The Model Context Protocol on the service: over standard streams, and mounted beside HTTP's routes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import Route

from ..application.service import Service
from ..config.settings import Settings
from ..domain.errors import FaultError
from ..entrypoints.http.guards.request_context import request_context
from .lifecycle import Server, handled_signals

_MISSING = "MCP needs the extra `mcp`: pip install 'parakeet-service[mcp]'."


class McpMissingError(FaultError):
    """The extra is not installed."""

    code = "mcp_missing"


async def serve_mcp_on_stdio(service: Service, settings: Settings) -> None:
    """Serve the client on the standard streams until it leaves or SIGTERM comes; then drain and stop.

    Raises:
        McpMissingError: The extra is not installed.
    """
    try:
        from ..entrypoints.mcp.recordings import Recordings  # noqa: PLC0415 - an extra
        from ..entrypoints.mcp.stdio import run_stdio  # noqa: PLC0415
        from ..entrypoints.mcp.tools import make_server  # noqa: PLC0415
        from ..entrypoints.mcp.transcribers import ServiceTranscriber  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise McpMissingError(_MISSING) from error
    signalled = asyncio.Event()

    def on_signal() -> None:
        if signalled.is_set():
            service.drain.hurry()
        signalled.set()

    with handled_signals(on_signal):
        async with service.lifecycle() as ready:
            recordings = Recordings(root=settings.mcp_root or Path.cwd(), web=service.web, longest_bytes=2**63)
            server = make_server(ServiceTranscriber(service, ready), recordings, caller_of=lambda _: None)
            running = asyncio.create_task(run_stdio(server))
            waiting = asyncio.create_task(signalled.wait())
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            await service.drain.finish()
            running.cancel()
            waiting.cancel()
            await asyncio.wait((running, waiting))
            if not running.cancelled():
                running.result()


class MountedMcp:
    """``/mcp`` of the web application, and the server that runs it beside the others."""

    def __init__(self, settings: Settings) -> None:
        """Prepare.

        Raises:
            McpMissingError: The extra is not installed.
        """
        try:
            from ..entrypoints.mcp.http import HttpTransport  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise McpMissingError(_MISSING) from error
        self._settings = settings
        self._transport = HttpTransport(allowed_origins=settings.allowed_origins)

    @property
    def server(self) -> Server:
        """Serves while the service runs."""

        @asynccontextmanager
        async def serving(service: Service) -> AsyncGenerator[None]:
            from ..entrypoints.mcp.recordings import Recordings  # noqa: PLC0415
            from ..entrypoints.mcp.tools import make_server  # noqa: PLC0415
            from ..entrypoints.mcp.transcribers import ServiceTranscriber  # noqa: PLC0415

            recordings = Recordings(
                root=self._settings.mcp_root, web=service.web, longest_bytes=self._settings.max_upload_bytes
            )
            server = make_server(ServiceTranscriber(service), recordings, caller_of=_caller_of)
            async with self._transport.serving(server, service.drain):
                yield

        return serving

    def mount(self, app: FastAPI) -> None:
        """Add the route; keys, hosts, rates, log and drain of the application guard it like any other."""
        app.router.routes.append(Route("/mcp", endpoint=self._transport))


def _caller_of(request: Request | None) -> str | None:
    return None if request is None else request_context(request).caller
