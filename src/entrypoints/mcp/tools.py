"""The tools, and the server that offers them on any transport."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Literal, Protocol, TypeAlias

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.requests import Request

from ...application.ports.speech_model import Decoding
from ...application.transcribe_file import Progress
from ...domain.captions import to_srt, to_vtt
from ...domain.errors import ServiceError
from ...domain.transcript import Transcript
from .recordings import Recordings

Format: TypeAlias = Literal["text", "json", "srt", "vtt"]
_ToolContext: TypeAlias = Context[Any, Request]
_INSTRUCTIONS = (
    "Transcribes recordings of speech with NVIDIA Parakeet. Long recordings take a while; progress is reported."
)


class Transcriber(Protocol):
    """What reads recordings: this process, or a service elsewhere."""

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        *,
        caller: str | None,
        decoding: Decoding,
        track: int | None,
        on_progress: Callable[[Progress], None],
    ) -> Transcript:
        """Transcribe one recording; raises `ServiceError`."""
        ...

    async def status(self) -> str:
        """Whether it is ready, in a sentence."""
        ...


class SpanOutput(BaseModel):
    """A word or sentence and when it was said, in seconds."""

    text: str
    start: float
    end: float


class TranscriptOutput(BaseModel):
    """A transcript; captions are in `text` where they were asked for, and `segments` and `words` are there for json."""

    text: str
    duration: float = Field(description="length of the recording in seconds")
    segments: list[SpanOutput] | None = None
    words: list[SpanOutput] | None = None
    warnings: list[str] = Field(default_factory=list, description="what of the recording was passed over")

    @classmethod
    def of(cls, transcript: Transcript, style: Format, *, words: bool) -> "TranscriptOutput":
        """The transcript in one format."""
        text = {"srt": to_srt, "vtt": to_vtt}[style](transcript) if style in ("srt", "vtt") else transcript.text
        return cls(
            text=text,
            duration=round(transcript.duration_s, 3),
            segments=_spans(transcript.segments) if style == "json" else None,
            words=_spans(transcript.words) if words else None,
            warnings=[warning.message for warning in transcript.warnings],
        )


class StatusOutput(BaseModel):
    """How the service is."""

    status: str


def make_server(
    transcriber: Transcriber, recordings: Recordings, *, caller_of: Callable[[Request | None], str | None]
) -> MCPServer[Any]:
    """A server of these tools; `caller_of` tells whom to charge, for the HTTP request of a call or ``None``."""
    server: MCPServer[Any] = MCPServer(
        "parakeet-service", version=version("parakeet-service"), instructions=_INSTRUCTIONS, log_level="WARNING"
    )

    async def transcribe(
        ctx: _ToolContext,
        path: str | None = None,
        url: str | None = None,
        format: Format = "text",  # noqa: A002 - the name on the wire
        words: bool = False,  # noqa: FBT001, FBT002 - an argument on the wire
        keywords: list[str] | None = None,
        track: int | None = None,
    ) -> TranscriptOutput:
        """Transcribe one recording, a file or an https URL: as text, as json with the times of segments, or as captions.

        `words` adds the times of words. `keywords` are names and terms to favour. `track` chooses an audio track,
        counted from 1.
        """
        try:
            async with recordings.open(path=path, url=url) as source, _reporting(ctx) as on_progress:
                transcript = await transcriber(
                    source,
                    caller=caller_of(ctx.request_context.request),
                    decoding=Decoding(phrases=tuple(keywords or ())),
                    track=track,
                    on_progress=on_progress,
                )
        except ServiceError as error:
            raise ToolError(f"{error.message} ({error.code})") from error
        # Captions of hours take long to cut.
        return await asyncio.to_thread(TranscriptOutput.of, transcript, format, words=words)

    async def server_status() -> StatusOutput:
        """Tell whether the service is ready to transcribe."""
        return StatusOutput(status=await transcriber.status())

    reads = ToolAnnotations(read_only_hint=True, open_world_hint=True)
    server.add_tool(transcribe, title="Transcribe a recording", annotations=reads)
    server.add_tool(server_status, title="State of the service", annotations=ToolAnnotations(read_only_hint=True))
    return server


@asynccontextmanager
async def _reporting(ctx: _ToolContext) -> AsyncGenerator[Callable[[Progress], None]]:
    """Tell the client how many seconds have been read; what it has no time to read is passed over."""
    done_s = told_s = 0.0
    fresh = asyncio.Event()

    def on_progress(news: Progress) -> None:
        nonlocal done_s
        done_s = max(done_s, news.done_s)
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


class _Spoken(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


def _spans(spoken: tuple[_Spoken, ...]) -> list[SpanOutput]:
    return [SpanOutput(text=one.text, start=round(one.start_s, 3), end=round(one.end_s, 3)) for one in spoken]
