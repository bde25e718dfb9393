"""Live text: how long a word takes to the screen, how many speakers a machine has time for, and what contexts cost."""

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from parakeet_service.entrypoints.cli.live_client import FRAME_S, Message, connected

from .conversation import conversation
from .harness import Service, model_directory, running_service
from .report import Chart, Table
from .speech import RATE_HZ, Recording, clip, distance, joined, recordings, words

_FRAME = int(FRAME_S * RATE_HZ)
_SAME_PLACE_S = 0.3
"""A draft may move a word by this much, and shows it all the same."""
_MOST_LATE_S = 0.1
_MOST_LAG_S = 1.0
_HEAD = ("seen", "95 %", "stable", "95 %", "lag", "95 %", "final", "95 %", "changed", "apart", "CPU")


@dataclass(frozen=True, slots=True)
class Context:
    """How the stream is cut into windows, in seconds; see `StreamContext`."""

    left_s: float
    chunk_s: float
    right_s: float

    @classmethod
    def of(cls, text: str) -> "Context":
        """As it stands on the command line: ``6,1,6``.

        Raises:
            ValueError: There are not three numbers.
        """
        left_s, chunk_s, right_s = map(float, text.split(","))
        return cls(left_s, chunk_s, right_s)

    def __str__(self) -> str:
        return f"{self.left_s:g},{self.chunk_s:g},{self.right_s:g}"

    @property
    def options(self) -> dict[str, float]:
        """As ``config`` takes it."""
        return {"left_context_s": self.left_s, "chunk_s": self.chunk_s, "right_context_s": self.right_s}


CONTEXTS = tuple(map(Context.of, ("5,1,8", "6,1,6", "8,1,4", "10,1,2", "10,1,1", "4,1,4", "6,0.5,6", "6,2,6")))
"""All fit into the embedded model's window."""


class Follower:
    """Follows one session's messages, and takes down when each word was first shown, and when it was there to stay.

    Attributes:
        seen_s: For each word of the finals, from its end to the first message that shows it.
        stable_s: Likewise, to the message from which on it never changes.
        final_s: For each utterance, from the end of the speech to its final.
        lag_s: For each partial, audio that the service had and had not read yet.
        texts: The finals.
        words: How many words they have.
        changed: How many words were shown that no final has there.
    """

    def __init__(self) -> None:
        self.seen_s: list[float] = []
        self.stable_s: list[float] = []
        self.final_s: list[float] = []
        self.lag_s: list[float] = []
        self.texts: list[str] = []
        self.words = 0
        self.changed = 0
        self._shown: list[tuple[str, float, float]] = []
        self._stable: list[tuple[str, float]] = []
        self._stopped_s: float | None = None

    def hear(self, message: Message, at_s: float, *, unsent_s: float = 0.0) -> None:
        """Take a message that came `at_s` after the first sample was spoken, with `unsent_s` of speech not taken yet.

        Raises:
            SystemExit: Text has changed that was said to be stable.
        """
        match message["type"]:
            case "partial":
                self.lag_s.append(message["lag_ms"] / 1000 + unsent_s)
                count = len(message["words"]) - len(message["draft"].split())
                self._show(message["words"], at_s)
                self._settle(message["words"], count, at_s)
            case "speech_stopped":
                self._stopped_s = message["at"]
            case "final":
                self._show(message["words"], at_s)
                self._settle(message["words"], len(message["words"]), at_s)
                self._finish(message, at_s)
            case _:
                pass

    def _show(self, heard: Sequence[dict[str, Any]], at_s: float) -> None:
        for word in heard:
            if self._first_sight(word) is None:
                self._shown.append((_plain(word), word["start"], at_s))

    def _first_sight(self, word: dict[str, Any]) -> float | None:
        plain = _plain(word)
        same = (at for text, start, at in self._shown if text == plain and abs(start - word["start"]) <= _SAME_PLACE_S)
        return min(same, default=None)

    def _settle(self, heard: Sequence[dict[str, Any]], count: int, at_s: float) -> None:
        settled = [text for text, _ in self._stable]
        if [word["text"] for word in heard[:count]][: len(settled)] != settled:
            raise SystemExit(f"stable text has changed, from {settled} to {heard[:count]}")
        self._stable += [(word["text"], at_s) for word in heard[len(settled) : count]]

    def _finish(self, message: Message, at_s: float) -> None:
        for word, (_, stable_at_s) in zip(message["words"], self._stable, strict=True):
            seen_at_s = self._first_sight(word)
            assert seen_at_s is not None
            self.seen_s.append(seen_at_s - word["end"])
            self.stable_s.append(stable_at_s - word["end"])
        final = [(_plain(word), word["start"]) for word in message["words"]]
        self.words += len(final)
        self.changed += sum(
            not any(text == word and abs(start - at) <= _SAME_PLACE_S for word, at in final)
            for text, start, _ in self._shown
        )
        if self._stopped_s is not None and message["words"]:
            self.final_s.append(at_s - self._stopped_s)
        self.texts.append(message["text"])
        self._shown, self._stable, self._stopped_s = [], [], None


def _plain(word: dict[str, Any]) -> str:
    return "".join(words(word["text"]))


@dataclass(slots=True)
class _Pace:
    """Frames when a microphone would have them.

    Attributes:
        frames: Of `FRAME_S` each.
        began_s: When the first sample was spoken, on the monotonic clock.
        unsent_s: How much longer the last frame has waited because the service took no more.
        late_s: By how much our own loop was late, at worst.
    """

    frames: Sequence[bytes]
    began_s: float = 0.0
    unsent_s: float = 0.0
    late_s: float = 0.0

    async def audio(self) -> AsyncGenerator[bytes]:
        self.began_s = time.monotonic()
        for number, frame in enumerate(self.frames, 1):
            due_s, asked_s = self.began_s + number * FRAME_S, time.monotonic()
            await asyncio.sleep(max(due_s - asked_s, 0))
            now_s = time.monotonic()
            self.late_s = max(self.late_s, now_s - max(due_s, asked_s))
            self.unsent_s = max(asked_s - due_s, 0.0)
            yield frame


@dataclass(frozen=True, slots=True)
class Load:
    """What so many sessions at once came to; times in seconds.

    Attributes:
        changed: Words that were shown and changed, for each hundred of the finals.
        cpu: Processor time of the service for each second of audio.
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
        return [*times, f"{self.changed:.1f} %", apart, f"{self.cpu:.4f}"]

    def _times(self) -> tuple[Sequence[float], ...]:
        return self.seen_s, self.stable_s, self.lag_s, self.final_s


@dataclass(slots=True)
class _Speeches:
    """What the sessions say, each something else, and what the service reads in it as a file.

    Without pauses it is a stretch of the recordings one after the other.
    """

    directory: Path | None
    seconds: float
    pauses: bool
    _texts: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _all: NDArray[np.int16] | None = None

    def of(self, number: int) -> NDArray[np.int16]:
        parts = recordings(self.directory)
        if self.pauses:
            return conversation(parts, number, self.seconds)
        if self._all is None:
            once_s = sum(part.duration_s for part in parts)
            self._all = joined(parts, at_least_s=self.seconds + once_s).samples
        return clip(self._all, number, self.seconds)

    async def offline(self, service: Service, number: int) -> list[str]:
        if number not in self._texts:
            async with httpx2.AsyncClient(timeout=None) as client:
                answer = await service.transcribe(client, Recording("speech", self.of(number), None).wav)
            self._texts[number] = words(answer["text"])
        return self._texts[number]


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
    speeches = _Speeches(directory, seconds, pauses)
    lines: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch, _service(model, scratch, settings) as service:
        table = Table("sessions, context", *_HEAD)
        tries: Sequence[Context | None] = contexts or (None,)
        for context in tries:
            name = str(context or "as set")
            loads = [asyncio.run(_load(service, speeches, count, context, compare=True)) for count in sessions]
            for load in loads:
                table.row(f"{load.sessions}, {name}", *load.cells())
                load.check()
            if find_limit:
                tried = asyncio.run(_find_limit(service, speeches, context, table))
                loads = sorted([*loads, *tried], key=lambda load: load.sessions)
            for label, values in (("seen", "seen_s"), ("stable", "stable_s"), ("lag", "lag_s")):
                points = [(float(load.sessions), _p95(getattr(load, values))) for load in loads]
                lines[f"{label}, {name}"] = points
    return Chart(f"Live text, 95th percentiles, {model}", "sessions", "s", lines)


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
    speeches, parts = _Speeches(directory, seconds, pauses=False), recordings(directory)
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


async def _load(service: Service, speeches: _Speeches, count: int, context: Context | None, *, compare: bool) -> Load:
    audio = [speeches.of(number) for number in range(count)]
    offline = [await speeches.offline(service, number) for number in range(count)] if compare else []
    frames = [[part[at : at + _FRAME].tobytes() for at in range(0, len(part), _FRAME)] for part in audio]
    paces = [_Pace(part) for part in frames]
    before_s = service.cpu_s()
    # People do not begin to speak together; steps of golden length never fall in with each other.
    begins_s = [number * 0.618 % 1 for number in range(count)]
    followers = await asyncio.gather(
        *(_session(service, pace, context, begin_s) for pace, begin_s in zip(paces, begins_s, strict=True))
    )
    spent_s = service.cpu_s() - before_s
    texts = [words(" ".join(follower.texts)) for follower in followers]
    return Load(
        sessions=count,
        seen_s=_all(follower.seen_s for follower in followers),
        stable_s=_all(follower.stable_s for follower in followers),
        lag_s=_all(follower.lag_s for follower in followers),
        final_s=_all(follower.final_s for follower in followers),
        changed=100 * sum(follower.changed for follower in followers) / max(sum(one.words for one in followers), 1),
        cpu=spent_s / (count * speeches.seconds),
        late_s=max(pace.late_s for pace in paces),
        apart=_apart(offline, texts) if compare else None,
    )


async def _session(service: Service, pace: _Pace, context: Context | None, begin_s: float) -> Follower:
    await asyncio.sleep(begin_s)
    follower = Follower()
    async with connected(_url(service)) as client:
        await client.configure(words=True, **({} if context is None else context.options))
        async with aclosing(client.converse(pace.audio())) as messages:
            async for message in messages:
                follower.hear(message, time.monotonic() - pace.began_s, unsent_s=pace.unsent_s)
    return follower


async def _find_limit(service: Service, speeches: _Speeches, context: Context | None, table: Table) -> list[Load]:
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
        for at in range(0, len(part.samples), _FRAME):
            yield part.samples[at : at + _FRAME].tobytes()

    texts: list[list[str]] = []
    for part in parts:
        follower = Follower()
        async with connected(_url(service)) as client:
            await client.configure(words=True, **context.options)
            async with aclosing(client.converse(audio(part))) as messages:
                async for message in messages:
                    follower.hear(message, 0.0)
        texts.append(words(" ".join(follower.texts)))
    return texts


async def _files(service: Service, parts: Sequence[Recording]) -> list[list[str]]:
    async with httpx2.AsyncClient(timeout=None) as client:
        return [words((await service.transcribe(client, part.wav))["text"]) for part in parts]


def _url(service: Service) -> str:
    return f"{service.url.replace('http', 'ws', 1)}/ws"


def _apart(offline: Sequence[Sequence[str]], live: Sequence[Sequence[str]]) -> float:
    """Words that differ, for each hundred of the file's."""
    apart = sum(distance(one, other) for one, other in zip(offline, live, strict=True))
    return 100 * apart / max(sum(map(len, offline)), 1)


def _error_rate(parts: Sequence[Recording], texts: Sequence[Sequence[str]]) -> str:
    known = [(words(part.text), text) for part, text in zip(parts, texts, strict=True) if part.text is not None]
    spoken = sum(len(reference) for reference, _ in known)
    return f"{100 * sum(distance(reference, text) for reference, text in known) / spoken:.1f} %" if spoken else "-"


def _all(lists: Iterable[Sequence[float]]) -> list[float]:
    return [value for values in lists for value in values]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan


def _p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95)) if values else math.nan
