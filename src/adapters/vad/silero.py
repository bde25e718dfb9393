"""Silero VAD, run by ONNX Runtime: the `VoiceActivityDetector` port."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread

import numpy as np

from ...assets import SILERO_VAD
from ...domain.audio import Samples
from ...domain.errors import ModelLoadError
from ...domain.vad import Probabilities
from .conditioning import ClearedRun, Conditioner
from .silero_network import CONTEXT, FRAME, Frames, RecurrentState, SileroNetwork

_RATE_HZ = 16_000
_LONG = _RATE_HZ // 2
"""Samples that are worth a thread of their own: they take 0.3 ms, a hand-over 0.1 ms, and who shares would wait."""

_LIKELY = 0.3
"""Cleared silence has scores of its own, which are no better than those of silence; speech has more than these."""


class SileroVad:
    """Loads the model once, for all streams."""

    def __init__(self, model: Path = SILERO_VAD) -> None:
        """Remember what to load; by default the model that ships with this package."""
        self._model = model
        self._listener = _Listener()
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
        if sample_rate_hz != _RATE_HZ:
            raise ModelLoadError(f"silero takes {_RATE_HZ} Hz, not {sample_rate_hz}.")
        return SileroVadStream(self._loaded(), self._listener)


class SileroVadStream:
    """The state of one signal: the recurrent network's two vectors, and samples that fill no frame yet."""

    def __init__(self, network: SileroNetwork, listener: "_Listener") -> None:
        """Begin with silence."""
        self._listener = listener
        self.network = network
        self.state = RecurrentState.initial()
        # The context of the next frame, and what has come of that frame.
        self._kept: Samples = np.zeros(CONTEXT, np.float32)
        self._conditioner = Conditioner(frame_s=FRAME / _RATE_HZ)
        self._clear_state = RecurrentState.initial()

    @property
    def frame(self) -> int:
        """See the port."""
        return FRAME

    async def score(self, samples: Samples) -> Probabilities:
        """See the port; blocks of recordings, and of live audio that is behind, do not hold up other live streams."""
        if len(samples) >= _LONG:
            return await asyncio.to_thread(self.compute, samples)
        return await self._listener.score(self, samples)

    def compute(self, samples: Samples) -> Probabilities:
        """The same, in the calling thread."""
        (probabilities,) = _read([self], [self.frames_with(samples)])
        return probabilities

    def cleared(self, frames: Frames) -> list[tuple[ClearedRun, RecurrentState]]:
        """The runs of these frames that are scored once more, and what the network remembers of each."""
        runs = self._conditioner.clear(frames)
        states = [self._clear_state if run.continues else RecurrentState.initial() for run in runs]
        if states:
            self._clear_state = states[-1]
        return list(zip(runs, states, strict=True))

    def frames_with(self, samples: Samples) -> Frames:
        """The frames that `samples` complete; the rest is kept for the next call."""
        heard = np.concatenate([self._kept, samples])
        whole = (len(heard) - CONTEXT) // FRAME
        self._kept = heard[whole * FRAME :].copy()
        # Each with its context. Numpy's own views of this kind take a good part of what the network does for a frame.
        size = heard.itemsize
        return np.ndarray((whole, CONTEXT + FRAME), heard.dtype, heard, strides=(FRAME * size, size))


def _read(streams: Sequence[SileroVadStream], frames: Sequence[Frames]) -> list[Probabilities]:
    """The probability of speech in the next frames of each stream.

    It is that of the signal as it is, but where that hides speech.
    """
    network = streams[0].network
    probabilities = network.read(frames, [stream.state for stream in streams])
    again = [
        (given, run, state)
        for stream, some, given in zip(streams, frames, probabilities, strict=True)
        for run, state in stream.cleared(some)
    ]
    if again:
        cleared = network.read([run.windows for _, run, _ in again], [state for _, _, state in again])
        for (given, run, _), scores in zip(again, cleared, strict=True):
            part = given[run.begin : run.begin + len(scores)]
            np.maximum(part, scores, out=part, where=run.needed & (scores >= _LIKELY))
    return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is to be scored, and who waits for that."""

    stream: SileroVadStream
    samples: Samples
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

    async def score(self, stream: SileroVadStream, samples: Samples) -> Probabilities:
        with self._lock:
            if not self._began:
                Thread(target=_listen, args=(self._asked,), name="listener", daemon=True).start()
                self._began = True
        asked = _Asked(stream, samples, asyncio.get_running_loop().create_future())
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
    ready: list[_Asked] = []
    frames: list[Frames] = []
    for one in asked:
        try:
            frames.append(one.stream.frames_with(one.samples))
        except BaseException as error:  # noqa: BLE001 - see above
            yield one, error
        else:
            ready.append(one)
    if not ready:
        return
    try:
        probabilities = _read([one.stream for one in ready], frames)
    except BaseException as error:  # noqa: BLE001 - see above
        yield from ((one, error) for one in ready)
    else:
        yield from zip(ready, probabilities, strict=True)


def _answer(scored: Sequence[tuple[_Asked, Probabilities | BaseException]]) -> None:
    for asked, answer in scored:
        if asked.future.done():
            # Whoever asked has left.
            continue
        if isinstance(answer, BaseException):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)
