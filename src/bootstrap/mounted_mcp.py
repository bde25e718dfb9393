"""The Model Context Protocol, mounted beside HTTP's routes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..application.service import Service
from ..config.settings import Settings
from ..entrypoints.http.jobs.routes import caller_of as job_caller
from .lifecycle import Server
from .mcp import MISSING, McpMissingError


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
            raise McpMissingError(MISSING) from error
        self._settings = settings
        self._transport = HttpTransport(allowed_origins=settings.allowed_origins)

    @property
    def server(self) -> Server:
        """Serves while the service runs."""

        @asynccontextmanager
        async def serving(service: Service) -> AsyncGenerator[None]:
            from ..entrypoints.mcp.here import ServiceJobs, ServiceTranscriber  # noqa: PLC0415 - an extra
            from ..entrypoints.mcp.recordings import Recordings  # noqa: PLC0415
            from ..entrypoints.mcp.tools import make_server  # noqa: PLC0415

            recordings = Recordings(
                root=self._settings.mcp_root, web=service.web, longest_bytes=self._settings.max_upload_bytes
            )
            caller_of = partial(job_caller, self._settings.key_owners)
            jobs = (
                None
                if service.jobs is None
                else ServiceJobs(service.jobs, service.model, service.drain, caller_of=caller_of)
            )
            server = make_server(ServiceTranscriber(service, caller_of=caller_of), recordings, jobs=jobs)
            async with self._transport.serving(server, service.drain):
                yield

        return serving

    def mount(self, app: FastAPI) -> None:
        """Add the route; keys, hosts, rates, log and drain of the application guard it like any other."""
        app.router.routes.append(_NamedRoute("/mcp", endpoint=self._transport))


class _NamedRoute(Route):
    """Says its name, as FastAPI's own routes do: the log and the figures have it."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await super().handle(scope, receive, send)
