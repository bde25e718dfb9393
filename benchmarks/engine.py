"""Our engine against plain parakeet-mlx as its wheel comes: the same audio, model and device, turn by turn."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from .contestant import CLIP_S
from .speech import RATE_HZ, joined, recordings

_ROUNDS = 5


def run(directory: Path | None, model: str, at_once: Sequence[int]) -> None:
    """Print, for one clip and for many at once, the median time of each contestant, and the ratio.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        at_once: How many clips are read at once.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        samples = joined(recordings(directory), at_least_s=60).samples.astype(np.float32) / np.float32(32768)
        np.save(scratch / "samples.npy", samples[: 60 * RATE_HZ])
        plain, ours = (
            stack.enter_context(_contestant(who, _directory(model, scratch), scratch / "samples.npy"))
            for who in ("plain", "ours")
        )
        print(f"{'clips of 10 s at once':<22} {'parakeet-mlx':>22} {'ours':>22} {'ratio':>7}")
        for count in at_once:
            # Turn by turn: what disturbs a machine for a while disturbs both. The first round compiles.
            rounds = [(plain.read(count), ours.read(count)) for _ in range(_ROUNDS + 1)][1:]
            theirs_s, ours_s = (statistics.median(times) for times in zip(*rounds, strict=True))
            print(
                f"{count:<22} {_speed(count, theirs_s)} {_speed(count, ours_s)} {theirs_s / ours_s:>6.1f}x", flush=True
            )


def _speed(count: int, seconds: float) -> str:
    return f"{seconds:>7.3f} s = {count * CLIP_S / seconds:>6.0f} x rt"


def _directory(model: str, scratch: Path) -> str:
    if model == "0.6b":
        from .architecture import save_random_0_6b  # noqa: PLC0415 - imports MLX, which only the contestants may need

        return str(save_random_0_6b(scratch / "random-0.6b"))
    if model == "embedded":
        from parakeet_service.adapters.parakeet_mlx.checkpoint import locate  # noqa: PLC0415

        return str(locate(model, offline=True).weights.parent)
    return model


class _Contestant:
    def __init__(self, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._told, self._errors = process.stdin, process.stdout, errors

    def read(self, count: int) -> float:
        """Seconds for so many clips at once."""
        print(count, file=self._asked, flush=True)
        answer = self._told.readline()
        if not answer:
            self._errors.seek(0)
            raise SystemExit(self._errors.read())
        return float(answer)


@contextmanager
def _contestant(who: str, model: str, samples: Path) -> Generator[_Contestant]:
    command = [sys.executable, "-m", "benchmarks.contestant", who, model, str(samples)]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        yield _Contestant(process, errors)
        assert process.stdin is not None
        process.stdin.close()
