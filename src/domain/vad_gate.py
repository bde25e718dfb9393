"""Letting through what is spoken, and nothing else, while it arrives."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .audio import NO_SAMPLES, Samples
from .vad import VadEndpointer


@dataclass(frozen=True, slots=True, eq=False)
class SpeechChunk:
    """A piece of a span of speech, as much of it as is certain.

    Attributes:
        samples: Mono samples, shape ``(n,)``, float32.
        start: Where its first sample lies, in samples from the signal's first.
        opens: Whether a span begins with it; else it follows the chunk before it without a gap.
        closes: Whether the span ends with it.
    """

    samples: Samples
    start: int
    opens: bool
    closes: bool


class VadGate:
    """Lets the spans of speech in a signal through; keeps only the audio of which that is not known yet.

    That is the padding before speech, and a pause for as long as it may be one inside a span.
    """

    def __init__(self, endpointer: VadEndpointer, *, frame: int) -> None:
        """Begin before the first sample; `endpointer` takes frames of so many."""
        self._endpointer = endpointer
        self._frame = frame
        self._inside = False
        self._kept: Samples = NO_SAMPLES
        self._start = 0  # of what is kept, in samples from the signal's first

    @property
    def received(self) -> int:
        """Samples taken so far."""
        return self._start + len(self._kept)

    @property
    def kept(self) -> int:
        """Samples of which it is not known yet whether they belong to speech."""
        return len(self._kept)

    @property
    def silence(self) -> int:
        """Samples since speech was last heard, in whole frames."""
        return self._endpointer.silence * self._frame

    def filter(self, samples: Samples, probabilities: Iterable[float]) -> list[SpeechChunk]:
        """Take samples, and the probabilities of the frames that they complete; give what is certain to be speech."""
        self._kept = np.concatenate([self._kept, samples])
        chunks = [
            self._chunk(frame_range.begin * self._frame, frame_range.end * self._frame, closes=frame_range.closes)
            for frame_range in self._endpointer.detect(probabilities)
        ]
        self._forget(self._endpointer.finalized_until * self._frame)
        return chunks

    def finish(self) -> list[SpeechChunk]:
        """End the span here, if one is open; samples may follow, and belong to another."""
        chunks: list[SpeechChunk] = []
        for frame_range in self._endpointer.finish():
            # The samples behind the last whole frame belong to it.
            end = self.received if self._endpointer.frames == frame_range.end else frame_range.end * self._frame
            chunks.append(self._chunk(frame_range.begin * self._frame, end, closes=True))
            self._forget(end)
        return chunks

    def _chunk(self, begin: int, end: int, *, closes: bool) -> SpeechChunk:
        begin = max(begin, self._start)
        chunk = SpeechChunk(self._kept[begin - self._start : end - self._start], begin, not self._inside, closes)
        self._inside = not closes
        return chunk

    def _forget(self, before: int) -> None:
        before = max(before, self._start)
        self._kept = self._kept[before - self._start :].copy()
        self._start = before
