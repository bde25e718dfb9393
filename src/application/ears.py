"""What of a live signal the model is given: everything, or what is spoken."""

from collections import deque
from typing import Protocol

from ..domain.audio import Samples
from ..domain.passages import Passage, SpeechGate
from .ports.voice_detector import VoiceStream


class Ears(Protocol):
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

    def push(self, samples: Samples) -> list[Passage]:
        """Take the next of the samples that have been heard; give what the model should read."""
        ...

    def finish(self) -> list[Passage]:
        """Give what is left of the passage that is open; what is heard from now on belongs to another."""
        ...


class HearsAll:
    """Hears all that comes, in one passage that never ends: only the decoder tells where nobody speaks."""

    doubt_s = 0.0
    quiet = 0

    def __init__(self) -> None:
        """Begin before the first sample."""
        self._received = 0

    @property
    def received(self) -> int:
        """See `Ears`."""
        return self._received

    async def listen(self, samples: Samples) -> None:
        """There is nothing to be found out."""

    def push(self, samples: Samples) -> list[Passage]:
        """See `Ears`."""
        passage = Passage(samples, self._received, opens=False, closes=False)
        self._received += len(samples)
        return [passage]

    def finish(self) -> list[Passage]:
        """There is nothing to end."""
        return []


class HearsSpeech:
    """Hears what is spoken."""

    doubt_s = 1.0

    def __init__(self, voice: VoiceStream, gate: SpeechGate) -> None:
        """Let through `gate` what `voice` hears as speech; it hears frames of the same length."""
        self._voice = voice
        self._gate = gate
        self._probabilities: deque[float] = deque()  # of the frames that are not pushed yet

    @property
    def received(self) -> int:
        """See `Ears`."""
        return self._gate.received

    @property
    def quiet(self) -> int:
        """See `Ears`."""
        return self._gate.quiet

    async def listen(self, samples: Samples) -> None:
        """See `Ears`."""
        self._probabilities.extend((await self._voice.hear(samples)).tolist())

    def push(self, samples: Samples) -> list[Passage]:
        """See `Ears`."""
        frame, received = self._voice.frame, self._gate.received
        completed = (received + len(samples)) // frame - received // frame
        return self._gate.push(samples, [self._probabilities.popleft() for _ in range(completed)])

    def finish(self) -> list[Passage]:
        """See `Ears`."""
        return self._gate.finish()
