"""How encoded frames become tokens: the two kinds of decoder that Parakeet models have."""

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..inference.decoding import DecodeRange, Emission
from ..inference.jobs import DecodeResult, EncoderJob
from ..inference.searching import JobSearch
from ..inference.vocabulary import Vocabulary
from .ctc import greedy_ctc
from .greedy import GreedyDecoder

Floats = NDArray[np.float32]


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

    def decode(
        self, jobs: Sequence[EncoderJob], encoded: Floats, counts: Sequence[int]
    ) -> Generator[None, None, list[DecodeResult]]:
        """Decode a batch, whose jobs are all decoded by beam search, or none of them is.

        Args:
            jobs: One for each item.
            encoded: What the encoder gave, shape ``(batch, frames, outputs)``.
            counts: Frames of each item that count.
        """
        ...


class CtcTranscription:
    """CTC: it carries no state."""

    can_stream = False
    can_search = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        """The blank follows the vocabulary."""
        self._vocabulary = vocabulary

    def decode(
        self, jobs: Sequence[EncoderJob], encoded: Floats, counts: Sequence[int]
    ) -> Generator[None, None, list[DecodeResult]]:
        """See `Transcription`; in one step."""
        yield from ()
        blank = len(self._vocabulary.pieces)
        return [
            DecodeResult(
                finalized=self._vocabulary.tokens(greedy_ctc(logits[:count], blank), job),
                draft=(),
                finalized_until=count,
                decoded_until=count,
                state=None,
            )
            for job, logits, count in zip(jobs, encoded, counts, strict=True)
        ]


class TransducerTranscription:
    """TDT and RNNT: beam search, or greedy decoding, which goes on from a state and leaves a draft where one is wanted."""

    can_stream = True
    can_search = True

    def __init__(self, decoder: GreedyDecoder, search: JobSearch, vocabulary: Vocabulary) -> None:
        """Decode with `decoder`, or with `search` the jobs that ask for it."""
        self._decoder = decoder
        self._search = search
        self._vocabulary = vocabulary

    def decode(
        self, jobs: Sequence[EncoderJob], encoded: Floats, counts: Sequence[int]
    ) -> Generator[None, None, list[DecodeResult]]:
        """See `Transcription`."""
        if not jobs[0].searched:
            return self._decode_greedily(jobs, encoded, counts)
        results: list[DecodeResult] = []
        for job, frames, count in zip(jobs, encoded, counts, strict=True):
            results.append((yield from self._search(job, frames, count)))
        return results

    def _decode_greedily(
        self, jobs: Sequence[EncoderJob], encoded: Floats, counts: Sequence[int]
    ) -> list[DecodeResult]:
        """All that is final first, and then, where a draft is wanted, from there on."""
        ranges: list[DecodeRange] = []
        ends: list[int] = []
        for job, count in zip(jobs, counts, strict=True):
            finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
            ranges.append(DecodeRange(job.begin, finalized_until, job.state or self._decoder.start))
            ends.append(max(finalized_until, min(job.end, count)))
        finalized = self._decoder.decode(encoded, ranges)
        rows = [row for row, (final, end) in enumerate(zip(ranges, ends, strict=True)) if end > final.end]
        further = [DecodeRange(ranges[row].end, ends[row], finalized[row].state) for row in rows]
        drafted = self._decoder.decode(encoded[rows], further) if rows else []
        drafts: dict[int, tuple[Emission, ...]] = {
            row: draft.emissions for row, draft in zip(rows, drafted, strict=True)
        }
        return [
            DecodeResult(
                finalized=self._vocabulary.tokens(finalized[row].emissions, job),
                draft=self._vocabulary.tokens(drafts.get(row, ()), job),
                finalized_until=ranges[row].end,
                decoded_until=ends[row],
                state=finalized[row].state,
            )
            for row, job in enumerate(jobs)
        ]
