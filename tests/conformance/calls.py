"""Calls of the official client, and its own types held to what comes back."""

import asyncio
import io
import json
import wave
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx2
import numpy as np
import openai
from openai.types import Model
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)
from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)

Parameters = dict[str, Any]
Way = Literal["sync", "async", "raw"]
WAYS: tuple[Way, ...] = ("sync", "async", "raw")

_OURS = {
    "TranscriptionVerbose": {"task"},
    "TranslationVerbose": {"task"},
    # Of the end of a stream alone: the type of `json`'s usage is another one, with seconds of its own.
    "Usage": {"seconds"},
    "Model": {"aliases"},
    # OpenAI's own: the types of the events are those of requests, which have none of these.
    "RealtimeTranscriptionSessionCreateRequest": {"id", "object", "expires_at"},
    # Of the beta protocol: what a client may ask for stands in the answer.
    "Session": {"object", "expires_at", "include"},
    "TranscriptionSession": {"id", "object", "expires_at", "include", "input_audio_noise_reduction"},
}
"""Fields that we send and the client's types do not have; the first two are OpenAI's own."""


def wav(*parts_s: float) -> bytes:
    """A 16 kHz file with so many seconds of voice, of silence, of voice ..., as the scripted model hears it."""
    parts = [np.full(round(part_s * 16000), 0 if at % 2 else 8000, "<i2") for at, part_s in enumerate(parts_s)]
    with io.BytesIO() as buffer:
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(np.concatenate(parts).tobytes())
        return buffer.getvalue()


SPEECH = wav(1.6, 0.4, 1.6, 0.4, 1.2)
"""Several windows of voice, of 5.2 s together."""
TEXT = "This text comes from text comes from This comes from a"
"""Of each window the script's beginning, where there is voice."""


@dataclass(frozen=True)
class Heard:
    """What a stream has said: its deltas and its end, or the error in its middle."""

    deltas: list[TranscriptionTextDeltaEvent]
    done: TranscriptionTextDoneEvent


Answer = Transcription | TranscriptionVerbose | Translation | TranslationVerbose | str | Heard


class Callers:
    """The official client in its ways, kept: making one takes longer than a call. Not for use in a running loop."""

    def __init__(self, url: str, *, key: str = "none", retries: int = 0) -> None:
        self.url = url
        self._sync = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries)
        self._async = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=retries)
        self._runner = asyncio.Runner()

    @property
    def sync(self) -> openai.OpenAI:
        """The client itself."""
        return self._sync

    def close(self) -> None:
        """Free what is kept."""
        self._sync.close()
        self._runner.run(self._async.close())
        self._runner.close()

    def transcribe(self, parameters: Parameters, *, way: Way = "sync") -> Answer:
        """`audio.transcriptions.create`, its answer held to the client's types."""
        return self._call("transcriptions", parameters, way)

    def translate(self, parameters: Parameters, *, way: Way = "sync") -> Answer:
        """`audio.translations.create`, its answer held to the client's types."""
        return self._call("translations", parameters, way)

    def headers(self, parameters: Parameters) -> httpx2.Headers:
        """Those of the answer to such a transcription."""
        sent: Parameters = {"model": "whisper-1", "file": ("speech.wav", SPEECH), **parameters}
        resource: Any = self._sync.audio.transcriptions
        headers: httpx2.Headers = resource.with_raw_response.create(**sent).headers
        return headers

    def _call(self, resource: str, parameters: Parameters, way: Way) -> Answer:
        sent: Parameters = {"model": "whisper-1", "file": ("speech.wav", SPEECH), **parameters}
        kind = _kind(resource, sent.get("response_format", "json"))
        the_resource: Any = getattr(self._sync.audio, resource)
        match way:
            case "async":
                return self._runner.run(self._call_async(resource, sent, kind))
            case "raw":
                with the_resource.with_streaming_response.create(**sent) as raw:
                    return _heard(raw.iter_lines()) if sent.get("stream") else _read(raw.read(), kind)
            case "sync":
                answer = the_resource.create(**sent)
                if sent.get("stream"):
                    return _heard_events(answer)
                return _parsed(answer, kind)

    async def _call_async(self, resource: str, sent: Parameters, kind: type[BaseModel] | type[str]) -> Answer:
        answer = await getattr(self._async.audio, resource).create(**sent)
        if sent.get("stream"):
            return _heard_events([event async for event in answer])
        return _parsed(answer, kind)


@contextmanager
def callers(url: str, *, key: str = "none", retries: int = 0) -> Generator[Callers]:
    """Callers for as long as the context lasts."""
    made = Callers(url, key=key, retries=retries)
    try:
        yield made
    finally:
        made.close()


def strictly(kind: type[T], content: str | bytes) -> T:
    """`content` as the client's type: nothing is converted, and nothing is there that the type does not know."""
    held = kind.model_validate_json(content, strict=True)
    _demand_nothing_more(held)
    return held


def strict_model(content: str | bytes) -> Model:
    """A model as the client's type."""
    return strictly(Model, content)


def _demand_nothing_more(held: object) -> None:
    if isinstance(held, BaseModel):
        more = set(held.model_extra or {}) - _OURS.get(type(held).__name__, set())
        assert not more, f"{type(held).__name__} has no {more}"
        for name in type(held).model_fields:
            _demand_nothing_more(getattr(held, name))
    elif isinstance(held, list):
        for one in held:  # pyright: ignore[reportUnknownVariableType]
            _demand_nothing_more(one)  # pyright: ignore[reportUnknownArgumentType]


def _kind(resource: str, response_format: str) -> type[BaseModel] | type[str]:
    kinds: dict[tuple[str, str], type[BaseModel]] = {
        ("transcriptions", "json"): Transcription,
        ("transcriptions", "verbose_json"): TranscriptionVerbose,
        ("translations", "json"): Translation,
        ("translations", "verbose_json"): TranslationVerbose,
    }
    return kinds.get((resource, response_format), str)


def _parsed(answer: Any, kind: type[BaseModel] | type[str]) -> Answer:
    assert isinstance(answer, kind)
    return _read(answer.to_json().encode(), kind) if isinstance(answer, BaseModel) else answer  # type: ignore[attr-defined]


def _read(content: bytes, kind: type[BaseModel] | type[str]) -> Any:
    return strictly(kind, content) if issubclass(kind, BaseModel) else content.decode()


def _heard(lines: Iterable[str]) -> Heard:
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    return _of_contents(data)


def _heard_events(events: Iterable[Any]) -> Heard:
    return _of_contents([event.to_json() for event in events])


def _of_contents(contents: list[str]) -> Heard:
    kinds: dict[str, Callable[[str], Any]] = {
        "transcript.text.delta": lambda content: strictly(TranscriptionTextDeltaEvent, content),
        "transcript.text.done": lambda content: strictly(TranscriptionTextDoneEvent, content),
    }
    *deltas, done = (kinds[json.loads(content)["type"]](content) for content in contents)
    heard = Heard(deltas, done)
    assert all(isinstance(delta, TranscriptionTextDeltaEvent) for delta in deltas)
    assert "".join(delta.delta for delta in heard.deltas) == heard.done.text
    return heard
