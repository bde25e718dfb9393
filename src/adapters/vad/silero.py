"""Silero VAD, run by ONNX Runtime: the `VoiceActivityDetector` port."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from ...assets import SILERO_VAD
from ...domain.audio import Samples
from ...domain.errors import ModelLoadError
from ...domain.vad import Probabilities
from .processes import ScoringProcesses
from .scoring import RATE_HZ, SignalState, hear, score_together
from .silero_network import FRAME, Frames, SileroNetwork

_LONG = RATE_HZ // 2
"""Samples that are worth a thread of their own: they take 0.3 ms, a hand-over 0.1 ms, and who shares would wait."""
_MOST_THREADS = 32
"""More blocks at once wait for those; as many as an event loop's own executor has at most."""


class SileroVad:
    """Loads the model once, for all streams."""

    def __init__(self, model: Path = SILERO_VAD, *, processes: ScoringProcesses | None = None) -> None:
        """Remember what to load.

        Args:
            model: By default the one that ships with this package.
            processes: Score the blocks of recordings in the event loop that has started them. Live audio, and what other
                event loops ask, is scored here.
        """
        self._model = model
        self._processes = processes
        self._listener = _Listener()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="detector")
        self._loading = Lock()
        self._network: SileroNetwork | None = None

    def load(self) -> None:
        """See the port."""
        self._loaded()

    def _loaded(self) -> SileroNetwork:
        with self._loading:
            if self._network is None:
                self._network = SileroNetwork(self._model)
            return self._network

    def open(self, *, sample_rate_hz: int) -> "SileroVadStream":
        """See the port; takes 16 kHz."""
        if sample_rate_hz != RATE_HZ:
            raise ModelLoadError(f"silero takes {RATE_HZ} Hz, not {sample_rate_hz}.")
        return SileroVadStream(self._loaded(), self._listener, self._threads, self._processes)


class SileroVadStream:
    """One signal."""

    def __init__(
        self,
        network: SileroNetwork,
        listener: "_Listener",
        threads: ThreadPoolExecutor,
        processes: ScoringProcesses | None = None,
    ) -> None:
        """Begin with silence."""
        self._listener = listener
        self._processes = processes
        self._threads = threads
        self._turn = asyncio.Lock()
        self._latest: _Latest | None = None
        self.network = network
        self.signal = SignalState.initial()

    @property
    def frame(self) -> int:
        """See the port."""
        return FRAME

    async def score(self, samples: Samples) -> Probabilities:
        """See the port; blocks of recordings, and of live audio that is behind, do not hold up other live streams.

        Of blocks that are scored here at once, the encoder hears all side by side.
        """
        is_long = len(samples) >= _LONG
        if self._processes is not None and self._processes.serve_here:
            # What is kept of the signal may be on its way.
            async with self._turn:
                if is_long:
                    probabilities, self.signal = await self._processes.score(samples, self.signal)
                    return probabilities
                return await self._listener.score(self, self.signal.frames_with(samples))
        # Before anything is waited for: in the order of the calls.
        frames = self.signal.frames_with(samples)
        async with self._turn:
            if not is_long and (self._latest is None or self._latest.scores.done()):
                return await self._listener.score(self, frames)
            found: Future[None] = Future()
            scores = self._threads.submit(self._score_after, self._latest, found, frames)
            # The next block must not wait for one that was cancelled before it began.
            scores.add_done_callback(lambda _: found.cancel())
            self._latest = _Latest(found, scores)
        return await asyncio.wrap_future(scores)

    def _score_after(self, before: "_Latest | None", found: "Future[None]", frames: Frames) -> Probabilities:
        """In a thread: what is scored once more is found in the order of the blocks, and so is the end of the work.

        What needs nothing but the frames is done in between. The block before was begun earlier, so that it never waits
        for a thread while this one has its own.
        """
        if before is not None:
            before.found.result()
        try:
            block = self.signal.block_of(frames)
        except Exception as error:
            found.set_exception(error)
            raise
        found.set_result(None)
        encoded = block.encoded(self.network)
        if before is not None:
            before.scores.result()
        (probabilities,) = hear(self.network, [encoded])
        return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class _Latest:
    """A block that threads score: done when what is scored once more is found, and when it has its scores."""

    found: "Future[None]"
    scores: "Future[Probabilities]"


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is to be scored, and who waits for that."""

    stream: SileroVadStream
    frames: Frames
    future: "asyncio.Future[Probabilities]"


class _Listener:
    """A thread that scores short pieces for all live streams, begun by the first of them.

    It takes all that waits, and tells an event loop of all its scores at once. With a hand-over for each, as an
    executor has it, thread and loop took the interpreter's lock from each other so often that both came too late.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Asked] = SimpleQueue()
        self._lock = Lock()
        self._began = False

    async def score(self, stream: SileroVadStream, frames: Frames) -> Probabilities:
        with self._lock:
            if not self._began:
                Thread(target=_listen, args=(self._asked,), name="listener", daemon=True).start()
                self._began = True
        asked = _Asked(stream, frames, asyncio.get_running_loop().create_future())
        self._asked.put(asked)
        return await asked.future


def _listen(queue: SimpleQueue[_Asked]) -> None:
    while True:
        asked = [queue.get()]
        with suppress(Empty):
            while True:
                asked.append(queue.get_nowait())
        scored: dict[asyncio.AbstractEventLoop, list[tuple[_Asked, Probabilities | BaseException]]] = {}
        for one, answer in _score(asked):
            scored.setdefault(one.future.get_loop(), []).append((one, answer))
        for loop, answers in scored.items():
            # Once the loop is closed nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_answer, answers)


def _score(asked: Sequence[_Asked]) -> Iterator[tuple[_Asked, Probabilities | BaseException]]:
    """Together, which costs a third of what one by one does; whatever fails is for those to hear who wait for it."""
    try:
        signals, frames = [one.stream.signal for one in asked], [one.frames for one in asked]
        probabilities = score_together(asked[0].stream.network, signals, frames)
    except BaseException as error:  # noqa: BLE001 - see above
        yield from ((one, error) for one in asked)
    else:
        yield from zip(asked, probabilities, strict=True)


def _answer(scored: Sequence[tuple[_Asked, Probabilities | BaseException]]) -> None:
    for asked, answer in scored:
        if asked.future.done():
            # Whoever asked has left.
            continue
        if isinstance(answer, BaseException):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)
