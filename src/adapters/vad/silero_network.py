"""Silero's network, run by ONNX Runtime on frames of one stream or of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...domain.audio import NO_SAMPLES
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.vad import Probabilities

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FRAME = 512
"""Samples per probability, 32 ms: what the model was trained on."""
CONTEXT = 64
"""Samples before each frame that the model sees again."""
_WIDTH = 128
_NO_FRAMES, _NOTHING_ENCODED = (np.zeros((0, width), np.float32) for width in (CONTEXT + FRAME, _WIDTH))
_MOST_FRAMES = 256
"""Read at once: 8 s. More gains no speed and takes memory in proportion."""

Frames: TypeAlias = NDArray[np.float32]
"""Frames of one stream, each after its context, shape ``(n, CONTEXT + FRAME)``, float32."""
Encoded: TypeAlias = NDArray[np.float32]
"""What the network makes of each frame of one stream by itself, shape ``(n, 128)``, float32."""


@dataclass(slots=True, eq=False)
class RecurrentState:
    """What the network remembers of one stream: two vectors, shape ``(128,)``, float32."""

    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]

    @classmethod
    def initial(cls) -> "RecurrentState":
        """That of a stream of which nothing has been heard."""
        return cls(np.zeros(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32))


class SileroNetwork:
    """The model, loaded; may be called by many threads at once.

    Its encoder hears each frame by itself; it has five eighths of the work, which many threads can share for one stream.
    What goes from frame to frame must be done in order.
    """

    def __init__(self, model: Path) -> None:
        """Load it from its directory.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
        try:
            # Here and not above: it takes a fifth of a second that commands without audio need not wait for.
            from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415
            from onnxruntime.capi.onnxruntime_pybind11_state import (  # noqa: PLC0415
                Fail,
                InvalidGraph,
                InvalidProtobuf,
                NoSuchFile,
                RuntimeException,
            )
        except ImportError as error:
            raise ModelLoadError(f"ONNX Runtime cannot be imported: {error}") from error

        options = SessionOptions()
        # Frame follows frame, so that a second thread gains little, and it would take its core from the recogniser.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The arena keeps what the longest block ever took.
        options.enable_cpu_mem_arena = False
        try:
            self._encoder, self._recurrent = (
                InferenceSession(model / name, options, providers=["CPUExecutionProvider"])
                for name in ("encoder.onnx", "recurrent.onnx")
            )
        except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
            raise ModelLoadError(f"The voice activity detector cannot be loaded: {error}") from error
        self._failures = (Fail, RuntimeException)

    def encode(self, frames: Sequence[Frames]) -> list[Encoded]:
        """What `hear` needs of the frames of each stream; depends on nothing before them.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        rows = np.concatenate([_NO_FRAMES, *frames])
        parts = [self._encode(rows[at : at + _MOST_FRAMES]) for at in range(0, len(rows), _MOST_FRAMES)]
        encoded = parts[0] if len(parts) == 1 else np.concatenate([_NOTHING_ENCODED, *parts])
        return np.split(encoded, np.cumsum([len(block) for block in frames])[:-1])

    def hear(self, encoded: Sequence[Encoded], states: Sequence[RecurrentState]) -> list[Probabilities]:
        """Give the probability of speech in the next frames of each stream, and move its state on.

        Streams that have the same number of frames are read as one: a few frames of each of many cost a third of what
        they do alone.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        given: list[Probabilities] = [NO_SAMPLES] * len(encoded)
        by_length: dict[int, list[int]] = {}
        for index, block in enumerate(encoded):
            by_length.setdefault(len(block), []).append(index)
        by_length.pop(0, None)
        for length, indices in by_length.items():
            most_streams = max(_MOST_FRAMES // length, 1)
            for first in range(0, len(indices), most_streams):
                some = indices[first : first + most_streams]
                states_of_some = [states[index] for index in some]
                parts = [
                    self._hear([encoded[index][at : at + _MOST_FRAMES] for index in some], states_of_some)
                    for at in range(0, length, _MOST_FRAMES)
                ]
                probabilities = np.concatenate(parts)
                for column, index in enumerate(some):
                    given[index] = probabilities[:, column]
        return given

    def _encode(self, frames: Frames) -> Encoded:
        (encoded,) = self._run(self._encoder, {"input": frames[:, np.newaxis]})
        return encoded[:, 0]

    def _hear(self, encoded: Sequence[Encoded], states: Sequence[RecurrentState]) -> NDArray[np.float32]:
        """The probabilities of streams side by side, shape ``(n, streams)``."""
        given = {
            "encoded": np.stack(encoded, axis=1),
            "h": np.stack([state.hidden for state in states])[np.newaxis],
            "c": np.stack([state.cell for state in states])[np.newaxis],
        }
        probabilities, hidden, cell = self._run(self._recurrent, given)
        for at, state in enumerate(states):
            # A stream that pauses would else hold on to the states of all.
            state.hidden, state.cell = hidden[0, at].copy(), cell[0, at].copy()
        return probabilities

    def _run(self, session: "InferenceSession", given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        try:
            return session.run(None, given)
        except self._failures as error:
            raise InferenceError("The detector of speech failed on this audio.") from error
