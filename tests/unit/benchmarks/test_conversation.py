"""The conversations of the benchmarks are uneven, and the same each time."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.conversation import conversation
from benchmarks.speech import RATE_HZ, Recording

PARTS = [
    Recording("a", np.full(4 * RATE_HZ, 3000, np.int16), None),
    Recording("b", np.full(RATE_HZ, 5000, np.int16), None),
]


def _runs(samples: NDArray[np.int16]) -> list[float]:
    """Seconds of each pause and each utterance."""
    loud = np.abs(samples.astype(np.int32)) > 1000
    edges: list[int] = np.flatnonzero(np.diff(loud.astype(np.int8))).tolist()
    return [(end - begin) / RATE_HZ for begin, end in pairwise([-1, *edges, len(samples) - 1])]


def test_pauses_and_utterances_have_every_length() -> None:
    samples = conversation(PARTS, 1, 60)
    assert len(samples) == 60 * RATE_HZ
    said, pauses = _runs(samples)[:-1:2], _runs(samples)[1:-1:2]
    assert all(0.2 - 0.001 <= pause <= 4.001 for pause in pauses)
    assert len({round(pause, 2) for pause in pauses}) > 5
    # Some recordings are cut in two.
    assert any(length not in {1.0, 4.0} for length in said)
    assert all(1.0 <= length <= 4.0 for length in said)


def test_each_speaker_says_something_else_and_always_the_same() -> None:
    assert (conversation(PARTS, 1, 20) == conversation(PARTS, 1, 20)).all()
    assert (conversation(PARTS, 1, 20) != conversation(PARTS, 2, 20)).any()


def test_without_recordings_nothing_can_be_said() -> None:
    with pytest.raises(SystemExit, match="no recordings"):
        conversation([], 0, 1)
