"""What a service elsewhere answers, as far as the tools read it."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from .transcription import JobOutput

_Seconds = Annotated[float, Field(ge=0, le=1e8, allow_inf_nan=False)]
_Channel = Annotated[int, Field(ge=0, le=63)]


class _Times(BaseModel):
    start: _Seconds
    end: _Seconds
    channel: _Channel | None = None


class Span(_Times):
    """A word or sentence and when it was said; OpenAI's sentences begin with a space."""

    text: Annotated[str, StringConstraints(strip_whitespace=True)]


class _Timestamps(BaseModel):
    words: list[Span]
    segments: list[Span]


class ProgressAnswer(BaseModel):
    """An event of a stream: how far the recording has been read."""

    type: Literal["progress"]
    read_until: _Seconds


class DoneAnswer(BaseModel):
    """The last event of a stream."""

    type: Literal["done"]
    text: str
    duration: _Seconds
    timestamps: _Timestamps
    warnings: list[str] | None = None

    @property
    def spoken_words(self) -> list[Span]:
        """The words and their times."""
        return self.timestamps.words

    @property
    def spoken_segments(self) -> list[Span]:
        """The sentences and their times."""
        return self.timestamps.segments


class _Error(BaseModel):
    code: str
    message: str


class FailedAnswer(BaseModel):
    """A refusal, or the end of a stream that failed."""

    error: _Error


EVENT: TypeAdapter[ProgressAnswer | DoneAnswer | FailedAnswer] = TypeAdapter(ProgressAnswer | DoneAnswer | FailedAnswer)
"""An event of a stream."""


class _VerboseWord(_Times):
    word: str


class VerboseAnswer(BaseModel):
    """The result of a job, as `verbose_json`; `words` where they were asked for."""

    text: str
    duration: _Seconds
    segments: list[Span]
    words: list[_VerboseWord] | None = None
    warnings: list[str] | None = None

    @property
    def spoken_words(self) -> list[Span]:
        """The words and their times."""
        return [Span(text=one.word, start=one.start, end=one.end, channel=one.channel) for one in self.words or ()]

    @property
    def spoken_segments(self) -> list[Span]:
        """The sentences and their times."""
        return self.segments


class _Progress(BaseModel):
    done_s: _Seconds
    duration_s: _Seconds | None


class JobAnswer(BaseModel):
    """A job as it is now."""

    id: str
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    progress: _Progress
    error: _Error | None

    def output(self) -> JobOutput:
        """As the tools tell it."""
        return JobOutput(
            id=self.id,
            status=self.status,
            done=self.progress.done_s,
            duration=self.progress.duration_s,
            error=None if self.error is None else self.error.message,
        )


class NotReadyAnswer(BaseModel):
    """Why the service is not ready."""

    reason: str


class _Model(BaseModel):
    id: str
    searches: bool


class ConfigAnswer(BaseModel):
    """What the service is; ``None`` while no model is loaded."""

    model: _Model | None
