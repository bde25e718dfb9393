"""How a transducer (TDT or RNNT) turns encoded frames into tokens: greedily, or by beam search."""

from collections.abc import Generator, Sequence

import mlx.core as mx

from ..inference.beam_search import SearchDecoder
from ..inference.decoding import DecodeRange, Emission
from ..inference.jobs import DecodeResult, EncoderJob
from ..inference.searching import JobSearch
from ..inference.vocabulary import Vocabulary
from .batching import EncodedBatch
from .decoders.network import HostNetwork
from .decoders.transducer import Transducer, TransducerDecoder, durations_of, most_repeats_of, start_of


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
        self._network = network
        self._search = JobSearch(search_decoder(model, network), vocabulary)
        self._vocabulary = vocabulary

    def decode(self, jobs: Sequence[EncoderJob], encoded: EncodedBatch) -> Generator[None, None, list[DecodeResult]]:
        """See `Transcription`."""
        if not jobs[0].searched:
            return (yield from self._decode_greedily(jobs, encoded))
        results: list[DecodeResult] = []
        for row, job in enumerate(jobs):
            (projected,) = self._network.project(encoded.frames[row : row + 1])
            results.append((yield from self._search(job, projected, encoded.counts[row])))
        return results

    def _decode_greedily(
        self, jobs: Sequence[EncoderJob], encoded: EncodedBatch
    ) -> Generator[None, None, list[DecodeResult]]:
        """Decode for good, and then, where a draft is wanted, from there on."""
        ranges: list[DecodeRange] = []
        ends: list[int] = []
        for job, count in zip(jobs, encoded.counts, strict=False):
            finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
            ranges.append(DecodeRange(job.begin, finalized_until, job.state or self._initial_state))
            ends.append(max(finalized_until, min(job.end, count)))
        nothing = DecodeRange(0, 0, self._initial_state)
        added = [nothing] * (len(encoded.counts) - len(jobs))
        finalized = self._greedy.decode(encoded.frames, [*ranges, *added])
        yield
        rows = [row for row, (final, end) in enumerate(zip(ranges, ends, strict=True)) if end > final.end]
        drafts: dict[int, tuple[Emission, ...]] = {}
        if rows:
            further = {row: DecodeRange(ranges[row].end, ends[row], finalized[row].state) for row in rows}
            every = range(len(encoded.counts)) if encoded.in_shape else rows
            frames = encoded.frames if len(every) == len(encoded.counts) else encoded.frames[mx.array(rows)]
            decoded = self._greedy.decode(frames, [further.get(row, nothing) for row in every])
            drafts = {row: draft.emissions for row, draft in zip(every, decoded, strict=True)}
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


def search_decoder(model: Transducer, network: HostNetwork) -> SearchDecoder:
    """Beam search with the networks of `model`."""
    return SearchDecoder(
        network, durations=durations_of(model), most_repeats=most_repeats_of(model), start=start_of(model)
    )
