"""The pieces of words that a model writes."""

import re
from collections.abc import Sequence

from ...domain.transcript import Token
from .decoding import Emission
from .jobs import EncoderJob

_CONTROL = re.compile(r"<.*>")


class Vocabulary:
    """The pieces of words that a model writes, in the order of its outputs."""

    def __init__(self, pieces: Sequence[str], *, frame_s: float) -> None:
        """Take the pieces as the checkpoint has them, and the length of an encoder frame in seconds."""
        self.pieces = [piece.replace("▁", " ") for piece in pieces]
        self.is_control = [_CONTROL.fullmatch(piece.strip()) is not None for piece in self.pieces]
        self._frame_s = frame_s

    def tokens(self, emissions: Sequence[Emission], job: EncoderJob) -> tuple[Token, ...]:
        """The emissions of `job` as tokens of its stream, without control tokens."""
        first_frame, start_s = job.first_frame, job.start_s
        return tuple(
            Token(
                id=emission.token,
                text=self.pieces[emission.token],
                start_s=start_s + (first_frame + emission.frame) * self._frame_s,
                end_s=start_s + (first_frame + emission.frame + emission.frames) * self._frame_s,
                confidence=emission.probability,
            )
            for emission in emissions
            if not self.is_control[emission.token]
        )


def languages_of(pieces: Sequence[str]) -> tuple[str, ...]:
    """Multilingual checkpoints name their languages by control tokens such as ``<|de|>``; the others are English."""
    named = {match[1] for piece in pieces if (match := re.fullmatch(r"<\|([a-z]{2})\|>", piece))}
    return tuple(sorted(named)) or ("en",)
