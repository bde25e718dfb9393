"""What decoders take and give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Emission:
    """A token as it left the joint network.

    Attributes:
        token: Index in the vocabulary.
        frame: Encoder frame at which it was emitted, counted from the window's first.
        frames: How many frames it takes; 0 is possible, and a plain transducer's takes 1.
        probability: That the model gave it.
    """

    token: int
    frame: int
    frames: int
    probability: float


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Where one utterance's decoding stands between two stretches of frames.

    Attributes:
        skip: Frames of the next stretch that the last token's duration already covers.
        last: Last token; the blank at the beginning.
        repeats: Tokens emitted so far without moving on.
        hidden: LSTM output of every layer before `last`, shape ``(layers, width)``, float32.
        cell: LSTM cell, likewise.
    """

    skip: int
    last: int
    repeats: int
    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames ``[begin, end)`` of one item of a batch, and the state from which to decode them."""

    begin: int
    end: int
    state: DecoderState


@dataclass(frozen=True, slots=True)
class Decoded:
    """The emissions of a stretch in order, and the state from which to go on at its end."""

    emissions: tuple[Emission, ...]
    state: DecoderState


def greedy_ctc(logits: NDArray[np.float32], blank: int) -> Sequence[Emission]:
    """Take the likeliest token of each frame, and join what repeats.

    A token lasts until the next one, blanks included, and the last one as long as it is the likeliest. Its
    probability is parakeet-mlx's measure of confidence: how far the entropy of its frames is from the largest possible.

    Args:
        logits: Of one item, shape ``(frames, vocabulary + 1)``.
        blank: The blank's index.
    """
    best = logits.argmax(axis=1)
    spoken = np.flatnonzero(best != blank)
    if not len(spoken):
        return ()
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropies = -(np.exp(log_probabilities) * log_probabilities).sum(axis=1) / np.log(logits.shape[1])
    starts = [frame for frame in spoken if frame == 0 or best[frame] != best[frame - 1]]
    return tuple(
        Emission(int(best[start]), int(start), int(end - start), 1 - float(entropies[start:end].mean()))
        for start, end in zip(starts, [*starts[1:], spoken[-1] + 1], strict=True)
    )
