"""One of those that read the same clips: plain parakeet-mlx, or one of our engines behind its scheduler.

Run as ``python -m benchmarks.contestant plain|mlx|onnx MODEL SAMPLES``; each line of standard input is a number of clips
to be read at once, and each line of standard output the seconds that took: those that passed, and those of CPU.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from .speech import RATE_HZ, clip

if TYPE_CHECKING:
    from parakeet_mlx import ParakeetTDT

    from parakeet_service.adapters.inference.model import EngineModel

Clip = NDArray[np.float32]
Reads = Callable[[Sequence[Clip]], None]

CLIP_S = 10
BATCH_SIZE = 16
CACHE_LIMIT_BYTES = 4 << 30


def main() -> None:
    """Answer line by line until the input ends."""
    who, model_id, path = sys.argv[1:]
    samples: Clip = np.load(path)
    answers = sys.stdout
    # Logs and warnings are not answers.
    with redirect_stdout(sys.stderr), asyncio.Runner() as runner:
        read = _plain(model_id) if who == "plain" else _ours(who, model_id, Path(path).parent / "graphs", runner)
        for line in sys.stdin:
            clips = [clip(samples, number, CLIP_S) for number in range(int(line))]
            began, before_s = time.perf_counter(), time.process_time()
            read(clips)
            print(time.perf_counter() - began, time.process_time() - before_s, file=answers, flush=True)


def _plain(model_id: str) -> Reads:
    """Parakeet-mlx as its wheel comes takes one clip after the other."""
    import mlx.core as mx  # noqa: PLC0415 - ours chooses a BLAS first
    from parakeet_mlx import from_pretrained  # noqa: PLC0415
    from parakeet_mlx.audio import get_logmel  # noqa: PLC0415

    model = cast("ParakeetTDT", from_pretrained(model_id))

    def read(clips: Sequence[Clip]) -> None:
        for samples in clips:
            mel = get_logmel(mx.array(samples), model.preprocessor_config)
            model.generate(mel.astype(mx.bfloat16))

    return read


def _ours(engine: str, model_id: str, scratch: Path, runner: asyncio.Runner) -> Reads:
    from parakeet_service.adapters.onnx.model import onnx_model  # noqa: PLC0415
    from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model  # noqa: PLC0415 - plain needs none of it
    from parakeet_service.config.logs import configure_logging  # noqa: PLC0415

    configure_logging(level="WARNING", log_format="json")
    if engine == "onnx":
        make = partial(onnx_model, precision="int8", cache=scratch)
    else:
        make = partial(parakeet_mlx_model, precision="bf16", cache_limit_bytes=CACHE_LIMIT_BYTES)
    model = make(
        model_id=model_id,
        offline=True,
        sample_rate_hz=RATE_HZ,
        batch_size=BATCH_SIZE,
        most_waiting=1000,
        most_streams=1,
    )
    runner.run(model.start())
    return lambda clips: runner.run(_together(model, clips))


async def _together(model: "EngineModel", clips: Sequence[Clip]) -> None:
    await asyncio.gather(*(model.transcribe(samples) for samples in clips))


if __name__ == "__main__":
    main()
