"""Beam search of one job, with the phrases that it asks for."""

from collections.abc import Generator

from .beam_search import Floats, SearchDecoder
from .boosting import Boosters, forms_of
from .jobs import DecodeResult, EncoderJob
from .vocabulary import Vocabulary

_BEAM_OF_PHRASES = 4
"""Beam size where phrases are favoured and no number is given: fewer write names that nobody said, more find hardly
any others."""
_WEIGHT_OF_CHARACTER = 5 / 3
"""What each character of a phrase is worth, beside the logarithm of a token's probability. With less, names are not
found; with a fifth more, one in fifty is heard that nobody said."""


class JobSearch:
    """Decodes jobs by beam search, on the CPU, one after the other."""

    def __init__(self, decoder: SearchDecoder, vocabulary: Vocabulary) -> None:
        """Search with `decoder`."""
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._boosters = Boosters(vocabulary.pieces)

    def __call__(self, job: EncoderJob, projected: Floats, count: int) -> Generator[None, None, DecodeResult]:
        """Decode a job; after each step of the search something else may be done.

        Args:
            job: Is `searched`.
            projected: Its frames as the joint network takes them, shape ``(frames, joint width)``.
            count: How many of them count.
        """
        finalized_until = count if job.finalized_until is None else min(job.finalized_until, count)
        end = max(finalized_until, min(job.end, count))
        beam_size, booster = job.decoding.beam_size, None
        if forms := forms_of(job.decoding.phrases):
            weight = _WEIGHT_OF_CHARACTER * self._decoder.token_share
            booster = self._boosters.of({form: weight * len(form) for form in forms})
            beam_size = beam_size if beam_size > 1 else _BEAM_OF_PHRASES
        # Final and draft are one reading: what follows a phrase has its say in whether it was said.
        searched = yield from self._decoder.search(
            projected,
            job.begin,
            end,
            beam_size=beam_size,
            booster=booster,
            linger=self._decoder.longest_move,
            state=job.state,
            final_until=finalized_until,
        )
        return DecodeResult(
            finalized=self._vocabulary.tokens(searched.emissions[: searched.final], job),
            draft=self._vocabulary.tokens(searched.emissions[searched.final :], job),
            finalized_until=finalized_until,
            decoded_until=end,
            state=searched.state,
        )
