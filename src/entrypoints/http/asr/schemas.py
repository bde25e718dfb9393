"""The bodies of whisper-asr-webservice's routes.

Source: https://github.com/ahmetoner/whisper-asr-webservice, `app/webservice.py`, MIT: names of parameters and fields.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from ....domain.transcript import Transcript
from ..openai.schemas import OpenAISegmentBody
from ..recordings.schemas import Seconds


class AsrWordBody(BaseModel):
    """A word, with the space before it that Whisper gives it."""

    word: str
    start: Seconds
    end: Seconds
    probability: float


class AsrSegmentBody(OpenAISegmentBody):
    """A sentence with its words, as Whisper writes it."""

    words: list[AsrWordBody]

    @classmethod
    def all_with_words(cls, transcript: Transcript) -> "Iterator[AsrSegmentBody]":
        """Every segment, one by one."""
        for plain, segment in zip(OpenAISegmentBody.all_of(transcript), transcript.segments, strict=True):
            spoken = [
                AsrWordBody(
                    word=" " + word.text,
                    start=word.start_s,
                    end=word.end_s,
                    probability=round(word.confidence, 4),
                )
                for word in segment.words
            ]
            yield cls(**plain.model_dump(), words=spoken)


class AsrBody(BaseModel):
    """`output=json`; segments, which may be many, are added."""

    text: str
    language: str | None
    segments: list[AsrSegmentBody | OpenAISegmentBody] | None = None


class DetectedLanguageBody(BaseModel):
    """The language of a recording; how sure that is nobody has measured, so there is no `confidence`."""

    detected_language: str
    language_code: str
