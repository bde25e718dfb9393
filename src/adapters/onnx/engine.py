"""A Parakeet model on ONNX Runtime: features, encoder and decoder of a batch. Synchronous."""

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import InferenceError
from ..inference.jobs import DecodeResult, EncoderJob
from .log_mel import LogMel
from .networks import EncoderNetwork
from .transcription import Transcription

_FULL_FRAMES = 1600
"""Frames of features (10 ms) that fill a CPU."""


class OnnxEngine:
    """See `Engine`."""

    def __init__(
        self,
        description: ModelDescription,
        features: LogMel,
        encoder: EncoderNetwork,
        transcription: Transcription,
        *,
        frame_s: float,
    ) -> None:
        """Take the parts of a loaded model; `load_engine` is the way here."""
        self.description = description
        self.frame_s = frame_s
        self._features = features
        self._encoder = encoder
        self._transcription = transcription

    @property
    def can_stream(self) -> bool:
        """See `Engine`."""
        return self._transcription.can_stream

    def company(self, jobs: Sequence[EncoderJob], most: int) -> list[int]:
        """See `Engine`: one long job fills a CPU, short ones of one length gain by company, and beam searches none."""
        if jobs[0].searched:
            return [0]
        length = self._padded(jobs[0])
        alike = [at for at, job in enumerate(jobs) if not job.searched and self._padded(job) == length]
        return alike[: min(most, max(_FULL_FRAMES // length, 1))]

    def _padded(self, job: EncoderJob) -> int:
        """Frames of features, rounded so that padding in a batch is a tenth of the work on average."""
        count = self._features.count(len(job.samples))
        step = max(1 << max(count.bit_length() - 3, 0), 32)
        return -(-count // step) * step

    def seconds(self, job: EncoderJob) -> float:
        """See `Engine`."""
        return len(job.samples) / self.description.sample_rate_hz

    def run(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """See `Engine`; ONNX Runtime gives way only before and behind the encoder."""
        features, lengths = self._features([job.samples for job in jobs])
        given = _finite(features)
        # Rounded to int8, what is not finite would become numbers like any other.
        features[~given] = 0
        yield
        encoded, counts = self._encoder.encode(features, lengths)
        yield
        good = given & _finite(encoded)
        results = yield from self._transcription.decode(jobs, encoded, counts)
        error = InferenceError("The model's encoder gave numbers that are not finite.")
        return [result if is_good else error for result, is_good in zip(results, good, strict=True)]

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> list[list[EncoderJob]]:  # noqa: ARG002 - the protocol has them
        """None: nothing is compiled."""
        return []


def _finite(batch: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Of which items all numbers are finite."""
    return np.asarray(np.isfinite(batch).all(axis=(1, 2)))
