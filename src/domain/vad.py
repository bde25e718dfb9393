"""Where somebody speaks: from the probabilities of short frames to spans of speech."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidRequestError

Probabilities: TypeAlias = NDArray[np.float32]
"""How likely it is that somebody speaks, a number in [0, 1] for each frame, shape ``(n,)``, float32."""

LONGEST_PAUSE_S = 60.0
"""What a detection may ask for at most: audio is kept for as long, until it is known whether speech goes on."""
_SHORTEST_S = 0.1
"""Speech that is shorter is none: the shortest words, such as "I", take as long."""
_BREATH_S = 0.2
"""A pause between words; the closure of a consonant takes half as long."""
_TAIL_S = 0.2
"""Kept after speech, for ends of words are soft; more of it is more noise to imagine words in."""


@dataclass(frozen=True, slots=True)
class VadParams:
    """When audio counts as speech; what it is by default loses no words, see ``docs/adr/0014``.

    Attributes:
        threshold: Speech begins where its probability, in [0, 1], is at least this, and ends where it is below half.
        prefix_padding_s: Audio that is kept before speech.
        silence_s: A pause of at least this length ends a span of speech.

    Raises:
        InvalidRequestError: A value is out of range; it is named.
    """

    threshold: float = 0.2
    prefix_padding_s: float = 0.1
    silence_s: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for param, most in (("threshold", 1.0), ("prefix_padding_s", LONGEST_PAUSE_S), ("silence_s", LONGEST_PAUSE_S)):
            if not 0 <= getattr(self, param) <= most:
                raise InvalidRequestError(f"{param} must be from 0 to {most:g}.", param=param)


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Frames ``[begin, end)`` that belong to one span of speech; with `closes` the span ends with them."""

    begin: int
    end: int
    closes: bool


class VadState(Enum):
    """What an endpointer hears."""

    QUIET = auto()
    STARTING = auto()
    """Speech, of too few frames yet to open a span."""
    SPEAKING = auto()
    STOPPING = auto()
    """In a span, a pause that may still be part of it."""


class VadEndpointer:
    """Finds the spans of speech while probabilities arrive; gives each span in ranges, as soon as they are certain.

    Spans lie in order and do not overlap. Between two of them is a pause of at least `silence_s`, or a breath where
    the first is long enough to be cut; of it the first keeps its end and the second its padding.
    """

    def __init__(self, detection: VadParams, *, frame_s: float, long_s: float = math.inf) -> None:
        """Begin before the first frame; each lasts `frame_s` seconds. Spans longer than `long_s` end at a breath."""
        self._enter = detection.threshold
        self._leave = detection.threshold / 2
        self._shortest = max(math.ceil(_SHORTEST_S / frame_s - 0.5), 1)
        self._silence = max(math.ceil(detection.silence_s / frame_s), 1)
        self._prefix = math.ceil(detection.prefix_padding_s / frame_s)
        self._breath = min(math.ceil(_BREATH_S / frame_s), self._silence)
        self._tail = min(math.ceil(_TAIL_S / frame_s), self._breath)
        self._long = long_s / frame_s
        self.frames = 0  # so far
        self.state = VadState.QUIET
        self._run = 0  # frames of speech, while starting
        self._begin = 0  # of the open span
        self._last = 0  # end of the last frame of speech in the open span, or in the last one
        self._given = 0

    @property
    def finalized_until(self) -> int:
        """No frame_range to come begins before this frame."""
        return self._given if self._in_span else max(self._given, self.frames - self._run - self._prefix)

    @property
    def silence(self) -> int:
        """Frames since speech was last heard."""
        return self.frames - self._last

    def detect(self, probabilities: Iterable[float]) -> list[FrameRange]:
        """Take the probabilities of the next frames and give the ranges of speech that are certain now."""
        ranges: list[FrameRange] = []
        for probability in probabilities:
            self.frames += 1
            going_on = self.state is VadState.SPEAKING or self.state is VadState.STARTING
            if probability >= (self._leave if going_on else self._enter):
                self._hear_speech()
            elif self._in_span:
                self.state = VadState.STOPPING
                if self.silence >= (self._silence if self._last - self._begin < self._long else self._breath):
                    ranges.append(self._close(VadState.QUIET))
            else:
                self.state = VadState.QUIET
                self._run = 0
        if self._in_span and self._end > self._given:
            ranges.append(FrameRange(self._given, self._end, closes=False))
            self._given = self._end
        return ranges

    def finish(self) -> list[FrameRange]:
        """End the open span here and give what is left of it; frames may follow, and belong to another."""
        if not self._in_span:
            return []
        return [self._close(VadState.STARTING if self.state is VadState.SPEAKING else VadState.QUIET)]

    @property
    def _in_span(self) -> bool:
        return self.state is VadState.SPEAKING or self.state is VadState.STOPPING

    @property
    def _end(self) -> int:
        return min(self._last + self._tail, self.frames)

    def _hear_speech(self) -> None:
        if not self._in_span:
            self.state = VadState.STARTING
            self._run += 1
            if self._run < self._shortest:
                return
            self._given = self._begin = max(self._given, self.frames - self._run - self._prefix)
            self._run = 0
        self.state = VadState.SPEAKING
        self._last = self.frames

    def _close(self, state: VadState) -> FrameRange:
        frame_range = FrameRange(self._given, self._end, closes=True)
        self._given = self._end
        self.state = state
        return frame_range


@dataclass(frozen=True, slots=True, eq=False)
class VadScores:
    """The probabilities of speech in a whole recording, a frame every `frame_s` seconds."""

    probabilities: Probabilities
    frame_s: float

    def no_speech(self, start_s: float, end_s: float) -> float:
        """Mean of one minus the probability over the frames that ``[start_s, end_s)`` touches; 1 if there is no frame."""
        begin = min(int(start_s / self.frame_s), len(self.probabilities) - 1)
        frames = self.probabilities[max(begin, 0) : max(math.ceil(end_s / self.frame_s), begin + 1)]
        return float(1 - frames.mean(dtype=np.float64)) if len(frames) else 1.0
