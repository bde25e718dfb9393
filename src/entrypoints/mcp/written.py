"""Transcripts as the tools write them."""

from typing import Protocol

from ...domain.captions import to_srt, to_vtt
from ...domain.transcript import Transcript, Word
from .transcription import Format, SpanOutput, TranscriptOutput, Writing


def written(transcript: Transcript, writing: Writing) -> TranscriptOutput:
    """The transcript in one format; takes long for hours of audio, so call it in a thread."""
    style = writing.format
    return TranscriptOutput(
        text=captions_of(transcript, style) if style in ("srt", "vtt") else transcript.text,
        duration=round(transcript.duration_s, 3),
        segments=_spans(transcript.segments) if style == "json" else None,
        words=_spans(transcript.words) if writing.words else None,
        warnings=[warning.message for warning in transcript.warnings],
    )


def captions_of(transcript: Transcript, style: Format) -> str:
    """The captions."""
    return to_srt(transcript) if style == "srt" else to_vtt(transcript)


def transcript_of(words: list[SpanOutput], *, duration_s: float) -> Transcript:
    """The transcript that a service told by its words, as far as captions need it."""
    count = max((word.channel + 1 for word in words if word.channel is not None), default=0)
    if not count:
        return Transcript.of(_words(words), duration_s=duration_s)
    apart = [
        Transcript.of(_words([word for word in words if word.channel == number]), duration_s=duration_s)
        for number in range(count)
    ]
    return Transcript.of_channels(apart, duration_s=duration_s)


def _words(words: list[SpanOutput]) -> list[Word]:
    return [Word(word.text, word.start, word.end, confidence=1.0, tokens=()) for word in words]


class _Spoken(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def channel(self) -> int | None: ...


def _spans(spoken: tuple[_Spoken, ...]) -> list[SpanOutput]:
    return [
        SpanOutput(text=one.text, start=round(one.start_s, 3), end=round(one.end_s, 3), channel=one.channel)
        for one in spoken
    ]
