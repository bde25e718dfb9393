"""How encoded frames become tokens: the two kinds of decoder that Parakeet models have."""

import re
from collections.abc import Generator, Sequence
from typing import Protocol

import mlx.core as mx
from parakeet_mlx import ParakeetCTC

from ...domain.transcript import Token
from ..inference.decoding import Emission
from ..inference.jobs import DecodeResult, EncoderJob
from .batching import EncodedBatch

_CONTROL = re.compile(r"<.*>")


class Transcription(Protocol):
    """A model's decoder."""

    @property
    def can_stream(self) -> bool:
        """Whether it carries a state from one job to the next."""
        ...

    @property
    def can_search(self) -> bool:
        """Whether it offers beam search and phrases."""
        ...

    def decode(self, jobs: Sequence[EncoderJob], encoded: EncodedBatch) -> Generator[None, None, list[DecodeResult]]:
        """Decode a batch, whose jobs are all decoded by beam search, or none of them is."""
        ...


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


class CtcTranscription:
    """CTC by parakeet-mlx's own decoder: it carries no state, and does not search."""

    can_stream = False
    can_search = False

    def __init__(self, model: ParakeetCTC, vocabulary: Vocabulary) -> None:
        """Take the decoder of `model`."""
        self._model = model
        self._vocabulary = vocabulary

    def decode(
        self,
        jobs: Sequence[EncoderJob],  # noqa: ARG002 - the protocol has it
        encoded: EncodedBatch,
    ) -> Generator[None, None, list[DecodeResult]]:
        """See `Transcription`; in one step."""
        yield from ()
        pieces, is_control = self._vocabulary.pieces, self._vocabulary.is_control
        decoded = self._model.decode(encoded.frames, mx.array(encoded.counts))
        return [
            DecodeResult(
                finalized=tuple(
                    Token(token.id, pieces[token.id], token.start, token.end, token.confidence)
                    for token in aligned
                    if not is_control[token.id]
                ),
                draft=(),
                finalized_until=count,
                decoded_until=count,
                state=None,
            )
            for aligned, count in zip(decoded, encoded.counts, strict=True)
        ]
