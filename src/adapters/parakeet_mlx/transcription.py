"""How encoded frames become tokens: the two kinds of decoder that Parakeet models have."""

from collections.abc import Generator, Sequence
from typing import Protocol

import mlx.core as mx
from parakeet_mlx import ParakeetCTC

from ...domain.transcript import Token
from ..inference.jobs import DecodeResult, EncoderJob
from ..inference.vocabulary import Vocabulary
from .batching import EncodedBatch


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
        jobs: Sequence[EncoderJob],
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
            for aligned, count, _ in zip(decoded, encoded.counts, jobs, strict=False)  # rows may have been added
        ]
