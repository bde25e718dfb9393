"""What the engine reads, and what it gives."""

from dataclasses import dataclass

from ...application.ports.speech_model import GREEDY, Decoding
from ...domain.audio import Samples
from ...domain.transcript import Token
from .decoding import DecoderState


@dataclass(frozen=True, slots=True)
class EncoderJob:
    """Audio to be encoded in one piece, and which of its encoder frames to decode.

    Attributes:
        samples: At the model's rate.
        begin: First frame to decode.
        finalized_until: Frames up to here are decoded for good, by default all of them.
        end: Frames from `finalized_until` up to here are decoded as a draft; by default there are none.
        state: Where decoding stands at `begin`; by default at the beginning.
        first_frame: What the window's first frame is in its stream, for the tokens' times.
        start_s: When the stream began, likewise.
        full: Samples of a whole window of its kind. A GPU pads to that: then windows of all live streams of one context
            are one batch, however much has been heard in each.
        decoding: How to choose among tokens. A search knows no drafts, and begins at the beginning.

    Raises:
        ValueError: A search is to leave a draft, or to go on from a state.
    """

    samples: Samples
    begin: int = 0
    finalized_until: int | None = None
    end: int = 0
    state: DecoderState | None = None
    first_frame: int = 0
    start_s: float = 0.0
    full: int = 0
    decoding: Decoding = GREEDY

    def __post_init__(self) -> None:
        """Refuse what a search cannot do."""
        if self.searched and (self.end or self.state is not None):
            raise ValueError("a search has no draft, and no state to go on from")

    @property
    def searched(self) -> bool:
        """Whether more than the likeliest token is looked at."""
        return self.decoding != GREEDY


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """What was read in a window.

    Attributes:
        finalized: Tokens decoded for good.
        draft: Tokens behind them.
        finalized_until: Frame of the window up to which tokens are final.
        decoded_until: Frame up to which it was decoded at all.
        state: Where decoding stands at `finalized_until`; ``None`` if the model has none, or searched.
    """

    finalized: tuple[Token, ...]
    draft: tuple[Token, ...]
    finalized_until: int
    decoded_until: int
    state: DecoderState | None
