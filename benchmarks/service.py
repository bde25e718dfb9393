"""The whole service under uneven speech: uploads over HTTP, as users send them, from the first one after the start on.

Default settings unless the table says otherwise; the clients are processes of their own.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .harness import Service, model_directory, running_service
from .report import Table
from .speech import joined, recordings

_LEAST_AUDIO_S = 1900
_CLIENTS = 4
_LONG_FILE_S = 1800
_SLOW_BATCH_S = 0.5


@dataclass(frozen=True, slots=True)
class _Load:
    """Recordings of a length between two, in seconds, so many on their way at once."""

    shortest_s: float
    longest_s: float
    at_once: int


_Loads = Sequence[_Load]


def run(
    directory: Path | None,
    model: str,
    at_once: Sequence[int],
    seconds: float,
    settings: Sequence[str],
    *,
    alone: bool,
    only: str = "",
) -> None:
    """Print a row for each load, the first minute after the start among them, and those of the engine alone; see `speeds`."""
    speeds(directory, model, at_once, seconds, settings, alone=alone, only=only)


def speeds(
    directory: Path | None,
    model: str,
    at_once: Sequence[int],
    seconds: float,
    settings: Sequence[str],
    *,
    alone: bool = False,
    only: str = "",
) -> dict[str, float]:
    """Print a row for each load, and give how many times real time each is.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        at_once: How many uploads there are at once.
        seconds: How long each load lasts.
        settings: Those that differ from the defaults, as ``NAME=value``.
        alone: Whether to measure the engine alone, too.
        only: What must stand in a row's name; by default all rows are measured.
    """
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "samples.npy"
        np.save(samples, joined(recordings(directory), at_least_s=_LEAST_AUDIO_S).samples)
        model_id = model_directory(model, Path(scratch))
        if alone:
            _print_engine(model_id, samples)
        changed = dict(setting.split("=", 1) for setting in settings)
        print(f"settings: {' '.join(settings) or 'defaults'}")
        began = time.monotonic()
        with running_service(MODEL_ID=model_id, **changed) as service:
            print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
            table = Table(
                "uploads at once",
                *("answers", "x real time", "median", "95 %", "worst", "model busy"),
                *("windows a batch", f"over {_SLOW_BATCH_S} s", "CPU ms/s of audio", "MB"),
            )
            return {
                name: _measure(service, table, name, loads, lasts_s, samples)
                for name, loads, lasts_s in _rows(at_once, seconds)
                if only in name
            }


def _rows(at_once: Sequence[int], seconds: float) -> list[tuple[str, _Loads, float]]:
    most = max(at_once)
    mixture = [_Load(2, 30, most - most // 8), _Load(120, 600, most // 8)]
    return [
        (f"first minute: {most} of 2 to 30 s", [_Load(2, 30, most)], max(seconds, min(4 * seconds, 60))),
        *((f"{count} of 10 s", [_Load(10, 10, count)], seconds) for count in at_once),
        *((f"{count} of 2 to 30 s", [_Load(2, 30, count)], seconds) for count in at_once),
        ("4 of 30 min", [_Load(_LONG_FILE_S, _LONG_FILE_S, 4)], seconds),
        (f"mixture of {most}", [load for load in mixture if load.at_once], seconds),
    ]


def _measure(service: Service, table: Table, name: str, loads: _Loads, lasts_s: float, samples: Path) -> float:
    before, cpu_s = service.metrics(), service.cpu_s()
    clients = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.load", service.url, str(samples)),
                *(str(load.shortest_s), str(load.longest_s), str(share), str(lasts_s), str(1000 * seed + number)),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, load in enumerate(loads)
        for seed, share in enumerate(_shares(load.at_once))
    ]
    answers: list[tuple[float, float, float]] = []
    for client in clients:
        output, _ = client.communicate()
        if client.returncode:
            raise SystemExit(f"{name}: a client failed")
        answers += json.loads(output)
    after, cpu_s = service.metrics(), service.cpu_s() - cpu_s
    begins, waits, audio = np.array(answers).T
    took_s = (begins + waits).max() - begins.min()
    change = {key: after[key] - before.get(key, 0) for key in after}
    batches = change["parakeet_batch_windows_count"]
    slow = batches - change[f'parakeet_batch_duration_seconds_bucket{{le="{_SLOW_BATCH_S}"}}']
    table.row(
        name,
        str(len(answers)),
        f"{audio.sum() / (took_s):.0f}",
        *(f"{1000 * wait:.0f} ms" for wait in (np.median(waits), np.quantile(waits, 0.95), waits.max())),
        f"{100 * change['parakeet_batch_duration_seconds_sum'] / took_s:.0f} %",
        f"{change['parakeet_batch_windows_sum'] / max(batches, 1):.1f}",
        f"{slow:.0f}",
        f"{1000 * cpu_s / audio.sum():.2f}",
        f"{service.resident_mb():.0f}",
    )
    return float(audio.sum() / took_s)


def _print_engine(model_id: str, samples: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.windows", model_id, str(samples)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    table = Table("engine alone", "windows", "mean", "x real time", "of the recordings")
    for name, line in zip(("equal windows", "windows of speech"), output.splitlines(), strict=True):
        audio_s, windows_s, count, took_s = map(float, line.split())
        cells = (f"{count:.0f}", f"{windows_s / count:.1f} s", f"{windows_s / took_s:.0f}", f"{audio_s / took_s:.0f}")
        table.row(name, *cells)


def _shares(at_once: int) -> list[int]:
    return [share for share in (len(range(number, at_once, _CLIENTS)) for number in range(_CLIENTS)) if share]
