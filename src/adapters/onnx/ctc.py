"""Greedy decoding of CTC models."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..inference.decoding import Emission


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
