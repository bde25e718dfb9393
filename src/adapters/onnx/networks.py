"""The graphs of a model, loaded: what turns features into encoded frames, and these and tokens into logits."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession, RunOptions

from ..inference.beam_search import Prediction
from .encoder_graph import relative_positions

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_KEPT_FRAMES = 1600
"""Frames of features (10 ms) up to which a batch's memory is kept for the next one. All that larger ones took is given
back: eight windows of 10 s take 400 MB. To give back always makes a window of 10 s take 5 % longer."""


class EncoderNetwork:
    """See `add_encoder`."""

    def __init__(self, session: InferenceSession, *, stages: int, width: int) -> None:
        """Run this session.

        Args:
            session: Of the encoder's graph.
            stages: Convolutions that each halve the number of frames.
            width: Of the encoder.
        """
        self._session = session
        self._stages = stages
        self._width = width
        # Windows of live streams all have the same length.
        self._positions = lru_cache(maxsize=8)(relative_positions)
        self._give_back = RunOptions()
        self._give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def providers(self) -> list[str]:
        """ONNX Runtime's names of what runs it, the preferred first."""
        return self._session.get_providers()

    def encode(self, features: Floats, lengths: Integers) -> tuple[Floats, list[int]]:
        """Encode a batch.

        Args:
            features: Shape ``(batch, frames, mels)``.
            lengths: Frames of each item that count.

        Returns:
            Encoded frames, and how many of each item count.
        """
        positions = self._positions(self._width, self.count(features.shape[1]))
        given: dict[str, NDArray[Any]] = {"features": features, "lengths": lengths, "positions": positions}
        batch, frames, _ = features.shape
        options = self._give_back if batch * frames > _KEPT_FRAMES else None
        (encoded,) = self._session.run(["encoded"], given, options)
        return encoded, [self.count(int(length)) for length in lengths]

    def count(self, frames: int) -> int:
        """How many encoded frames so many frames of features give."""
        for _ in range(self._stages):
            frames = (frames + 1) // 2
        return frames


@dataclass(frozen=True, slots=True)
class TransducerNetworks:
    """See `add_prediction` and `add_joint`."""

    prediction: InferenceSession
    joint: InferenceSession

    def predict(self, last: Integers, hidden: Floats, cell: Floats) -> tuple[Floats, Floats, Floats]:
        """One step of the prediction network: its output, and the LSTM's state."""
        given: dict[str, NDArray[Any]] = {"last": last, "hidden": hidden, "cell": cell}
        predicted, next_hidden, next_cell = self.prediction.run(["predicted", "next_hidden", "next_cell"], given)
        return predicted, next_hidden, next_cell

    def join(self, frames: Floats, predicted: Floats) -> Floats:
        """Logits of tokens, the blank and durations, shape ``(utterances, outputs)``."""
        (logits,) = self.joint.run(["logits"], {"frames": frames, "predicted": predicted})
        return logits


@dataclass(frozen=True, slots=True)
class ReadingNetwork:
    """See `SearchNetwork`."""

    networks: TransducerNetworks
    blank: int

    def predict(self, last: Integers, hidden: Floats, cell: Floats) -> Prediction:
        """See `SearchNetwork`."""
        return Prediction(*self.networks.predict(last, hidden, cell))

    def join(self, frame: Floats, output: Floats) -> Floats:
        """See `SearchNetwork`."""
        return self.networks.join(frame, output)
