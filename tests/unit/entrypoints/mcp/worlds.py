"""The tools on a scripted service: in its process, and over HTTP from another one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import Client

from parakeet_service.entrypoints.mcp.elsewhere import RemoteJobs, RemoteTranscriber
from parakeet_service.entrypoints.mcp.here import ServiceTranscriber
from parakeet_service.entrypoints.mcp.recordings import Recordings
from parakeet_service.entrypoints.mcp.tools import make_server
from tests.unit.entrypoints.world import World


@asynccontextmanager
async def here(world: World, root: Path | None = None) -> AsyncGenerator[Client]:
    """A client of the service's own process, without jobs: they need a request of HTTP."""
    recordings = Recordings(root=root, web=world.web, longest_bytes=1 << 26)
    async with Client(make_server(ServiceTranscriber(world.service), recordings)) as client:
        yield client


@asynccontextmanager
async def elsewhere(world: World, root: Path | None = None, **headers: str) -> AsyncGenerator[Client]:
    """A client of another process, which asks the service over HTTP."""
    recordings = Recordings(root=root, web=world.web, longest_bytes=1 << 26)
    async with world.client(**headers) as http:
        server = make_server(RemoteTranscriber(http), recordings, jobs=RemoteJobs(http))
        async with Client(server) as client:
            yield client
