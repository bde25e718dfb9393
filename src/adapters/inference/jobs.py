"""What an engine is given, and what it gives back."""

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
        finalized_until: Frames before this one are decoded for good; by default all of them.
        end: Frames from `finalized_until` up to here are decoded as a draft; by default there are none.
        state: The decoder's state at `begin`; by default its initial state.
        first_frame: Index in the stream of the job's first frame, for the tokens' times.
        start_s: When the stream began, likewise.
        full: Samples of a complete job of its stream. A GPU pads to that, so the jobs of all live streams of one
            context form one batch, however much each has received.
        decoding: How to choose among tokens; the same in all jobs of a stream.
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

    @property
    def searched(self) -> bool:
        """Whether it is decoded by beam search, not greedily."""
        return self.decoding != GREEDY


@dataclass(frozen=True, slots=True)
class DecodeResult:
    """The tokens of one job.

    Attributes:
        finalized: Tokens decoded for good.
        draft: Tokens after them.
        finalized_until: Frame of the job up to which tokens are final.
        decoded_until: Frame up to which it was decoded at all.
        state: The decoder's state at `finalized_until`; ``None`` if it has none.
    """

    finalized: tuple[Token, ...]
    draft: tuple[Token, ...]
    finalized_until: int
    decoded_until: int
    state: DecoderState | None
