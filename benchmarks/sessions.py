"""How many speakers a service has time for: live sessions over ``/ws``, whose clients are processes of their own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from .harness import Service, model_directory, running_service
from .live_load import Heard
from .report import Chart, Table

_SPEAKERS_PER_CLIENT = 64
_MOST_CLIENTS = 8
"""On 16 cores; each takes a fifth of one with 64 speakers."""
_MOST_LATE_S = 0.1


class Context(Protocol):
    """How the streams are cut into windows, in seconds."""

    @property
    def options(self) -> dict[str, float]: ...


def run(
    directory: Path | None,
    model: str,
    sessions: Sequence[int],
    seconds: float,
    context: Context | None,
    *,
    pauses: bool,
    settings: Sequence[str],
    clients: int | None,
) -> Chart:
    """Print a line for each number of sessions: how far text is behind, and what computes how much.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), ``null`` (no model: the host's part),
            or a directory.
        sessions: Numbers of them to try.
        seconds: How long each speaks.
        context: How the streams are cut into windows; by default as the service has it.
        pauses: Whether pauses, and utterances, have every length; by default they speak without end.
        settings: Those that differ from the defaults, as ``NAME=value``.
        clients: Processes that the speakers are in; by default one for each 64, at most eight.
    """
    changed = dict(setting.split("=", 1) for setting in settings)
    points: list[tuple[float, float]] = []
    print(f"settings: MAX_STREAMS={max(sessions)} {' '.join(settings)}")
    with tempfile.TemporaryDirectory() as scratch:
        if model != "null":
            changed["MODEL_ID"] = model_directory(model, Path(scratch))
        began = time.monotonic()
        module = "benchmarks.null_service" if model == "null" else "parakeet_service"
        with running_service(module, MAX_STREAMS=str(max(sessions)), **changed) as service:
            print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
            table = Table(
                *("sessions", "lag", "95 %", "final", "95 %", "own delay, 95 %", "clients"),
                *("model busy", "windows a batch", "windows a second"),
                *("CPU ms/s of audio", "by process", "clients' cores"),
            )
            for count in sessions:
                lag_s = _measure(service, table, directory, count, seconds, context, pauses=pauses, clients=clients)
                points.append((count, lag_s))
    return Chart("Live sessions", "sessions", "95th percentile of lag, s", {"lag": points})


def _measure(
    service: Service,
    table: Table,
    directory: Path | None,
    count: int,
    seconds: float,
    context: Context | None,
    *,
    pauses: bool,
    clients: int | None,
) -> float:
    config = "" if context is None else json.dumps({"type": "config", **context.options})
    step = min(clients or -(-count // _SPEAKERS_PER_CLIENT), count, _MOST_CLIENTS if clients is None else count)
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.live_load", service.url, str(directory or ""), str(seconds)),
                *(str(count), str(first), str(step), str(int(pauses)), config),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in range(step)
    ]
    for client in started:
        assert client.stdout is not None
        if client.stdout.readline() != "ready\n":
            raise SystemExit("a client did not start")
    before, cpus, began = service.metrics(), service.cpu_by_process(), time.monotonic()
    for client in started:
        assert client.stdin is not None
        client.stdin.write("go\n")
        client.stdin.flush()
    heard = [Heard(**json.loads(client.communicate()[0])) for client in started]
    took_s = time.monotonic() - began
    after = service.metrics()
    used = {pid: cpu_s - cpus.get(pid, 0.0) for pid, cpu_s in service.cpu_by_process().items()}
    errors = [error for one in heard for error in one.errors]
    if errors:
        print(f"{len(errors)} of {count} sessions failed, such as: {errors[0]}")
    lag, final, late = (
        np.array([value for one in heard for value in getattr(one, name)] or [float("nan")])
        for name in ("lag_s", "final_s", "late_s")
    )
    change = {key: after[key] - before.get(key, 0) for key in after}
    batches, windows = change["parakeet_batch_windows_count"], change["parakeet_batch_windows_sum"]
    busy_s, audio_s = change["parakeet_batch_duration_seconds_sum"], count * seconds
    own_s = float(np.quantile(late, 0.95))
    table.row(
        str(count),
        *(f"{at:.2f} s" for values in (lag, final) for at in np.quantile(values, (0.5, 0.95))),
        f"{own_s:.3f} s" + ("!" if own_s > _MOST_LATE_S else ""),
        str(step),
        f"{100 * busy_s / took_s:.0f} %",
        f"{windows / max(batches, 1):.1f}",
        f"{windows / took_s:.0f}",
        f"{1000 * sum(used.values()) / audio_s:.2f}",
        _by_process(used, audio_s),
        f"{sum(one.cpu_s for one in heard) / took_s:.2f}",
    )
    return float(np.quantile(lag, 0.95))


def _by_process(used: dict[int, float], audio_s: float) -> str:
    """Of the service's own process first, then of its children as they were started, in milliseconds per second."""
    return " + ".join(f"{1000 * cpu_s / audio_s:.2f}" for cpu_s in used.values())
