"""When an utterance of a live session is over."""

from dataclasses import dataclass

from .errors import InvalidRequestError
from .vad import VadParams

_SHORTEST_S, _LONGEST_S = 0.1, 60.0
_OF_FILES = VadParams()


@dataclass(frozen=True, slots=True)
class Endpointing:
    """What ends an utterance, and what the detector takes for speech.

    Attributes:
        silence_s: Silence that ends an utterance; ``None`` leaves that to the listener, who asks for it.
        complete_s: Shorter silence that ends one whose text reads as a finished sentence; ``None``: no such rule.
        threshold: Speech begins where its probability, in [0, 1], is at least this, and ends where it is below half.
        prefix_padding_s: Audio that is kept before speech.
        keeps_context: Whether the model reads on over the end of an utterance whose pause is shorter than those that
            part recordings: it writes better, and knows of the next one what came before it.

    Raises:
        InvalidRequestError: A value is out of range; it is named.
    """

    silence_s: float | None = 0.8
    complete_s: float | None = None
    threshold: float = _OF_FILES.threshold
    prefix_padding_s: float = _OF_FILES.prefix_padding_s
    keeps_context: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for param in ("silence_s", "complete_s"):
            value: float | None = getattr(self, param)
            if value is not None and not _SHORTEST_S <= value <= _LONGEST_S:
                raise InvalidRequestError(f"{param} must be from {_SHORTEST_S:g} to {_LONGEST_S:g}.", param=param)
        self.detection()

    def detection(self) -> VadParams:
        """How the spans are found that the model reads: as in recordings, unless an utterance ends sooner."""
        silence_s = _OF_FILES.silence_s
        if self.silence_s is not None and not self.keeps_context:
            silence_s = min(self.silence_s, silence_s)
        return VadParams(self.threshold, self.prefix_padding_s, silence_s)
