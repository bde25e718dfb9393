"""The bodies of the routes that speak OpenAI's audio language.

Source: types of the openai-python client, https://github.com/openai/openai-python, 3.54.0, Apache-2.0.
"""

import math
import zlib
from collections.abc import Iterable, Iterator
from string import ascii_uppercase
from typing import Literal

from pydantic import BaseModel

from ....domain.languages import name_of
from ....domain.transcript import Segment, Token, Transcript, Word, join_words
from ..recordings.schemas import Seconds, messages_of

_LEAST_CONFIDENCE = 1e-10
"""A confidence of zero, by rounding, would have no logarithm."""


class UsageBody(BaseModel):
    """What is counted: seconds of audio."""

    type: Literal["duration"] = "duration"
    seconds: Seconds

    @classmethod
    def of(cls, transcript: Transcript) -> "UsageBody":
        """The seconds of the recording."""
        return cls(seconds=transcript.duration_s)


class LogprobBody(BaseModel):
    """A token of the text, its bytes in UTF-8, and the natural logarithm of its probability."""

    token: str
    bytes: list[int]
    logprob: float

    @classmethod
    def all_of(cls, words: Iterable[Word]) -> "Iterator[LogprobBody]":
        """Those of the words, one by one; a token that begins a word has the space before it."""
        for word in words:
            for token in word.tokens:
                yield cls(token=token.text, bytes=list(token.text.encode()), logprob=_logprob(token))


class OpenAITranscriptionBody(BaseModel):
    """`response_format=json`; `logprobs`, which may be many, are added where they were asked for."""

    text: str
    logprobs: list[LogprobBody] | None = None
    usage: UsageBody
    warnings: list[str] | None = None

    @classmethod
    def of(cls, transcript: Transcript) -> "OpenAITranscriptionBody":
        """The text alone."""
        return cls(text=transcript.text, usage=UsageBody.of(transcript), warnings=messages_of(transcript))


class TokenUsageBody(BaseModel):
    """What is counted at the end of a stream, where the official client knows no other kind than tokens.

    Audio is no tokens to this model, and nobody is billed: so it counts the tokens of the text. `seconds` of audio are
    given besides.
    """

    type: Literal["tokens"] = "tokens"
    input_tokens: int = 0
    output_tokens: int
    total_tokens: int
    seconds: Seconds

    @classmethod
    def of(cls, transcript: Transcript) -> "TokenUsageBody":
        """The tokens of the text, and the seconds of the recording."""
        tokens = sum(len(word.tokens) for word in transcript.words)
        return cls(output_tokens=tokens, total_tokens=tokens, seconds=transcript.duration_s)


class TextDeltaEvent(BaseModel):
    """Words that are final, as text that follows that of the deltas before."""

    type: Literal["transcript.text.delta"] = "transcript.text.delta"
    delta: str
    logprobs: list[LogprobBody] | None = None

    @classmethod
    def of(cls, words: Iterable[Word], *, first: bool, logprobs: bool) -> "TextDeltaEvent":
        """The words, with a space before them unless they are the first."""
        words = tuple(words)
        return cls(
            delta=("" if first else " ") + join_words(words),
            logprobs=list(LogprobBody.all_of(words)) if logprobs else None,
        )


class TextDoneEvent(BaseModel):
    """The whole text: that of all deltas; `logprobs`, which may be many, are added where they were asked for."""

    type: Literal["transcript.text.done"] = "transcript.text.done"
    text: str
    logprobs: list[LogprobBody] | None = None
    usage: TokenUsageBody
    warnings: list[str] | None = None

    @classmethod
    def of(cls, transcript: Transcript) -> "TextDoneEvent":
        """The end of a stream."""
        return cls(text=transcript.text, usage=TokenUsageBody.of(transcript), warnings=messages_of(transcript))


class OpenAIWordBody(BaseModel):
    """A word and when it was said; `channel`, which is not OpenAI's, where channels were separate."""

    word: str
    start: Seconds
    end: Seconds
    channel: int | None = None

    @classmethod
    def all_of(cls, transcript: Transcript) -> "Iterator[OpenAIWordBody]":
        """Every word, one by one."""
        for word in transcript.words:
            yield cls(word=word.text, start=word.start_s, end=word.end_s, channel=word.channel)


class OpenAISegmentBody(BaseModel):
    """A sentence, with the numbers that Whisper gives about its own; `channel` where channels were separate."""

    id: int
    seek: int
    start: Seconds
    end: Seconds
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    channel: int | None = None

    @classmethod
    def of(cls, segment: Segment, *, number: int) -> "OpenAISegmentBody":
        """The segment; `seek` is its beginning in hundredths of a second, as Whisper counts."""
        tokens = [token for word in segment.words for token in word.tokens]
        text = segment.text.encode()
        return cls(
            id=number,
            seek=round(segment.start_s * 100),
            start=segment.start_s,
            end=segment.end_s,
            text=" " + segment.text,
            tokens=[token.id for token in tokens],
            # What was asked for has no effect: the model does not draw lots.
            temperature=0.0,
            avg_logprob=round(sum(map(_logprob, tokens)) / len(tokens), 4),
            compression_ratio=round(len(text) / len(zlib.compress(text)), 4),
            # Without a detector nobody can say more than: the model heard words.
            no_speech_prob=round(segment.no_speech_probability or 0.0, 4),
            channel=segment.channel,
        )

    @classmethod
    def all_of(cls, transcript: Transcript) -> "Iterator[OpenAISegmentBody]":
        """Every segment, one by one, numbered from zero."""
        for number, segment in enumerate(transcript.segments):
            yield cls.of(segment, number=number)


class OpenAIVerboseBody(BaseModel):
    """`response_format=verbose_json`; words and segments, which may be many, are added where they were asked for."""

    task: Literal["transcribe"] = "transcribe"
    language: str
    duration: Seconds
    text: str
    words: list[OpenAIWordBody] | None = None
    segments: list[OpenAISegmentBody] | None = None
    usage: UsageBody
    warnings: list[str] | None = None

    @classmethod
    def of(cls, transcript: Transcript, *, language: str | None) -> "OpenAIVerboseBody":
        """The transcript as a whole; `language` is an ISO 639-1 code, or ``None`` if nobody knows."""
        return cls(
            language=name_of(language) if language is not None else "unknown",
            duration=transcript.duration_s,
            text=transcript.text,
            usage=UsageBody.of(transcript),
            warnings=messages_of(transcript),
        )


class DiarizedSegmentBody(BaseModel):
    """What one speaker said in one go: the speakers are the channels, A for the first one."""

    type: Literal["transcript.text.segment"] = "transcript.text.segment"
    id: str
    start: Seconds
    end: Seconds
    text: str
    speaker: str

    @classmethod
    def all_of(cls, transcript: Transcript) -> "Iterator[DiarizedSegmentBody]":
        """Every segment, one by one, of a transcript of separate channels."""
        for number, segment in enumerate(transcript.segments):
            speaker = ascii_uppercase[segment.channel or 0]
            text, start, end = segment.text, segment.start_s, segment.end_s
            yield cls(id=f"seg_{number}", start=start, end=end, text=text, speaker=speaker)


class OpenAIDiarizedBody(BaseModel):
    """`response_format=diarized_json`; its segments, which may be many, are added."""

    task: Literal["transcribe"] = "transcribe"
    duration: Seconds
    text: str
    segments: list[DiarizedSegmentBody] | None = None
    usage: UsageBody
    warnings: list[str] | None = None

    @classmethod
    def of(cls, transcript: Transcript) -> "OpenAIDiarizedBody":
        """The transcript as a whole."""
        return cls(
            duration=transcript.duration_s,
            text=transcript.text,
            usage=UsageBody.of(transcript),
            warnings=messages_of(transcript),
        )


class OpenAITranslationBody(BaseModel):
    """`response_format=json` of a translation."""

    text: str


class OpenAIVerboseTranslationBody(BaseModel):
    """`response_format=verbose_json` of a translation, which is always into English; segments are added."""

    task: Literal["translate"] = "translate"
    language: Literal["english"] = "english"
    duration: Seconds
    text: str
    segments: list[OpenAISegmentBody] | None = None

    @classmethod
    def of(cls, transcript: Transcript) -> "OpenAIVerboseTranslationBody":
        """The text of English speech."""
        return cls(duration=transcript.duration_s, text=transcript.text)


class OpenAIModelBody(BaseModel):
    """A model that can be named in a request; `created` is when the service began to serve it.

    `aliases`, which is not OpenAI's, has the other names that mean it.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    aliases: list[str]


class OpenAIModelsBody(BaseModel):
    """Every model that is served."""

    object: Literal["list"] = "list"
    data: list[OpenAIModelBody]


def _logprob(token: Token) -> float:
    return round(math.log(max(token.confidence, _LEAST_CONFIDENCE)), 6)
