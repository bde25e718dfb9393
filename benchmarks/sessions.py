"""How many speakers a device has time for: live sessions at real-time pace, without the HTTP around them."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.adapters.vad.silero import SileroVad
from parakeet_service.application.ports.speech_model import StreamContext
from parakeet_service.application.stream_session import StreamSession
from parakeet_service.config.logs import configure_logging
from parakeet_service.domain.audio import NO_SAMPLES, Samples
from parakeet_service.domain.live import Final, Partial

from .conversation import conversation
from .harness import model_directory
from .report import Chart, Table
from .speech import RATE_HZ, clip, recordings

_FRAME_S = 0.1
_PAUSE_S = 1.0
BATCH_SIZE = 64


@dataclass(slots=True)
class Lags:
    """What all sessions of one round saw; seconds.

    Attributes:
        lag_s: For each message with text, from the moment at which the newest audio in it had been spoken.
        late_s: By how much audio was sent later than it was spoken: beyond a tenth it is this side that is slow.
        utterances: Finals that came.
    """

    lag_s: list[float] = field(default_factory=list[float])
    late_s: list[float] = field(default_factory=list[float])
    utterances: int = 0


class Context(Protocol):
    """How the streams are cut into windows, in seconds."""

    @property
    def left_s(self) -> float: ...
    @property
    def chunk_s(self) -> float: ...
    @property
    def right_s(self) -> float: ...


class AsItIs:
    """A `Resampler` for audio at the model's rate."""

    def open(self, *, from_hz: int, to_hz: int) -> "AsItIs":
        assert from_hz == to_hz
        return self

    def resample(self, samples: Samples, *, last: bool = False) -> Samples:
        return NO_SAMPLES if last else samples


def run(
    directory: Path | None, model: str, sessions: list[int], seconds: float, context: Context, *, pauses: bool
) -> Chart:
    """Print a line for each number of sessions: median and 95th percentile of the lag.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        sessions: Numbers of them to try.
        seconds: How long each speaks.
        context: How the streams are cut into windows; each must fit into the model's window.
        pauses: Whether pauses, and utterances, have every length; by default recordings are a second apart.
    """
    configure_logging(level="WARNING", log_format="auto")
    said = recordings(directory)
    pause = np.zeros(int(_PAUSE_S * RATE_HZ), np.int16)
    parts = [piece for part in said for piece in (part.samples, pause)]
    speech = np.concatenate(parts * (1 + int(2 * seconds * RATE_HZ / sum(map(len, parts)))))
    speeches = [
        conversation(said, number, seconds) if pauses else clip(speech, number, seconds)
        for number in range(max(sessions))
    ]
    with tempfile.TemporaryDirectory() as scratch:
        return asyncio.run(
            _run(
                model_directory(model, Path(scratch)),
                speeches,
                sessions,
                StreamContext(context.left_s, context.chunk_s, context.right_s),
            )
        )


async def _run(
    model_id: str, speeches: Sequence[NDArray[np.int16]], sessions: list[int], context: StreamContext
) -> Chart:
    model = parakeet_mlx_model(
        model_id=model_id,
        precision="bf16",
        offline=True,
        sample_rate_hz=RATE_HZ,
        batch_size=BATCH_SIZE,
        cache_limit_bytes=8 << 30,
        most_waiting=1000,
        most_streams=max(sessions),
        context=context,
    )
    await model.start()
    use_case = StreamSession(model, AsItIs(), context, SileroVad())
    table = Table("sessions", "lag", "95 %", "worst", "late, 95 %", "finals", "CPU")
    points: list[tuple[float, float]] = []
    try:
        for count in sessions:
            lags, began_s, cpu_s = Lags(), time.perf_counter(), time.process_time()
            await asyncio.gather(*(_speak(use_case, speeches[number], number / count, lags) for number in range(count)))
            took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            lag = np.array(lags.lag_s or [0.0])
            points.append((count, float(np.quantile(lag, 0.95))))
            cells = [statistics.median(lag), points[-1][1], lag.max(), np.quantile(lags.late_s, 0.95)]
            table.row(str(count), *(f"{cell:.2f} s" for cell in cells), str(lags.utterances), f"{cpu_s / took_s:.1f}")
    finally:
        await model.aclose()
    return Chart("Live sessions", "sessions", "95th percentile of lag, s", {str(context): points})


async def _speak(use_case: StreamSession, samples: NDArray[np.int16], after_s: float, lags: Lags) -> None:
    await asyncio.sleep(after_s)
    async with use_case.open(use_case.defaults) as live, asyncio.TaskGroup() as tasks:
        began, sent_s = time.perf_counter(), 0.0

        async def send() -> None:
            nonlocal sent_s
            frame = int(_FRAME_S * RATE_HZ)
            for at in range(0, len(samples), frame):
                due = began + (at + frame) / RATE_HZ
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                lags.late_s.append(time.perf_counter() - due)
                await live.send(samples[at : at + frame].tobytes())
                sent_s = (at + frame) / RATE_HZ
            await live.close()

        tasks.create_task(send())
        async with aclosing(live.events()) as events:
            async for event in events:
                if isinstance(event, Partial):
                    # What was sent and is not in the text, and how long ago that was.
                    lags.lag_s.append(event.behind_s + max(time.perf_counter() - began - sent_s, 0))
                lags.utterances += isinstance(event, Final)
