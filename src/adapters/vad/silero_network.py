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
_NOTHING_ENCODED = np.zeros((0, _WIDTH), np.float32)
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

    def encode(self, frames: Frames) -> Encoded:
        """What `hear` needs of these frames of one stream; depends on nothing before them.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        parts = [self._encode([frames[at : at + _MOST_FRAMES]])[:, 0] for at in range(0, len(frames), _MOST_FRAMES)]
        return parts[0] if len(parts) == 1 else np.concatenate([_NOTHING_ENCODED, *parts])

    def hear(self, encoded: Encoded, state: RecurrentState) -> Probabilities:
        """Give the probability of speech in the next frames of one stream, and move its state on.

        Raises:
            InferenceError: ONNX Runtime failed.
        """
        return self._hear(encoded[:, np.newaxis], [state])[:, 0] if len(encoded) else NO_SAMPLES

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
                states_of_some = [states[index] for index in some]
                parts = [
                    self._hear(self._encode([frames[index][at : at + _MOST_FRAMES] for index in some]), states_of_some)
                    for at in range(0, length, _MOST_FRAMES)
                ]
                probabilities = np.concatenate(parts)
                for column, index in enumerate(some):
                    given[index] = probabilities[:, column]
        return given

    def _encode(self, frames: Sequence[Frames]) -> NDArray[np.float32]:
        """Frames of streams side by side, shape ``(n, streams, 128)``."""
        (encoded,) = self._run(self._encoder, {"input": np.stack(frames, axis=1)})
        return encoded

    def _hear(self, encoded: NDArray[np.float32], states: Sequence[RecurrentState]) -> NDArray[np.float32]:
        """The probabilities of streams side by side, shape ``(n, streams)``."""
        given = {
            "encoded": encoded,
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
