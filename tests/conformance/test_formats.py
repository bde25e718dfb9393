"""Every format with every option that shapes it, by every way of the official client."""

from itertools import product
from typing import Any

import openai
import pytest
from openai.types.audio import Transcription, TranscriptionVerbose, Translation, TranslationVerbose
from pydantic import ValidationError

from tests.conformance.calls import TEXT, WAYS, Answer, Callers, Heard, Parameters, Way, strictly

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
GRANULARITIES = ((), ("word",), ("segment",), ("word", "segment"))
VAD = {"type": "server_vad", "threshold": 0.4, "silence_duration_ms": 300, "prefix_padding_ms": 200}
CHUNKINGS: tuple[Any, ...] = (None, "auto", VAD)


def refused(sent: Parameters) -> str | None:
    """The parameter for which OpenAI's contract, or our reading of it, wants this refused."""
    response_format = sent["response_format"]
    if response_format == "diarized_json":
        return "response_format"
    if "stream" in sent and response_format != "json":
        return "stream"
    if "timestamp_granularities" in sent and response_format != "verbose_json":
        return "timestamp_granularities"
    if "include" in sent and response_format != "json":
        return "include"
    return None


def parameters(
    response_format: str, granularities: tuple[str, ...], chunking: object, *, logprobs: bool, stream: bool
) -> Parameters:
    asked: Parameters = {"response_format": response_format}
    if granularities:
        asked["timestamp_granularities"] = list(granularities)
    if chunking:
        asked["chunking_strategy"] = chunking
    if logprobs:
        asked["include"] = ["logprobs"]
    if stream:
        asked["stream"] = True
    return asked


def check(answer: Answer, asked: Parameters) -> None:
    """What the types leave open: which fields are there, and that they belong together."""
    granularities = asked.get("timestamp_granularities", [])
    match answer:
        case Heard():
            assert asked["stream"]
            assert answer.done.text == TEXT
            assert len(answer.deltas) > 1
            logprobs = [one for delta in answer.deltas for one in delta.logprobs or ()]
            assert (answer.done.logprobs is not None) == ("include" in asked)
            assert [one.to_dict() for one in logprobs] == [one.to_dict() for one in answer.done.logprobs or ()]
            assert answer.done.usage is not None
            assert answer.done.usage.total_tokens == len(TEXT.split())
        case Transcription():
            assert answer.text == TEXT
            assert (answer.logprobs is not None) == ("include" in asked)
            spelled = b"".join(bytes(map(int, one.bytes or ())) for one in answer.logprobs or ())
            assert spelled.decode() == ("".join(" " + word for word in TEXT.split()) if answer.logprobs else "")
            assert answer.usage is not None
            assert answer.usage.to_dict() == {"type": "duration", "seconds": 5.2}
        case TranscriptionVerbose():
            assert (answer.text, answer.duration, answer.language) == (TEXT, 5.2, "english")
            assert (answer.words is not None) == ("word" in granularities)
            assert (answer.segments is not None) == (granularities != ["word"])
            assert [word.word for word in answer.words or TEXT_AS_WORDS] == TEXT.split()
            said = "".join(segment.text for segment in answer.segments or ())
            assert said == (f" {TEXT}" if answer.segments else "")
        case str():
            plain = {"text": f"{TEXT}\n", "srt": "1\n00:00:00,000 --> ", "vtt": "WEBVTT\n\n00:00:00.000 --> "}
            assert answer.startswith(plain[asked["response_format"]])
        case _:
            raise AssertionError(answer)


class _AWord:
    def __init__(self, word: str) -> None:
        self.word = word


TEXT_AS_WORDS = [_AWord(word) for word in TEXT.split()]


@pytest.mark.parametrize(
    "content", ['{"text": 1}', "{}", '{"text": "", "usage": {"type": "duration", "seconds": "1"}}']
)
def test_the_types_are_strict(content: str) -> None:
    with pytest.raises(ValidationError):
        strictly(Transcription, content)


@pytest.mark.parametrize("content", ['{"text": "", "more": 1}', '{"text": "", "logprobs": [{"token": "", "more": 1}]}'])
def test_and_know_nothing_more(content: str) -> None:
    with pytest.raises(AssertionError, match="more"):
        strictly(Transcription, content)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("response_format", FORMATS)
def test_every_option(client: Callers, response_format: str, way: Way) -> None:
    for granularities, chunking, logprobs, stream in product(GRANULARITIES, CHUNKINGS, (False, True), (False, True)):
        asked = parameters(response_format, granularities, chunking, logprobs=logprobs, stream=stream)
        param = refused(asked)
        if param is None:
            check(client.transcribe(asked, way=way), asked)
        else:
            with pytest.raises(openai.BadRequestError) as raised:
                client.transcribe(asked, way=way)
            assert (raised.value.param, raised.value.code) == (param, "invalid_request"), asked


# The client calls translations deprecated, and they still are what many servers are asked for.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("response_format", FORMATS)
def test_translations_of_english(client: Callers, response_format: str, way: Way) -> None:
    asked = {"response_format": response_format, "prompt": "x", "temperature": 0.2}
    if response_format == "diarized_json":
        with pytest.raises(openai.BadRequestError, match="Input should be"):
            client.translate(asked, way=way)
        return
    match client.translate(asked, way=way):
        case Translation() as answer:
            assert answer.text == TEXT
        case TranslationVerbose() as answer:
            assert (answer.text, answer.duration, answer.language) == (TEXT, 5.2, "english")
            assert answer.segments
        case str() as answer:
            check(answer, asked)
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("way", WAYS)
def test_everything_at_once(client: Callers, way: Way) -> None:
    answer = client.transcribe(
        {
            "language": "en",
            "languages": ["en", "de"],
            "keywords": ["Parakeet", "MLX"],
            "prompt": "A conversation, with names.",
            "temperature": 0.2,
            "known_speaker_names": ["agent"],
            "known_speaker_references": ["data:audio/wav;base64,UklGRg=="],
            "chunking_strategy": VAD,
            "include": ["logprobs"],
            "extra_body": {"verbosity": "low", "nested": {"unknown": [1, 2]}},
        },
        way=way,
    )
    assert isinstance(answer, Transcription)
    assert answer.text == TEXT
