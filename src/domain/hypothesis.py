"""What a live stream knows at one moment."""

from dataclasses import dataclass

from .transcript import Token


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The news of one decoding step; times are seconds from the stream's first sample.

    Attributes:
        finalized: Tokens that became final in this step; they follow those of earlier steps and never change.
        draft: The tokens after the last finalized one as they read now; each step replaces them.
        finalized_until_s: No later token begins before this time.
        decoded_until_s: Audio before this time has been looked at.
    """

    finalized: tuple[Token, ...]
    draft: tuple[Token, ...]
    finalized_until_s: float
    decoded_until_s: float
