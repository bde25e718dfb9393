"""Recordings of uneven lengths, cut out of the sample."""

import io
import wave
from functools import cache

from tests.integration.processes import SAMPLE

LONG_S = 300.0
_SHORTEST_S, _STEP_S, _COUNT = 1.0, 2.3, 12


@cache
def clips() -> dict[str, bytes]:
    """WAV files by name: a dozen between 1 and 27 s, and `long`."""
    lengths = {f"clip {number}": _SHORTEST_S + number * _STEP_S for number in range(_COUNT)}
    return {name: _wav(length_s) for name, length_s in {**lengths, "long": LONG_S}.items()}


def _wav(length_s: float) -> bytes:
    with wave.open(str(SAMPLE)) as sample:
        frames, parameters, rate_hz = sample.readframes(sample.getnframes()), sample.getparams(), sample.getframerate()
    size = 2 * int(length_s * rate_hz)
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams(parameters)
        file.writeframes((frames * (size // len(frames) + 1))[:size])
    return written.getvalue()
