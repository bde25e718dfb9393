"""Silero VAD, run by ONNX Runtime: the `VoiceActivityDetector` port."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...assets import SILERO_VAD
from ...domain.audio import NO_SAMPLES, Samples
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.vad import Probabilities

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_RATE_HZ = 16_000
_FRAME = 512
"""Samples per probability, 32 ms: what the model was trained on."""
_CONTEXT = 64
"""Samples before each frame that the model sees again."""
_STATE = (1, 1, 128)
_MOST_FRAMES = 256
"""Read at once: 8 s. More gains no speed and takes memory in proportion."""
_LONG = _RATE_HZ // 2
"""Samples that are worth a thread of their own: they take 0.8 ms, a hand-over 0.1 ms, and who shares would wait."""


class SileroVad:
    """Loads the model once, for all streams."""

    def __init__(self, model: Path = SILERO_VAD) -> None:
        """Remember what to load; by default the model that ships with this package."""
        self._model = model
        self._listener = _Listener()
        self._loading = Lock()
        self._session: InferenceSession | None = None

    def load(self) -> None:
        """See the port."""
        self._loaded()

    def _loaded(self) -> "InferenceSession":
        with self._loading:
            if self._session is None:
                self._session = _session(self._model)
            return self._session

    def open(self, *, sample_rate_hz: int) -> "SileroVadStream":
        """See the port; takes 16 kHz."""
        if sample_rate_hz != _RATE_HZ:
            raise ModelLoadError(f"silero takes {_RATE_HZ} Hz, not {sample_rate_hz}.")
        return SileroVadStream(self._loaded(), self._listener)


class SileroVadStream:
    """The state of one signal: the recurrent network's two vectors, and samples that fill no frame yet."""

    def __init__(self, session: "InferenceSession", listener: "_Listener") -> None:
        """Begin with silence."""
        self._session = session
        self._listener = listener
        self._hidden = self._cell = np.zeros(_STATE, np.float32)
        # The context of the next frame, and what has come of that frame.
        self._kept: Samples = np.zeros(_CONTEXT, np.float32)

    @property
    def frame(self) -> int:
        """See the port."""
        return _FRAME

    async def score(self, samples: Samples) -> Probabilities:
        """See the port; blocks of recordings, and of live audio that is behind, do not hold up other live streams."""
        if len(samples) >= _LONG:
            return await asyncio.to_thread(self.compute, samples)
        return await self._listener.score(self, samples)

    def compute(self, samples: Samples) -> Probabilities:
        """The same, in the calling thread."""
        heard = np.concatenate([self._kept, samples])
        whole = (len(heard) - _CONTEXT) // _FRAME
        self._kept = heard[whole * _FRAME :].copy()
        if not whole:
            return NO_SAMPLES
        # Each with its context. Numpy's own views of this kind take a good part of what the network does for a frame.
        size = heard.itemsize
        frames = np.ndarray((whole, _CONTEXT + _FRAME), heard.dtype, heard, strides=(_FRAME * size, size))
        return np.concatenate([self._read(frames[at : at + _MOST_FRAMES]) for at in range(0, whole, _MOST_FRAMES)])

    def _read(self, frames: NDArray[np.float32]) -> Probabilities:
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException  # noqa: PLC0415 - see above

        given = {"input": np.ascontiguousarray(frames), "h": self._hidden, "c": self._cell}
        try:
            probabilities, self._hidden, self._cell = self._session.run(None, given)
        except (Fail, RuntimeException) as error:
            raise InferenceError("The detector of speech failed on this audio.") from error
        return probabilities


def _session(model: Path) -> "InferenceSession":
    # From 1.29 on, ONNX Runtime tells Microsoft of every process and model; nobody who hosts this wants that.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        # Here and not above: it takes a fifth of a second that commands without audio need not wait for.
        from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415
        from onnxruntime.capi.onnxruntime_pybind11_state import (  # noqa: PLC0415
            Fail,
            InvalidGraph,
            InvalidProtobuf,
            NoSuchFile,
        )
    except ImportError as error:
        raise ModelLoadError(f"ONNX Runtime cannot be imported: {error}") from error

    options = SessionOptions()
    # Frame follows frame, so that a second thread gains nothing, and it would take its core from the recogniser.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The arena keeps what the longest block ever took.
    options.enable_cpu_mem_arena = False
    try:
        return InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
        raise ModelLoadError(f"The voice activity detector cannot be loaded: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is to be scored, and who waits for that."""

    stream: SileroVadStream
    samples: Samples
    future: "asyncio.Future[Probabilities]"

    def compute(self) -> Probabilities | BaseException:
        try:
            return self.stream.compute(self.samples)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the one who waits for it
            return error


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
        for one in asked:
            scored.setdefault(one.future.get_loop(), []).append((one, one.compute()))
        for loop, answers in scored.items():
            # Once the loop is closed nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_answer, answers)


def _answer(scored: Sequence[tuple[_Asked, Probabilities | BaseException]]) -> None:
    for asked, answer in scored:
        if asked.future.done():
            # Whoever asked has left.
            continue
        if isinstance(answer, BaseException):
            asked.future.set_exception(answer)
        else:
            asked.future.set_result(answer)
