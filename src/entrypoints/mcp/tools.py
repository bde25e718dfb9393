"""The tools, and the server that offers them on any transport."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Annotated, Any, TypeAlias

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import Tool, ToolAnnotations
from pydantic import Field
from starlette.requests import Request

from ...domain.errors import ServiceError
from .recordings import Recordings
from .transcription import (
    LONGEST_WAIT_S,
    BackgroundJobs,
    Channels,
    Format,
    JobOutput,
    Reading,
    StatusOutput,
    Transcriber,
    TranscriptOutput,
    Writing,
)

_ToolContext: TypeAlias = Context[Any, Request]
_INSTRUCTIONS = (
    "Transcribes recordings of speech with NVIDIA Parakeet. Long recordings take a while; progress is reported."
)
_JOB_TOOLS = frozenset({"start_transcription", "get_transcription"})


def make_server(
    transcriber: Transcriber, recordings: Recordings, *, jobs: BackgroundJobs | None = None
) -> MCPServer[Any]:
    """A server of these tools; those for jobs are listed where `jobs` are there and on."""
    server = _Server(jobs)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=True)
    asks = ToolAnnotations(read_only_hint=True)
    server.add_tool(_transcribe(transcriber, recordings), title="Transcribe a recording", annotations=reads)
    server.add_tool(_server_status(transcriber), title="State of the service", annotations=asks)
    if jobs is not None:
        starts = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
        server.add_tool(_start(jobs, recordings), title="Transcribe in the background", annotations=starts)
        server.add_tool(_get(jobs), title="A transcription in the background", annotations=asks)
    return server


class _Server(MCPServer[Any]):
    """Asks whether there are jobs when its tools are listed: a service elsewhere may be started later than this."""

    def __init__(self, jobs: BackgroundJobs | None) -> None:
        super().__init__(
            "parakeet-service", version=version("parakeet-service"), instructions=_INSTRUCTIONS, log_level="WARNING"
        )
        self._jobs = jobs

    async def list_tools(self) -> list[Tool]:
        tools = await super().list_tools()
        if self._jobs is None or await self._jobs.are_on():
            return tools
        return [tool for tool in tools if tool.name not in _JOB_TOOLS]


def _transcribe(transcriber: Transcriber, recordings: Recordings) -> Callable[..., Any]:
    async def transcribe(
        ctx: _ToolContext,
        path: str | None = None,
        url: str | None = None,
        format: Format = "text",  # noqa: A002 - the name on the wire
        words: bool = False,  # noqa: FBT001, FBT002 - an argument on the wire
        keywords: list[str] | None = None,
        track: int | None = None,
        channels: Channels = "mix",
    ) -> TranscriptOutput:
        """Transcribe one recording, a file or an https URL: as text, as json with the times of segments, or as captions.

        `words` adds the times of words. `keywords` are names and terms to favour. `track` chooses an audio track,
        counted from 1. With `channels` = `separate` each channel is transcribed by itself, such as the two sides of a
        call, and words and segments have a `channel`, counted from 0.
        """
        with _told():
            async with recordings.open(path=path, url=url) as source, _reporting(ctx) as on_progress:
                return await transcriber(
                    source,
                    Reading(tuple(keywords or ()), track, channels),
                    Writing(format, words),
                    request=ctx.request_context.request,
                    on_progress=on_progress,
                )

    return transcribe


def _server_status(transcriber: Transcriber) -> Callable[..., Any]:
    async def server_status() -> StatusOutput:
        """Tell whether the service is ready to transcribe."""
        with _told():
            return StatusOutput(status=await transcriber.status())

    return server_status


def _start(jobs: BackgroundJobs, recordings: Recordings) -> Callable[..., Any]:
    async def start_transcription(
        ctx: _ToolContext,
        path: str | None = None,
        url: str | None = None,
        keywords: list[str] | None = None,
        track: int | None = None,
        channels: Channels = "mix",
    ) -> JobOutput:
        """Begin to transcribe a long recording, a file or an https URL, and return at once with the `id` of a job.

        `get_transcription` tells how far it is, and gives the transcript. The job goes on if this conversation ends.
        `keywords`, `track` and `channels` are those of `transcribe`.
        """
        reading, request = Reading(tuple(keywords or ()), track, channels), ctx.request_context.request
        with _told():
            if path is None and url is not None:
                return await jobs.start(url, reading, request=request)
            async with recordings.open(path=path, url=url) as source:
                return await jobs.start(source, reading, request=request)

    return start_transcription


def _get(jobs: BackgroundJobs) -> Callable[..., Any]:
    async def get_transcription(
        ctx: _ToolContext,
        id: str,  # noqa: A002 - the name on the wire
        format: Format = "text",  # noqa: A002
        words: bool = False,  # noqa: FBT001, FBT002
        wait: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S)] = 0,
    ) -> JobOutput:
        """Tell how a job of `start_transcription` stands, and give its `transcript` once it is completed.

        `format` and `words` are those of `transcribe`. `wait` is how many seconds to wait for the end, at most.
        """
        with _told():
            return await jobs.find(id, Writing(format, words), wait_s=wait, request=ctx.request_context.request)

    return get_transcription


@contextmanager
def _told() -> Generator[None]:
    """Say to the assistant what is wrong."""
    try:
        yield
    except ServiceError as error:
        raise ToolError(f"{error.message} ({error.code})") from error


@asynccontextmanager
async def _reporting(ctx: _ToolContext) -> AsyncGenerator[Callable[[float], None]]:
    """Tell the client how many seconds have been read; what it has no time to read is passed over."""
    done_s = told_s = 0.0
    fresh = asyncio.Event()

    def on_progress(read_s: float) -> None:
        nonlocal done_s
        done_s = max(done_s, read_s)
        fresh.set()

    async def tell() -> None:
        nonlocal told_s
        if done_s > told_s:
            told_s = done_s
            await ctx.report_progress(round(told_s, 3), message=f"{told_s:.0f} s transcribed")

    async def report() -> None:
        while await fresh.wait():
            fresh.clear()
            await tell()

    reporting = asyncio.create_task(report())
    try:
        yield on_progress
    finally:
        reporting.cancel()
        await asyncio.wait((reporting,))
    # The last of it, which came together with the result.
    await tell()
