"""What of a live signal the model is given: everything, or what is spoken."""

from collections import deque
from typing import Protocol

from ..domain.audio import Samples
from ..domain.vad_gate import SpeechChunk, VadGate
from .ports.voice_activity_detector import VadStream


class Segmenter(Protocol):
    """Hears one signal from its beginning."""

    @property
    def doubt_s(self) -> float:
        """How much longer than a pause the decoder must be silent, to be believed that nobody speaks."""
        ...

    @property
    def received(self) -> int:
        """Samples heard so far."""
        ...

    @property
    def quiet(self) -> int:
        """Samples since speech was last heard."""
        ...

    async def listen(self, samples: Samples) -> None:
        """Hear the next samples, all of which `push` is to be given then.

        Raises:
            InferenceError: The detector failed.
        """
        ...

    def push(self, samples: Samples) -> list[SpeechChunk]:
        """Take the next of the samples that have been heard; give what the model should read."""
        ...

    def finish(self) -> list[SpeechChunk]:
        """Give what is left of the chunk that is open; what is heard from now on belongs to another."""
        ...


class PassThroughSegmenter:
    """Hears all that comes, in one chunk that never ends: only the decoder tells where nobody speaks."""

    doubt_s = 0.0
    quiet = 0

    def __init__(self) -> None:
        """Begin before the first sample."""
        self._received = 0

    @property
    def received(self) -> int:
        """See `Segmenter`."""
        return self._received

    async def listen(self, samples: Samples) -> None:
        """There is nothing to be found out."""

    def push(self, samples: Samples) -> list[SpeechChunk]:
        """See `Segmenter`."""
        chunk = SpeechChunk(samples, self._received, opens=False, closes=False)
        self._received += len(samples)
        return [chunk]

    def finish(self) -> list[SpeechChunk]:
        """There is nothing to end."""
        return []


class VadSegmenter:
    """Hears what is spoken."""

    doubt_s = 1.0

    def __init__(self, vad: VadStream, gate: VadGate) -> None:
        """Let through `gate` what `vad` hears as speech; it hears frames of the same length."""
        self._vad = vad
        self._gate = gate
        self._probabilities: deque[float] = deque()  # of the frames that are not pushed yet

    @property
    def received(self) -> int:
        """See `Segmenter`."""
        return self._gate.received

    @property
    def quiet(self) -> int:
        """See `Segmenter`."""
        return self._gate.quiet

    async def listen(self, samples: Samples) -> None:
        """See `Segmenter`."""
        self._probabilities.extend((await self._vad.hear(samples)).tolist())

    def push(self, samples: Samples) -> list[SpeechChunk]:
        """See `Segmenter`."""
        frame, received = self._vad.frame, self._gate.received
        completed = (received + len(samples)) // frame - received // frame
        return self._gate.push(samples, [self._probabilities.popleft() for _ in range(completed)])

    def finish(self) -> list[SpeechChunk]:
        """See `Segmenter`."""
        return self._gate.finish()
