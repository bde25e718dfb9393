"""The bodies of the routes that speak OpenAI's audio language.

Source: types of the openai-python client, https://github.com/openai/openai-python, 3.54.0, Apache-2.0.
"""

import math
import zlib
from typing import Literal

from pydantic import BaseModel

from ...domain.transcript import Segment, Transcript
from .schemas import Seconds

_LANGUAGE_NAMES = {
    "bg": "bulgarian",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "hr": "croatian",
    "hu": "hungarian",
    "it": "italian",
    "lt": "lithuanian",
    "lv": "latvian",
    "mt": "maltese",
    "nl": "dutch",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sk": "slovak",
    "sl": "slovenian",
    "sv": "swedish",
    "uk": "ukrainian",
}
_LEAST_CONFIDENCE = 1e-10
"""A confidence of zero, by rounding, would have no logarithm."""


class UsageBody(BaseModel):
    """What is counted: started seconds of audio."""

    type: Literal["duration"] = "duration"
    seconds: int

    @classmethod
    def of(cls, transcript: Transcript) -> "UsageBody":
        """The seconds of the recording."""
        return cls(seconds=math.ceil(transcript.duration_s))


class OpenAITranscriptionBody(BaseModel):
    """`response_format=json`."""

    text: str
    usage: UsageBody

    @classmethod
    def of(cls, transcript: Transcript) -> "OpenAITranscriptionBody":
        """The text alone."""
        return cls(text=transcript.text, usage=UsageBody.of(transcript))


class OpenAIWordBody(BaseModel):
    """A word and when it was said."""

    word: str
    start: Seconds
    end: Seconds


class OpenAISegmentBody(BaseModel):
    """A sentence, with the numbers that Whisper gives about its own."""

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

    @classmethod
    def of(cls, segment: Segment, *, number: int, temperature: float) -> "OpenAISegmentBody":
        """The segment; `seek` is its beginning in hundredths of a second, as Whisper counts."""
        tokens = [token for word in segment.words for token in word.tokens]
        text = segment.text.encode()
        logprobs = [math.log(max(token.confidence, _LEAST_CONFIDENCE)) for token in tokens]
        return cls(
            id=number,
            seek=round(segment.start_s * 100),
            start=segment.start_s,
            end=segment.end_s,
            text=" " + segment.text,
            tokens=[token.id for token in tokens],
            temperature=temperature,
            avg_logprob=round(sum(logprobs) / len(logprobs), 4),
            compression_ratio=round(len(text) / len(zlib.compress(text)), 4),
            # Without a detector nobody can say more than: the model heard words.
            no_speech_prob=round(segment.no_speech_probability or 0.0, 4),
        )


class OpenAIVerboseBody(BaseModel):
    """`response_format=verbose_json`; words and segments where they were asked for."""

    task: Literal["transcribe"] = "transcribe"
    language: str
    duration: Seconds
    text: str
    words: list[OpenAIWordBody] | None = None
    segments: list[OpenAISegmentBody] | None = None
    usage: UsageBody

    @classmethod
    def of(
        cls, transcript: Transcript, *, language: str | None, temperature: float, words: bool, segments: bool
    ) -> "OpenAIVerboseBody":
        """Everything known of the transcript; `language` is an ISO 639-1 code, or ``None`` if nobody knows."""
        return cls(
            language=_LANGUAGE_NAMES.get(language, language) if language is not None else "unknown",
            duration=transcript.duration_s,
            text=transcript.text,
            words=[OpenAIWordBody(word=word.text, start=word.start_s, end=word.end_s) for word in transcript.words]
            if words
            else None,
            segments=[
                OpenAISegmentBody.of(segment, number=number, temperature=temperature)
                for number, segment in enumerate(transcript.segments)
            ]
            if segments
            else None,
            usage=UsageBody.of(transcript),
        )


class OpenAIErrorBody(BaseModel):
    """What went wrong, and with which field."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIProblemBody(BaseModel):
    """The envelope of an error."""

    error: OpenAIErrorBody


class OpenAIModelBody(BaseModel):
    """A model that can be named in a request; `created` is when the service began to serve it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class OpenAIModelsBody(BaseModel):
    """Every model that is served."""

    object: Literal["list"] = "list"
    data: list[OpenAIModelBody]
