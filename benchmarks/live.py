"""Live text: how long a word takes to the screen, how many speakers a machine has time for, and what contexts cost."""

import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from parakeet_service.entrypoints.cli.live_client import connected

from .follower import Follower
from .harness import Service, model_directory, running_service
from .report import Chart, Table
from .speakers import FRAME, Context, Speeches, live_url
from .speech import Recording, distance, recordings, words

_MOST_LATE_S = 0.1
_MOST_LAG_S = 1.0
_SPEAKERS_EACH, _MOST_PROCESSES = 40, 12
"""A process has time for about so many speakers."""
_BUSY = "parakeet_batch_duration_seconds_sum"
_HEAD = (
    "seen",
    "95 %",
    "stable",
    "95 %",
    "lag",
    "95 %",
    "final",
    "95 %",
    "changed",
    "apart",
    "CPU",
    "model busy",
    "late",
)


CONTEXTS = tuple(map(Context.of, ("5,1,8", "6,1,6", "8,1,4", "10,1,2", "10,1,1", "4,1,4", "6,0.5,6", "6,2,6")))
"""All fit into the embedded model's window."""


@dataclass(frozen=True, slots=True)
class Load:
    """What so many sessions at once came to; times in seconds.

    Attributes:
        changed: Words that were shown and changed, for each hundred of the finals.
        cpu: Processor time of the service for each second of audio.
        busy: Share of the time in which the model computed, in percent.
        late_s: By how much our own loop was late, at worst.
        apart: Words for each hundred that differ from those of the same audio as a file, if that was asked for.
    """

    sessions: int
    seen_s: Sequence[float]
    stable_s: Sequence[float]
    lag_s: Sequence[float]
    final_s: Sequence[float]
    changed: float
    cpu: float
    busy: float
    late_s: float
    apart: float | None = None

    def check(self) -> None:
        """Fail if it was we who were slow."""
        if self.late_s > _MOST_LATE_S:
            raise SystemExit(f"not the service but this client was {1000 * self.late_s:.0f} ms late: nothing is known")

    def cells(self) -> list[str]:
        """For a row under `_HEAD`."""
        times = [f"{at(values):.2f} s" for values in self._times() for at in (_median, _p95)]
        apart = "-" if self.apart is None else f"{self.apart:.1f} %"
        figures = f"{self.cpu:.4f}", f"{self.busy:.0f} %", f"{1000 * self.late_s:.0f} ms"
        return [*times, f"{self.changed:.1f} %", apart, *figures]

    def _times(self) -> tuple[Sequence[float], ...]:
        return self.seen_s, self.stable_s, self.lag_s, self.final_s


def run(
    directory: Path | None,
    model: str,
    sessions: Sequence[int],
    seconds: float,
    contexts: Sequence[Context] | None,
    *,
    find_limit: bool,
    pauses: bool,
    settings: Sequence[str] = (),
) -> Chart:
    """Print what sessions at once, each speaking as people do, wait for; and how many there may be.

    ``seen`` is the time from a word's end to the first message that shows it as the final has it (so a word that drafts
    misread is seen late, however idle the machine), ``stable`` to the one from which on it
    never changes, ``final`` that from the end of the speech to the utterance's final, of which 0.8 s are the silence
    that ends it. ``lag`` is audio that waits to be read. Medians, and 95th percentiles behind them. ``changed`` counts
    words that were shown and are not in the final, for each hundred that are.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded``, ``0.6b`` (that architecture, random weights), or a directory.
        sessions: Numbers of them to try.
        seconds: How long each speaks.
        contexts: To try; by default the service's own.
        find_limit: Find out how many sessions there may be until the 95th percentile of the lag passes a second.
        pauses: Whether they make pauses, and utterances of every length; by default they speak without end.
        settings: Those that differ from the defaults, as ``NAME=value``.
    """
    speeches = Speeches(directory, seconds, pauses)
    lines: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch, _service(model, scratch, settings) as service:
        table = Table("sessions, context", *_HEAD)
        tries: Sequence[Context | None] = contexts or (None,)
        for context in tries:
            name = str(context or "as set")
            loads = [
                asyncio.run(_load(service, speeches, count, context, compare=model != "0.6b")) for count in sessions
            ]
            for load in loads:
                table.row(f"{load.sessions}, {name}", *load.cells())
            if find_limit:
                tried = asyncio.run(_find_limit(service, speeches, context, table))
                loads = sorted([*loads, *tried], key=lambda load: load.sessions)
            for label, values in (("seen", "seen_s"), ("stable", "stable_s"), ("lag", "lag_s")):
                points = [(float(load.sessions), _p95(getattr(load, values))) for load in loads]
                lines[f"{label}, {name}"] = points
    return Chart(f"Live text, 95th percentiles, {model}", "sessions", "s", lines)


def most_sessions(chart: Chart) -> float:
    """The largest number of sessions in what `run` found, without contexts, whose lag is short enough."""
    return max((count for count, lag_s in chart.lines["lag, as set"] if lag_s <= _MOST_LAG_S), default=0.0)


def run_contexts(
    directory: Path | None, model: str, seconds: float, contexts: Sequence[Context] | None = None
) -> Chart:
    """Print a table over contexts: accuracy, as fast as the service reads; latency and cost, at the pace of speech.

    Who sends faster than speech is read in larger steps, which cost less: costs need the pace, and the words do not.

    Args:
        directory: Of recordings; by default the bundled one.
        model: ``embedded`` or a directory.
        seconds: How long one session speaks for the latencies.
        contexts: To try, by default `CONTEXTS`.
    """
    speeches, parts = Speeches(directory, seconds, pauses=False), recordings(directory)
    points: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as scratch, _service(model, scratch) as service:
        table = Table("left, chunk, right", "apart", "WER", "seen", "stable", "CPU")
        offline = asyncio.run(_files(service, parts))
        table.row("as files", "", _error_rate(parts, offline), "", "", "")
        for context in contexts or CONTEXTS:
            texts = asyncio.run(_fast(service, parts, context))
            load = asyncio.run(_load(service, speeches, 1, context, compare=False))
            load.check()
            apart = _apart(offline, texts)
            figures = (f"{_median(load.seen_s):.2f} s", f"{_median(load.stable_s):.2f} s", f"{load.cpu:.3f}")
            table.row(str(context), f"{apart:.1f} %", _error_rate(parts, texts), *figures)
            points.append((_median(load.stable_s), apart))
    return Chart("Contexts", "s until a word is stable", "% of words apart from the file's", {"": sorted(points)})


def _service(model: str, scratch: str, settings: Sequence[str] = ()) -> Any:
    named = dict(setting.split("=", 1) for setting in settings)
    return running_service(MODEL_ID=model_directory(model, Path(scratch)), **{"MAX_STREAMS": "4096", **named})


async def _load(service: Service, speeches: Speeches, count: int, context: Context | None, *, compare: bool) -> Load:
    offline = [await speeches.offline(service, number) for number in range(count)] if compare else []
    async with AsyncExitStack() as stack:
        shares = max(1, min(count // _SPEAKERS_EACH, _MOST_PROCESSES))
        clients = [
            await stack.enter_async_context(_speakers(service, speeches, range(number, count, shares), context))
            for number in range(shares)
        ]
        before_s, began = service.cpu_s(), time.monotonic()
        before = service.metrics()
        heard = await asyncio.gather(*(client() for client in clients))
        took_s, spent_s = time.monotonic() - began, service.cpu_s() - before_s
        busy_s = service.metrics()[_BUSY] - before.get(_BUSY, 0.0)
    one = {name: [value for share in heard for value in share[name]] for name in heard[0]}
    texts = dict(zip(one["numbers"], one["texts"], strict=True))
    return Load(
        sessions=count,
        seen_s=one["seen_s"],
        stable_s=one["stable_s"],
        lag_s=one["lag_s"],
        final_s=one["final_s"],
        changed=100 * sum(one["changed"]) / max(sum(one["words"]), 1),
        cpu=spent_s / (count * speeches.seconds),
        busy=100 * busy_s / took_s,
        late_s=max(one["late_s"]),
        apart=_apart(offline, [words(texts[number]) for number in range(count)]) if compare else None,
    )


@asynccontextmanager
async def _speakers(
    service: Service, speeches: Speeches, numbers: range, context: Context | None
) -> AsyncGenerator[Callable[[], Awaitable[dict[str, list[Any]]]]]:
    """A process that has prepared what its speakers say; calling it has them say it, and gives what they heard."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.speakers", service.url, str(speeches.directory or "")),
        *(str(speeches.seconds), "pauses" if speeches.pauses else "", str(context or "")),
        *map(str, (numbers.start, numbers.stop, numbers.step)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 28,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if not await process.stdout.readline():
        raise SystemExit("the speakers could not begin")

    async def speak() -> dict[str, list[Any]]:
        output, _ = await process.communicate(b"begin\n")
        if process.returncode:
            raise SystemExit("the speakers failed")
        heard: dict[str, list[Any]] = json.loads(output)
        return heard

    try:
        yield speak
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _find_limit(service: Service, speeches: Speeches, context: Context | None, table: Table) -> list[Load]:
    """Double the sessions until the lag is too long, and then halve the interval, to a sixteenth of the number."""
    tried: list[Load] = []

    async def fits(count: int) -> bool:
        load = await _load(service, speeches, count, context, compare=False)
        tried.append(load)
        table.row(f"{count}, {context or 'as set'}", *load.cells())
        if _p95(load.lag_s) > _MOST_LAG_S:
            return False
        load.check()
        return True

    most, too_many = 0, 1
    while await fits(too_many):
        most, too_many = too_many, 2 * too_many
    while too_many - most > max(1, most // 16):
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if await fits(middle) else (most, middle)
    print(f"{most} sessions fit: with {too_many} the 95th percentile of the lag is above {_MOST_LAG_S:g} s")
    return tried


async def _fast(service: Service, parts: Sequence[Recording], context: Context) -> list[list[str]]:
    """What is heard live in each part, sent as fast as the service takes it."""

    async def audio(part: Recording) -> AsyncGenerator[bytes]:
        for at in range(0, len(part.samples), FRAME):
            yield part.samples[at : at + FRAME].tobytes()

    texts: list[list[str]] = []
    for part in parts:
        follower = Follower()
        async with connected(live_url(service.url)) as client:
            await client.configure(words=True, **context.options)
            async with aclosing(client.converse(audio(part))) as messages:
                async for message in messages:
                    follower.hear(message, 0.0)
        texts.append(words(" ".join(follower.texts)))
    return texts


async def _files(service: Service, parts: Sequence[Recording]) -> list[list[str]]:
    async with httpx2.AsyncClient(timeout=None) as client:
        return [words((await service.transcribe(client, part.wav))["text"]) for part in parts]


def _apart(offline: Sequence[Sequence[str]], live: Sequence[Sequence[str]]) -> float:
    """Words that differ, for each hundred of the file's."""
    apart = sum(distance(one, other) for one, other in zip(offline, live, strict=True))
    return 100 * apart / max(sum(map(len, offline)), 1)


def _error_rate(parts: Sequence[Recording], texts: Sequence[Sequence[str]]) -> str:
    known = [(words(part.text), text) for part, text in zip(parts, texts, strict=True) if part.text is not None]
    spoken = sum(len(reference) for reference, _ in known)
    return f"{100 * sum(distance(reference, text) for reference, text in known) / spoken:.1f} %" if spoken else "-"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def _p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95)) if values else math.nan
