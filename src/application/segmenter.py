"""Which parts of a signal the model is given: everything, or what is spoken."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import numpy as np

from ..domain.audio import NO_SAMPLES, Samples
from ..domain.vad import Probabilities, VadEndpointer, VadParams, VadScores
from ..domain.vad_gate import SpeechChunk, VadGate
from .ports.voice_activity_detector import VadStream, VoiceActivityDetector


class Segmenter(Protocol):
    """Follows one signal from its beginning."""

    @property
    def doubt_s(self) -> float:
        """Extra decoder silence, beyond the endpointing pause, before the utterance is closed."""
        ...

    @property
    def received(self) -> int:
        """Samples segmented so far."""
        ...

    @property
    def silence(self) -> int:
        """Samples since speech was last heard."""
        ...

    @property
    def scores(self) -> VadScores | None:
        """The probabilities of speech so far, where they are known and kept."""
        ...

    async def segment(self, samples: Samples) -> Iterator[list[SpeechChunk]]:
        """Take the next samples; each hop of them gives what the model should read now.

        A hop is segmented when it is iterated, so that the caller may `finish` between two of them. The next samples may be
        given before, if what they give is iterated after.

        Raises:
            InferenceError: The detector failed.
        """
        ...

    def finish(self) -> list[SpeechChunk]:
        """Give what is left of the open span of speech; what follows belongs to another."""
        ...


def segmenter_for(
    detector: VoiceActivityDetector | None,
    params: VadParams,
    *,
    sample_rate_hz: int,
    hop: int | None = None,
    long_s: float = math.inf,
    keep_scores: bool = False,
) -> Segmenter:
    """The segmenter for a service with `detector`, or without one.

    Args:
        detector: Tells what is speech; ``None``: everything is.
        params: When audio counts as speech.
        sample_rate_hz: Of the signal.
        hop: Samples per hop, counted from the signal's first; ``None``: all that come at once are one.
        long_s: Spans longer than this end at a breath.
        keep_scores: Whether to keep all scores: 125 bytes per second, less than its words take.
    """
    if detector is None:
        return PassThroughSegmenter(hop=hop)
    vad = detector.open(sample_rate_hz=sample_rate_hz)
    frame_s = vad.frame / sample_rate_hz
    gate = VadGate(VadEndpointer(params, frame_s=frame_s, long_s=long_s), frame=vad.frame)
    return VadSegmenter(vad, gate, hop=hop, frame_s=frame_s, keep_scores=keep_scores)


class PassThroughSegmenter:
    """Gives everything, in one span that never ends: only the decoder can tell where nobody speaks."""

    doubt_s = 0.0
    silence = 0
    scores = None

    def __init__(self, *, hop: int | None) -> None:
        """Begin before the first sample."""
        self._hop = hop
        self.received = 0

    async def segment(self, samples: Samples) -> Iterator[list[SpeechChunk]]:
        """See `Segmenter`."""
        return self._passed(samples)

    def finish(self) -> list[SpeechChunk]:
        """There is nothing to end."""
        return []

    def _passed(self, samples: Samples) -> Iterator[list[SpeechChunk]]:
        for hop in _hops(samples, self._hop, received=self.received):
            chunk = SpeechChunk(hop, self.received, opens=False, closes=False)
            self.received += len(hop)
            yield [chunk]


class VadSegmenter:
    """Gives what is spoken."""

    doubt_s = 1.0

    def __init__(self, vad: VadStream, gate: VadGate, *, hop: int | None, frame_s: float, keep_scores: bool) -> None:
        """Let through `gate` what `vad` scores as speech, in frames of `frame_s` seconds for both."""
        self._vad = vad
        self._gate = gate
        self._hop = hop
        self._frame_s = frame_s
        self._kept: list[Probabilities] | None = [] if keep_scores else None

    @property
    def received(self) -> int:
        """See `Segmenter`."""
        return self._gate.received

    @property
    def silence(self) -> int:
        """See `Segmenter`."""
        return self._gate.silence

    @property
    def scores(self) -> VadScores | None:
        """See `Segmenter`."""
        return None if self._kept is None else VadScores(np.concatenate([NO_SAMPLES, *self._kept]), self._frame_s)

    async def segment(self, samples: Samples) -> Iterator[list[SpeechChunk]]:
        """See `Segmenter`."""
        # All at once, whatever the hop: each call of the detector costs a hand-over between threads.
        return self._filtered(samples, await self._vad.score(samples))

    def finish(self) -> list[SpeechChunk]:
        """See `Segmenter`."""
        return self._gate.finish()

    def _filtered(self, samples: Samples, scored: Probabilities) -> Iterator[list[SpeechChunk]]:
        if self._kept is not None:
            self._kept.append(scored)
        frame, probabilities = self._vad.frame, iter(scored.tolist())
        for hop in _hops(samples, self._hop, received=self._gate.received):
            received = self._gate.received
            completed = (received + len(hop)) // frame - received // frame
            yield self._gate.filter(hop, islice(probabilities, completed))


def _hops(samples: Samples, hop: int | None, *, received: int) -> Iterator[Samples]:
    """Pieces that end where they would have ended, had the samples come one by one."""
    if hop is None:
        yield samples
        return
    while len(samples):
        length = hop - received % hop
        yield samples[:length]
        samples, received = samples[length:], received + length
