"""What the tools ask of whatever transcribes, and what they answer.

The core is not imported here, nor in the tools: an assistant waits for the first answer, and numpy for its own time.
"""

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pydantic import BaseModel, Field
from starlette.requests import Request

Format: TypeAlias = Literal["text", "json", "srt", "vtt"]
Channels: TypeAlias = Literal["mix", "separate"]

LONGEST_WAIT_S = 60.0
"""What a call may wait for the end of a job: clients give up calls that take longer, unless they are told of progress."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a recording is to be read.

    Attributes:
        keywords: Names and terms to favour.
        track: Which audio track, counted from 1; ``None`` takes the one that is marked as default.
        channels: Whether the channels are mixed, or each is read by itself.
    """

    keywords: tuple[str, ...] = ()
    track: int | None = None
    channels: Channels = "mix"


@dataclass(frozen=True, slots=True)
class Writing:
    """How a transcript is to be written; `words` adds their times."""

    format: Format = "text"
    words: bool = False


class SpanOutput(BaseModel):
    """A word or sentence and when it was said, in seconds; `channel`, counted from 0, where channels were separate."""

    text: str
    start: float
    end: float
    channel: int | None = Field(default=None, exclude_if=lambda channel: channel is None)


class TranscriptOutput(BaseModel):
    """A transcript; captions are in `text` where they were asked for, and `segments` and `words` are there for json."""

    text: str
    duration: float = Field(description="length of the recording in seconds")
    segments: list[SpanOutput] | None = None
    words: list[SpanOutput] | None = None
    warnings: list[str] = Field(default_factory=list, description="what of the recording was passed over")


class JobOutput(BaseModel):
    """A transcription in the background; `transcript` is there once it is completed."""

    id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    done: float = Field(description="seconds of the recording that have been transcribed")
    duration: float | None = Field(default=None, description="length of the recording in seconds, once that is known")
    error: str | None = Field(default=None, description="why it failed")
    transcript: TranscriptOutput | None = None


class StatusOutput(BaseModel):
    """How the service is."""

    status: str


class Transcriber(Protocol):
    """What reads recordings: this process, or a service elsewhere."""

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        reading: Reading,
        writing: Writing,
        *,
        request: Request | None,
        on_progress: Callable[[float], None],
    ) -> TranscriptOutput:
        """Transcribe one recording.

        Args:
            source: Its bytes.
            reading: How it is read.
            writing: How the transcript is written.
            request: The HTTP request of the call, which tells whom to charge; ``None`` where there is none.
            on_progress: Called with the seconds that have been read; they may be fewer than before.

        Raises:
            ServiceError, ToolError: It cannot be transcribed.
        """
        ...

    async def status(self) -> str:
        """Whether it is ready, in a sentence."""
        ...


class BackgroundJobs(Protocol):
    """Recordings that are read in the background."""

    async def are_on(self) -> bool:
        """Whether there are any such things."""
        ...

    async def start(
        self, source: AsyncIterable[bytes] | str, reading: Reading, *, request: Request | None
    ) -> JobOutput:
        """Take a recording, or the URL of one; its channels are mixed.

        Raises:
            ServiceError, ToolError: It is refused.
        """
        ...

    async def find(self, job_id: str, writing: Writing, *, wait_s: float, request: Request | None) -> JobOutput:
        """A job of the caller's; its end is waited for, for so long.

        Raises:
            ServiceError, ToolError: The caller has none of that id.
        """
        ...
