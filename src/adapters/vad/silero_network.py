"""Silero's network, run by ONNX Runtime on frames of one stream or of many."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...domain.audio import NO_SAMPLES
from ...domain.errors import InferenceError, ModelLoadError
from ...domain.vad import Probabilities

FRAME = 512
"""Samples per probability, 32 ms: what the model was trained on."""
CONTEXT = 64
"""Samples before each frame that the model sees again."""
_WIDTH = 128
_MOST_FRAMES = 256
"""Read at once: 8 s. More gains no speed and takes memory in proportion."""

Frames: TypeAlias = NDArray[np.float32]
"""Frames of one stream, each after its context, shape ``(n, CONTEXT + FRAME)``, float32."""


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
    """The model, loaded; may be called by many threads at once."""

    def __init__(self, model: Path) -> None:
        """Load it.

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
            self._session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
            raise ModelLoadError(f"The voice activity detector cannot be loaded: {error}") from error
        self._failures = (Fail, RuntimeException)

    def read(self, frames: Sequence[Frames], states: Sequence[RecurrentState]) -> list[Probabilities]:
        """Give the probability of speech in the next frames of each stream, and move its state on.

        Streams that have the same number of frames are read as one: a few frames of each of many cost a third of what
        they do alone.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        given: list[Probabilities] = [NO_SAMPLES] * len(frames)
        by_length: dict[int, list[int]] = {}
        for index, block in enumerate(frames):
            by_length.setdefault(len(block), []).append(index)
        by_length.pop(0, None)
        for length, indices in by_length.items():
            most_streams = max(_MOST_FRAMES // length, 1)
            for first in range(0, len(indices), most_streams):
                some = indices[first : first + most_streams]
                parts = [
                    self._read([frames[index][at : at + _MOST_FRAMES] for index in some], [states[i] for i in some])
                    for at in range(0, length, _MOST_FRAMES)
                ]
                probabilities = np.concatenate(parts, axis=1)
                for row, index in enumerate(some):
                    given[index] = probabilities[row]
        return given

    def _read(self, frames: Sequence[Frames], states: Sequence[RecurrentState]) -> NDArray[np.float32]:
        given = {
            "input": np.stack(frames, axis=1),
            "h": np.stack([state.hidden for state in states])[np.newaxis],
            "c": np.stack([state.cell for state in states])[np.newaxis],
        }
        try:
            probabilities, hidden, cell = self._session.run(None, given)
        except self._failures as error:
            raise InferenceError("The detector of speech failed on this audio.") from error
        for at, state in enumerate(states):
            # A stream that pauses would else hold on to the states of all.
            state.hidden, state.cell = hidden[0, at].copy(), cell[0, at].copy()
        return probabilities.T
