"""A Parakeet model in MLX: features and encoder in batches, then the decoder. Synchronous.

Importing this module imports MLX, which binds its BLAS then and there: see `blas`.
"""

from collections.abc import Generator, Sequence

import mlx.core as mx

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import InferenceError
from ..inference.jobs import DecodeResult, EncoderJob
from .arrays import integers
from .batching import Batching, EncodedBatch
from .transcription import Transcription


class MlxEngine:
    """See `Engine`; belongs to the thread that loaded it."""

    def __init__(
        self, description: ModelDescription, batching: Batching, transcription: Transcription, *, frame_s: float
    ) -> None:
        """Take the parts of a loaded model; `load_engine` is the way here."""
        self.description = description
        self.frame_s = frame_s
        self._batching = batching
        self._transcription = transcription

    @property
    def can_stream(self) -> bool:
        """See `Engine`."""
        return self._transcription.can_stream

    def bucket(self, job: EncoderJob) -> tuple[int, bool]:
        """See `Engine`: the padded length in frames, and whether it is beam search, for which no other job waits."""
        return self._batching.padded(job), job.searched

    def room(self, job: EncoderJob, waiting: int) -> int:
        """See `Engine`: beam searches run one after the other, and the first would wait for the last."""
        return 1 if job.searched else self._batching.room(job, waiting)

    def seconds(self, job: EncoderJob) -> float:
        """See `Engine`."""
        return len(job.samples) / self.description.sample_rate_hz

    def run(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """See `Engine`."""
        encoded = yield from self._batching.encode(jobs)
        finite = _is_finite(encoded)
        yield
        results = yield from self._transcription.decode(jobs, encoded)
        error = InferenceError("The model's encoder gave numbers that are not finite.")
        return [result if good else error for result, good in zip(results, finite, strict=True)]

    def shapes(self, job: EncoderJob, *, most: int) -> list[list[EncoderJob]]:
        """See `Engine`."""
        return self._batching.shapes(job, most=most)


def _is_finite(encoded: EncodedBatch) -> Sequence[bool]:
    """Whether all numbers of each job are finite; padding counts, too, for it could not be otherwise."""
    return [bool(good) for good in integers(mx.all(mx.isfinite(encoded.frames), axis=(1, 2)))]
