"""What of a live signal the model is given: everything, or what is spoken."""

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

    def push(self, samples: Samples) -> list[Passage]:
        """Take the next samples; give what the model should read.

        Raises:
            InferenceError: The detector failed.
        """
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

    @property
    def received(self) -> int:
        """See `Ears`."""
        return self._gate.received

    @property
    def quiet(self) -> int:
        """See `Ears`."""
        return self._gate.quiet

    def push(self, samples: Samples) -> list[Passage]:
        """See `Ears`."""
        return self._gate.push(samples, self._voice.push(samples).tolist())

    def finish(self) -> list[Passage]:
        """See `Ears`."""
        return self._gate.finish()
