"""The gate; that exactly the spans come through it is tested with the windows that are cut from them."""

import numpy as np

from parakeet_service.domain.vad import VadEndpointer, VadParams
from parakeet_service.domain.vad_gate import SpeechChunk, VadGate

_FRAME = 10
_RATE_HZ = 100


def _gate() -> VadGate:
    detection = VadParams(threshold=0.5, prefix_padding_s=0.1, silence_s=1.0)
    return VadGate(VadEndpointer(detection, frame_s=_FRAME / _RATE_HZ), frame=_FRAME)


def _push(gate: VadGate, spoken: str, *, rest: int = 0) -> list[SpeechChunk]:
    """A frame for each character, of which ``x`` is speech."""
    return gate.filter(np.ones(len(spoken) * _FRAME + rest, np.float32), [float(one == "x") for one in spoken])


def _facts(passages: list[SpeechChunk]) -> list[tuple[int, int, bool, bool]]:
    return [(one.start, one.start + len(one.samples), one.opens, one.closes) for one in passages]


def test_a_span_comes_in_passages_without_a_gap() -> None:
    gate = _gate()

    assert _facts(_push(gate, "..xx")) == [(10, 40, True, False)]
    assert _facts(_push(gate, "x")) == [(40, 50, False, False)]
    assert _facts(_push(gate, "." * 9)) == [(50, 70, False, False)]
    assert _facts(_push(gate, ".")) == [(70, 70, False, True)]
    assert _facts(_push(gate, "x")) == [(140, 160, True, False)]


def test_silence_counts_from_the_last_speech() -> None:
    gate = _gate()
    assert gate.silence == 0
    _push(gate, "...")
    assert gate.silence == 30
    _push(gate, "x")
    assert gate.silence == 0
    _push(gate, "." * 30)
    assert gate.silence == 300


def test_after_a_finish_speech_belongs_to_another_span() -> None:
    gate = _gate()
    _push(gate, "xx", rest=5)

    # What fills no frame comes along, and not again.
    assert _facts(gate.finish()) == [(20, 25, False, True)]
    assert gate.finish() == []
    assert gate.received == 25
    assert _facts(_push(gate, "xx")) == [(25, 40, True, False)]
    assert gate.kept == 5


def test_after_a_finish_in_a_pause_too() -> None:
    gate = _gate()
    _push(gate, "xx...")

    assert _facts(gate.finish()) == [(40, 40, False, True)]
    assert _facts(_push(gate, "..x")) == [(60, 80, True, False)]
