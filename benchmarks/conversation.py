"""Speech as people make it: utterances of every length, with pauses of every length between them."""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from .speech import RATE_HZ, Recording

_SHORTEST_PAUSE_S, _PAUSE_S, _LONGEST_PAUSE_S = 0.2, 0.9, 4.0
"""Half of the pauses are longer than the second of these."""
_SPREAD = 0.8
_NOISE = 8.0
"""Deviation of the noise in pauses, of 32,768: no room is as silent as zeros."""
_SHORTEST_PART_S = 1.0
_CUT_SHARE = 0.4
_QUIET_S = 0.05


def conversation(parts: Sequence[Recording], number: int, seconds: float) -> NDArray[np.int16]:
    """What one speaker says in so many seconds; each `number` says something else, always the same.

    The recordings come in any order. Some are cut in two at a quiet place, as if the speaker stopped to think, and
    some pauses are no longer than a breath, so that two or three recordings are one utterance.
    """
    random = np.random.default_rng(number)
    pieces: list[NDArray[np.int16]] = []
    missing = int(seconds * RATE_HZ)
    for said in _endless(parts, random):
        drawn_s = np.clip(_PAUSE_S * np.exp(random.normal(0, _SPREAD)), _SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)
        pause = random.normal(0, _NOISE, int(drawn_s * RATE_HZ)).astype(np.int16)
        for piece in (said, pause):
            pieces.append(piece[:missing])
            missing -= len(pieces[-1])
            if not missing:
                return np.concatenate(pieces)
    raise SystemExit("there are no recordings")


def _endless(parts: Sequence[Recording], random: np.random.Generator) -> Generator[NDArray[np.int16]]:
    while parts:
        for at in random.permutation(len(parts)):
            samples: NDArray[np.int16] = parts[int(at)].samples
            if random.random() < _CUT_SHARE and (cut := _quiet_place(samples, random)):
                yield samples[:cut]
                yield samples[cut:]
            else:
                yield samples


def _quiet_place(samples: NDArray[np.int16], random: np.random.Generator) -> int:
    """The quietest place of a random third of the recording; 0 where it is too short to be cut."""
    frame, margin = int(_QUIET_S * RATE_HZ), int(_SHORTEST_PART_S * RATE_HZ)
    room = len(samples) - 2 * margin
    if room < margin:
        return 0
    begin = margin + int(random.integers(2 * room // 3))
    stretch = samples[begin : begin + room // 3].astype(np.float64)
    energy = np.square(stretch[: len(stretch) // frame * frame]).reshape(-1, frame).sum(axis=1)
    return begin + int(energy.argmin()) * frame + frame // 2
