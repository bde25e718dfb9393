"""How a transducer (TDT or RNNT) turns encoded frames into tokens: greedily, or by beam search."""

from collections.abc import Generator, Sequence

import mlx.core as mx

from ..inference.decoding import DecodeRange, Emission
from ..inference.jobs import DecodeResult, EncoderJob
from ..inference.vocabulary import Vocabulary
from .batching import EncodedBatch
from .decoders.boosting import Boosters, forms_of
from .decoders.network import HostNetwork
from .decoders.search import SearchDecoder
from .decoders.transducer import Transducer, TransducerDecoder, start_of

_BEAM_OF_PHRASES = 4
"""Beam size where phrases are favoured and no number is given: fewer write names that nobody said, more find hardly
any others."""
_WEIGHT_OF_CHARACTER = 5 / 3
"""What each character of a phrase is worth, beside the logarithm of a token's probability. With less, names are not
found; with a fifth more, one in fifty is heard that nobody said."""


class TransducerTranscription:
    """Greedy decoding by the device's decoder; beam search on the CPU, one job after the other."""

    can_stream = True
    can_search = True

    def __init__(
        self, model: Transducer, network: HostNetwork, greedy: TransducerDecoder, vocabulary: Vocabulary
    ) -> None:
        """Take the networks of `model`, and `greedy`, which decodes with them."""
        self._initial_state = start_of(model)
        self._greedy = greedy
        self._search = SearchDecoder(model, network)
        self._vocabulary = vocabulary
        self._boosters = Boosters(vocabulary.pieces)

    def decode(self, jobs: Sequence[EncoderJob], encoded: EncodedBatch) -> Generator[None, None, list[DecodeResult]]:
        """See `Transcription`."""
        if not jobs[0].searched:
            return (yield from self._decode_greedily(jobs, encoded))
        results: list[DecodeResult] = []
        for row, job in enumerate(jobs):
            results.append((yield from self._search_one(job, encoded.frames[row], encoded.counts[row])))
        return results

    def _search_one(self, job: EncoderJob, frames: mx.array, count: int) -> Generator[None, None, DecodeResult]:
        finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
        beam_size, booster = job.decoding.beam_size, None
        if forms := forms_of(job.decoding.phrases):
            weight = _WEIGHT_OF_CHARACTER * self._search.token_share
            booster = self._boosters.of({form: weight * len(form) for form in forms})
            beam_size = beam_size if beam_size > 1 else _BEAM_OF_PHRASES
        emissions = yield from self._search.search(
            frames, job.begin, finalized_until, beam_size=beam_size, booster=booster, linger=self._search.longest_move
        )
        tokens = self._vocabulary.tokens(emissions, job)
        return DecodeResult(tokens, (), finalized_until=finalized_until, decoded_until=finalized_until, state=None)

    def _decode_greedily(
        self, jobs: Sequence[EncoderJob], encoded: EncodedBatch
    ) -> Generator[None, None, list[DecodeResult]]:
        """Decode for good, and then, where a draft is wanted, from there on."""
        ranges: list[DecodeRange] = []
        ends: list[int] = []
        for job, count in zip(jobs, encoded.counts, strict=True):
            finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
            ranges.append(DecodeRange(job.begin, finalized_until, job.state or self._initial_state))
            ends.append(max(finalized_until, min(job.end, count)))
        finalized = self._greedy.decode(encoded.frames, ranges)
        yield
        rows = [row for row, (final, end) in enumerate(zip(ranges, ends, strict=True)) if end > final.end]
        drafts: dict[int, tuple[Emission, ...]] = {}
        if rows:
            further = [DecodeRange(ranges[row].end, ends[row], finalized[row].state) for row in rows]
            frames = encoded.frames if len(rows) == len(jobs) else encoded.frames[mx.array(rows)]
            drafts = {
                row: draft.emissions for row, draft in zip(rows, self._greedy.decode(frames, further), strict=True)
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
