"""The engine alone, behind its scheduler: equal windows, and those that voice detection makes of the same audio.

Run as ``python -m benchmarks.windows MODEL SAMPLES``; prints, for each kind, the seconds of audio in the recordings,
those in the windows, the number of windows and the seconds that the second of two turns took.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import redirect_stdout

import numpy as np

from parakeet_service.application.transcribe_file import TranscribeFile
from parakeet_service.bootstrap.container import Container
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.transcript import Token

from .speech import RATE_HZ, Recording

_CLIP_S = 10
_CLIPS_PER_ROW = 16
_MOST_CLIPS = 256
_AT_ONCE = 128


def main() -> None:
    """Read both kinds of windows and print what that took."""
    model_id, path = sys.argv[1:]
    answers = sys.stdout
    # Logs are not answers.
    with redirect_stdout(sys.stderr):
        for row in asyncio.run(_measured(model_id, np.load(path))):
            print(*row, file=answers, flush=True)


async def _measured(model_id: str, samples: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> list[tuple[float, ...]]:
    configure_logging(level="WARNING", log_format="json")
    container = Container(settings=Settings(model_id=model_id, max_queue=10_000))
    async with container.lifecycle()() as ready:
        await ready
        model, use_case = container.model(), container.transcribe_file()
        random, length = np.random.default_rng(0), _CLIP_S * RATE_HZ
        count = min(_CLIPS_PER_ROW * model.describe().batch_size, _MOST_CLIPS)
        clips = [samples[start : start + length] for start in random.integers(len(samples) - length, size=count)]
        found: list[Samples] = []
        detecting = TranscribeFile(_Noting(model, found), use_case.decoder, use_case.limits, use_case.detector)  # type: ignore[arg-type]
        for clip in clips:
            await detecting(_all_of(Recording("clip", clip, None).wav))

        async def read(windows: Sequence[Samples]) -> float:
            waiting = list(windows)

            async def one() -> None:
                while waiting:
                    await model.transcribe(waiting.pop())

            began = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(_AT_ONCE)))
            return time.perf_counter() - began

        rows: list[tuple[float, ...]] = []
        for windows in ([clip.astype(np.float32) / np.float32(32768) for clip in clips], found):
            await read(windows)
            took_s = await read(windows)
            rows.append((len(clips) * _CLIP_S, sum(map(len, windows)) / RATE_HZ, len(windows), took_s))
        return rows


class _Noting:
    """Notes the windows that it is asked to read, and reads nothing."""

    def __init__(self, model: object, windows: list[Samples]) -> None:
        self._model = model
        self._windows = windows
        self.describe = model.describe  # type: ignore[attr-defined]

    async def transcribe(self, samples: Samples, **_: object) -> tuple[Token, ...]:
        self._windows.append(samples)
        return ()


async def _all_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


if __name__ == "__main__":
    main()
