"""The Model Context Protocol on the standard streams, before a service that is made meanwhile, or one elsewhere.

What is imported here is light: an assistant waits for the first answer.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ..application.drain import Drain
from ..config.settings import Settings
from ..domain.errors import FaultError
from .signals import handled_signals
from .web import web_client

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from ..application.service import Service
    from ..entrypoints.mcp.here import ServiceTranscriber
    from ..entrypoints.mcp.late import LateTranscriber
    from ..entrypoints.mcp.recordings import Recordings

_log = structlog.stdlib.get_logger(__name__)
MISSING = "MCP needs the extra `mcp`: pip install 'parakeet-service[mcp]'."


class McpMissingError(FaultError):
    """The extra is not installed."""

    code = "mcp_missing"


async def serve_mcp_on_stdio(settings: Settings, *, url: str | None = None, api_key: str | None = None) -> None:
    """Serve the client on the standard streams until it leaves or SIGTERM comes; then drain and stop.

    Args:
        settings: Those of the service, which is made once a client has been greeted, and of the files that may be read.
        url: The service that transcribes, if it is one elsewhere: then none is made.
        api_key: What that one wants to be shown.

    Raises:
        McpMissingError: The extra is not installed.
    """
    try:
        from ..entrypoints.mcp.stdio import run_stdio  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise McpMissingError(MISSING) from error
    signalled = asyncio.Event()
    own = _OwnService(settings)

    def on_signal() -> None:
        if signalled.is_set():
            own.hurry()
        signalled.set()

    with handled_signals(on_signal):
        async with own.server() if url is None else _server_before(settings, url, api_key) as server:
            running = asyncio.create_task(run_stdio(server))
            waiting = asyncio.create_task(signalled.wait())
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            await own.finish()
            running.cancel()
            waiting.cancel()
            await asyncio.wait((running, waiting))
            if not running.cancelled():
                running.result()


@asynccontextmanager
async def _server_before(settings: Settings, url: str, api_key: str | None) -> "AsyncGenerator[MCPServer[Any]]":
    """A server that asks the service at `url`."""
    from ..entrypoints.mcp.elsewhere import RemoteJobs, RemoteTranscriber, client_of  # noqa: PLC0415 - an extra
    from ..entrypoints.mcp.tools import make_server  # noqa: PLC0415

    async with client_of(url, api_key) as http:
        yield make_server(RemoteTranscriber(http), _recordings(settings), jobs=RemoteJobs(http))


class _OwnService:
    """The service in this process, which is made when a client has been greeted."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._drain: Drain | None = None

    @asynccontextmanager
    async def server(self) -> "AsyncGenerator[MCPServer[Any]]":
        """A server whose calls wait for it."""
        from ..entrypoints.mcp.late import LateTranscriber  # noqa: PLC0415 - an extra
        from ..entrypoints.mcp.tools import make_server  # noqa: PLC0415

        late = LateTranscriber()
        server = make_server(late, _recordings(self._settings))
        server.middleware.append(late.watch)
        living = asyncio.create_task(self._live(late))
        try:
            yield server
        finally:
            living.cancel()
            await asyncio.wait((living,))

    def hurry(self) -> None:
        """Do not wait for what runs."""
        if self._drain is not None:
            self._drain.hurry()

    async def finish(self) -> None:
        """Wait for what runs."""
        if self._drain is not None:
            await self._drain.finish()

    async def _live(self, late: "LateTranscriber") -> None:
        await late.wanted.wait()
        try:
            service, transcriber = await asyncio.to_thread(_made, self._settings)
        except Exception as error:  # noqa: BLE001
            # Whoever calls hears of it; where it is no fault that we know, the log has all that there is.
            known = isinstance(error, FaultError)
            _log.critical("the service cannot be made", reason=str(error), exc_info=None if known else error)
            late.fail(error)
            return
        self._drain = service.drain
        async with service.lifecycle() as ready:
            late.come(transcriber(service, ready))
            await asyncio.Event().wait()


def _made(settings: Settings) -> "tuple[Service, type[ServiceTranscriber]]":
    # In a thread, for these imports take more than a second.
    from ..entrypoints.mcp.here import ServiceTranscriber  # noqa: PLC0415
    from .container import Container  # noqa: PLC0415
    from .directories import prepare_directories  # noqa: PLC0415

    prepare_directories()
    return Container(settings=settings).service(), ServiceTranscriber


def _recordings(settings: Settings) -> "Recordings":
    from ..entrypoints.mcp.recordings import Recordings  # noqa: PLC0415 - an extra

    return Recordings(root=settings.mcp_root or Path.cwd(), web=web_client(settings), longest_bytes=2**63)
