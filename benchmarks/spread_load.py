"""One of several processes that give windows to a process with a queue, as one that speaks HTTP does.

Run as ``python -m benchmarks.spread_load PATH KIND COUNT SECONDS SEED`` with KIND ``files`` or ``live``. Says ``ready``,
begins once a line comes, and prints a `Told` as JSON.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from parakeet_service.adapters.isolation.model import IsolatedModel
from parakeet_service.application.ports.speech_model import RecognitionStream, StreamContext
from parakeet_service.config.logs import configure_logging
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.hypothesis import Hypothesis

from .speech import RATE_HZ

_CONTEXT = StreamContext(left_s=5, chunk_s=1, right_s=8)
_FRAME_S = 0.1
_FRAME = int(_FRAME_S * RATE_HZ)
_MEDIAN_S, _SPREAD, _SHORTEST_S, _LONGEST_S = 6.0, 0.65, 1.3, 30.0
"""Lengths as in LibriSpeech's test-clean: most are short, few are long, 7.4 s on average."""
_UTTERANCE_S, _PAUSE_S = (2.0, 12.0), (0.5, 3.0)
_BEGIN_WITHIN_S = 2.0
_ROOM_S = 5.0


@dataclass(slots=True)
class Told:
    """What came back; seconds.

    Attributes:
        audio_s: Of all windows that were read, or of all that was spoken.
        answers: Windows, or drafts and finals.
        waited_s: For each window, or each final.
        behind_s: For each draft, the audio given and not read.
    """

    audio_s: float = 0.0
    answers: int = 0
    waited_s: list[float] = field(default_factory=list[float])
    behind_s: list[float] = field(default_factory=list[float])


async def _files(model: IsolatedModel, count: int, seconds: float, seed: int, told: Told) -> None:
    random = np.random.default_rng(seed)
    # Of 16 bits, as most recordings have.
    noise = (random.integers(-9000, 9000, int(_LONGEST_S * RATE_HZ)) / 32768).astype(np.float32)
    end = time.monotonic() + seconds

    async def one() -> None:
        while (began := time.monotonic()) < end:
            length_s = float(np.clip(_MEDIAN_S * np.exp(random.normal(0, _SPREAD)), _SHORTEST_S, _LONGEST_S))
            await model.transcribe(noise[: int(length_s * RATE_HZ)])
            if time.monotonic() < end:
                told.audio_s += length_s
                told.answers += 1
                told.waited_s.append(time.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(count)))


class _Speaker:
    """One session, which gives its stream what the service's live sessions give theirs."""

    def __init__(self, stream: RecognitionStream, noise: Samples, told: Told) -> None:
        self._stream = stream
        self._noise = noise
        self._told = told
        self._given_s = 0.0
        self._start_s = 0.0
        self._drafting: asyncio.Task[Hypothesis | None] | None = None

    async def say(self, length_s: float, start_s: float, end: float) -> None:
        self._start_s, self._given_s = start_s, 0.0
        due = time.monotonic()
        for at in range(int(length_s / _FRAME_S)):
            due += _FRAME_S
            await asyncio.sleep(max(due - time.monotonic(), 0))
            if due > end:
                break
            self._take()
            samples = self._noise[at * _FRAME % (len(self._noise) - _FRAME) :][:_FRAME]
            self._given_s += _FRAME_S
            decoding = asyncio.create_task(self._stream.decode(samples, start_s=None if at else start_s))
            if self._drafting is None:
                self._drafting = decoding
            else:
                await decoding
        began = time.monotonic()
        await self._stream.flush()
        self._told.answers += 1
        self._told.waited_s.append(time.monotonic() - began)
        if self._drafting is not None:
            await self._drafting
            self._drafting = None

    def _take(self) -> None:
        if self._drafting is None or not self._drafting.done():
            return
        hypothesis = self._drafting.result()
        self._drafting = None
        if hypothesis is not None:
            self._told.answers += 1
            self._told.behind_s.append(self._given_s - (hypothesis.decoded_until_s - self._start_s))


async def _live(model: IsolatedModel, count: int, seconds: float, seed: int, told: Told) -> None:
    random = np.random.default_rng(seed)
    noise = (random.integers(-9000, 9000, int(_LONGEST_S * RATE_HZ)) / 32768).astype(np.float32)
    end = time.monotonic() + seconds

    async def one() -> None:
        await asyncio.sleep(random.uniform(0, _BEGIN_WITHIN_S))
        async with model.open_stream(_CONTEXT) as stream:
            speaker, start_s = _Speaker(stream, noise, told), 0.0
            while time.monotonic() < end:
                length_s, pause_s = random.uniform(*_UTTERANCE_S), random.uniform(*_PAUSE_S)
                await speaker.say(length_s, start_s, end)
                told.audio_s += length_s + pause_s
                start_s += length_s + pause_s
                await asyncio.sleep(min(pause_s, max(end - time.monotonic(), 0)))

    await asyncio.gather(*(one() for _ in range(count)))


async def _run(path: str, kind: str, count: int, seconds: float, seed: int) -> Told:
    model, told = IsolatedModel(None, path=path), Told()
    await model.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await (_files if kind == "files" else _live)(model, count, seconds, seed, told)
    await model.aclose()
    return told


def main() -> None:
    """Give windows, and print what came back."""
    path, kind, count, seconds, seed = sys.argv[1:]
    configure_logging(level="WARNING", log_format="auto")
    print(json.dumps(asdict(asyncio.run(_run(path, kind, int(count), float(seconds), int(seed))))))


if __name__ == "__main__":
    main()
