"""The port that tells where somebody speaks."""

from typing import Protocol

from ...domain.audio import Samples
from ...domain.vad import Probabilities


class VadStream(Protocol):
    """One signal, scored from its beginning; keeps its state between calls."""

    @property
    def frame(self) -> int:
        """Samples per probability; never changes."""
        ...

    async def score(self, samples: Samples) -> Probabilities:
        """Take the next samples, of any number, and give the probability of speech in each frame they complete.

        After n samples, in however many calls, there have been ``n // frame`` probabilities. The event loop goes on
        meanwhile, and many streams are scored side by side. Memory does not grow with the length of the signal.

        It may be called again before it has answered: the answers are those of calls one after the other. A part of the
        work may be done for all of these blocks at once.

        Raises:
            InferenceError: The detector failed; the stream is of no further use.
        """
        ...


class VoiceActivityDetector(Protocol):
    """Tells speech from everything else, in any voice and any language."""

    def load(self) -> None:
        """Load what it needs, now; without, the first stream does. Takes a fraction of a second.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
        ...

    def open(self, *, sample_rate_hz: int) -> VadStream:
        """Begin a stream, independent of all others, which may run in other event loops; there is nothing to close.

        Raises:
            ModelLoadError: The detector does not take this rate.
        """
        ...
