"""The bodies of the service's own routes."""

from collections.abc import Iterable
from typing import Annotated, Literal, Protocol, Self

from pydantic import BaseModel, PlainSerializer, WithJsonSchema

from ....application.transcribe_file import Progress
from ....domain.characters import characters_of
from ....domain.transcript import Transcript

Seconds = Annotated[float, PlainSerializer(lambda seconds: round(seconds, 3)), WithJsonSchema({"type": "number"})]
"""Seconds from the recording's first sample, to the millisecond."""


class _Spoken(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


class _OnChannel(_Spoken, Protocol):
    @property
    def channel(self) -> int | None: ...


class SpanBody(BaseModel):
    """A piece of text and when it was said."""

    text: str
    start: Seconds
    end: Seconds

    @classmethod
    def of(cls, spoken: _Spoken) -> "SpanBody":
        """The span of a character, a word or a segment."""
        return cls(text=spoken.text, start=spoken.start_s, end=spoken.end_s)

    @classmethod
    def all_of(cls, spoken: Iterable[_Spoken]) -> list["SpanBody"]:
        """The span of each."""
        return [cls.of(one) for one in spoken]


class ChannelSpanBody(SpanBody):
    """A word or segment; `channel`, counted from 0, only where channels were separate."""

    channel: int | None = None

    @classmethod
    def on_channels(cls, spoken: Iterable[_OnChannel]) -> list["ChannelSpanBody"]:
        """The span of each, and whose it is."""
        return [cls(text=one.text, start=one.start_s, end=one.end_s, channel=one.channel) for one in spoken]


class TimestampsBody(BaseModel):
    """When everything was said; `chars` only where they were asked for."""

    words: list[ChannelSpanBody]
    segments: list[ChannelSpanBody]
    chars: list[SpanBody] | None = None


class TranscriptionBody(BaseModel):
    """The text of a recording; `timestamps` only where they were asked for, `warnings` where something was passed over."""

    text: str
    timestamps: TimestampsBody | None = None
    warnings: list[str] | None = None

    @classmethod
    def of(cls, transcript: Transcript, *, timestamps: Literal["none", "word", "char"]) -> Self:
        """The transcript down to words, to characters, or without times."""
        warnings = messages_of(transcript)
        if timestamps == "none":
            return cls(text=transcript.text, warnings=warnings)
        return cls(
            text=transcript.text,
            warnings=warnings,
            timestamps=TimestampsBody(
                words=ChannelSpanBody.on_channels(transcript.words),
                segments=ChannelSpanBody.on_channels(transcript.segments),
                chars=SpanBody.all_of(characters_of(transcript.words)) if timestamps == "char" else None,
            ),
        )


def messages_of(transcript: Transcript) -> list[str] | None:
    """What was passed over, a sentence each; ``None`` if nothing was."""
    return [warning.message for warning in transcript.warnings] or None


class ProgressEvent(BaseModel):
    """What one more window of a recording told.

    Attributes:
        words: Those that became final; they follow the ones of earlier events. Their text never changes again, their
            times may until the end, by the little that sets them straight.
        draft: The words after them as they read now.
        read_until: How far the recording has been read.
        channel: Whose words these are, counted from 0; only where channels are separate.
    """

    type: Literal["progress"] = "progress"
    words: list[SpanBody]
    draft: list[SpanBody]
    read_until: Seconds
    channel: int | None = None

    @classmethod
    def of(cls, news: Progress) -> "ProgressEvent":
        """The news of a window."""
        return cls(
            words=SpanBody.all_of(news.finalized),
            draft=SpanBody.all_of(news.draft),
            read_until=news.done_s,
            channel=news.channel,
        )


class DoneEvent(TranscriptionBody):
    """The end of a stream: what the answer would be without one, and how long the recording is, in seconds."""

    type: Literal["done"] = "done"
    duration: Seconds

    @classmethod
    def of(cls, transcript: Transcript, *, timestamps: Literal["none", "word", "char"]) -> Self:
        """The end of this recording's stream."""
        body = TranscriptionBody.of(transcript, timestamps=timestamps)
        return cls(text=body.text, timestamps=body.timestamps, warnings=body.warnings, duration=transcript.duration_s)
