"""Doubles of ports that must not ship; they keep state, and tests assert on it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np

from parakeet_service.application.ports.audio_decoder import DecodedAudio
from parakeet_service.application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    StreamContext,
)
from parakeet_service.domain.audio import NO_SAMPLES, Encoding, PcmReader, Samples
from parakeet_service.domain.channels import check_channels
from parakeet_service.domain.errors import (
    DecoderUnavailableError,
    EmptyAudioError,
    InferenceError,
    ModelLoadError,
    UndecodableAudioError,
    UrlNotAllowedError,
)
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.recording_warnings import RecordingWarning
from parakeet_service.domain.transcript import Token
from parakeet_service.domain.vad import Probabilities
from tests.scripted_model import ScriptedModel

NOT_AUDIO = b"not audio"
KILLS_DECODER = b"kills the decoder"


class FakeWebClient:
    """A web of recordings by URL; all else is not allowed."""

    def __init__(self) -> None:
        self.recordings: dict[str, bytes] = {}
        self.open_now = 0
        self.posts: list[tuple[str, bytes, Mapping[str, str]]] = []
        self.status = 200

    def check(self, url: str) -> None:
        if url not in self.recordings:
            raise UrlNotAllowedError("That is not a host on the public internet.")

    @asynccontextmanager
    async def fetch(self, url: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        self.check(url)
        self.open_now += 1
        try:
            yield self._pieces(self.recordings[url])
        finally:
            self.open_now -= 1

    async def _pieces(self, recording: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(recording), 4096):
            yield recording[start : start + 4096]

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        self.check(url)
        self.posts.append((url, body, headers))
        return self.status


class FakeDecoder:
    """Takes a recording for raw 16-bit samples at the rate that is asked for, of so many channels if they are separate."""

    def __init__(self) -> None:
        self.opened = 0
        self.open_now = 0
        self.channels = 1
        self.tracks: list[int | None] = []
        self.first: list[bytes] = []  # pieces of each recording
        self.warnings: list[RecordingWarning] = []

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        assert sample_rate_hz > 0
        if separate:
            check_channels(self.channels)
        self.opened += 1
        self.open_now += 1
        self.tracks.append(track)
        try:
            yield DecodedAudio(self._blocks(source, separate=separate), self.warnings)
        finally:
            self.open_now -= 1

    async def _blocks(self, source: AsyncIterable[bytes], *, separate: bool) -> AsyncIterator[Samples]:
        reader = PcmReader(Encoding.PCM_S16LE)
        empty = True
        begins = True
        async for piece in source:
            if begins:
                self.first.append(piece)
            begins = False
            if piece.startswith(NOT_AUDIO):
                raise UndecodableAudioError("This is no audio.")
            if piece.startswith(KILLS_DECODER):
                raise DecoderUnavailableError("The decoder died.")
            samples = reader.read(piece)
            if len(samples):
                empty = False
                yield samples.reshape(-1, self.channels) if separate else samples
        if empty:
            raise EmptyAudioError("The recording is empty.")


class GatedModel(ScriptedModel):
    """A scripted model that reads nothing until `gate` is set; `at_work` is set while it has something to read."""

    def __init__(self, *, max_streams: int = 32) -> None:
        super().__init__(max_streams=max_streams)
        self.gate = asyncio.Event()
        self.at_work = asyncio.Event()
        self.cancelled = 0

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        self.at_work.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().transcribe(samples, after_s=after_s, decoding=decoding)


class SteppedModel(ScriptedModel):
    """A scripted model that reads one more window for each release of `steps`."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = asyncio.Semaphore(0)
        self.asked = self.cancelled = 0
        self.on_cancel: Callable[[], object] = lambda: None

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        self.asked += 1
        try:
            await self.steps.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.on_cancel()
            raise
        return await super().transcribe(samples, after_s=after_s, decoding=decoding)


class SearchingModel(ScriptedModel):
    """A scripted model of several languages that takes phrases, and notes them."""

    def __init__(self, languages: tuple[str, ...] = ("en", "de")) -> None:
        super().__init__()
        self.languages = languages
        self.asked: list[Decoding] = []

    def describe(self) -> ModelDescription:
        return replace(super().describe(), languages=self.languages, searches=True)

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator[RecognitionStream]:
        self.asked.append(decoding)
        async with super().open_stream(context, decoding=decoding) as stream:
            yield stream

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        self.asked.append(decoding)
        return await super().transcribe(samples, after_s=after_s, decoding=decoding)


class FailingModel(ScriptedModel):
    """A scripted model that raises `failure` for whatever it should read."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    async def transcribe(
        self,
        samples: Samples,
        *,
        after_s: float = 0.0,  # noqa: ARG002 - the port has it
        decoding: Decoding = GREEDY,  # noqa: ARG002 - the port has it
    ) -> tuple[Token, ...]:
        assert len(samples)
        raise self.failure


class FailingStream:
    """A live stream whose model breaks at the first step."""

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:  # noqa: ARG002
        raise InferenceError(f"The model failed on {len(samples)} samples.")

    async def flush(self) -> Hypothesis:
        raise InferenceError("The model failed.")


class LoudnessVad:
    """Takes for speech what is loud, more than a quarter of full scale; at any rate that has whole frames of 50 ms."""

    def __init__(self) -> None:
        self.opened = 0
        self.latest: LoudnessVadStream | None = None

    def load(self) -> None:
        """There is nothing to load."""

    def open(self, *, sample_rate_hz: int) -> "LoudnessVadStream":
        if sample_rate_hz % 20:
            raise ModelLoadError(f"A frame is no whole number of samples at {sample_rate_hz} Hz.")
        self.opened += 1
        self.latest = LoudnessVadStream(sample_rate_hz // 20)
        return self.latest


class LoudnessVadStream:
    """One signal; `heard` counts the frames that were complete, `pushed` has the length of each block."""

    def __init__(self, frame: int) -> None:
        self.frame = frame
        self.heard = 0
        self.pushed: list[int] = []
        self._rest = NO_SAMPLES

    async def score(self, samples: Samples) -> Probabilities:
        self.pushed.append(len(samples))
        known = np.concatenate([self._rest, samples])
        whole = len(known) // self.frame
        self._rest = known[whole * self.frame :]
        self.heard += whole
        frames = known[: whole * self.frame].reshape(whole, self.frame)
        return np.where(np.abs(frames).max(axis=1, initial=0) > 0.25, 0.95, 0.05).astype(np.float32)
