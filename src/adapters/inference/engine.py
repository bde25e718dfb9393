"""What an engine is: one loaded model that runs batches of jobs."""

from collections.abc import Generator, Sequence
from typing import Protocol

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import InferenceError
from .job_queue import BatchRunner
from .jobs import DecodeResult, EncoderJob


class Engine(BatchRunner[EncoderJob, DecodeResult], Protocol):
    """One loaded model, synchronous; `run` is called from the thread that loaded it, everything else from any."""

    @property
    def description(self) -> ModelDescription:
        """What is loaded."""
        ...

    @property
    def frame_s(self) -> float:
        """Seconds of audio per encoder frame."""
        ...

    @property
    def can_stream(self) -> bool:
        """Whether the decoder carries a state from one job to the next, as transducers do and CTC does not."""
        ...

    def run(self, jobs: Sequence[EncoderJob], /) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """See `BatchRunner`: for each job its result, or `InferenceError` where its numbers are not finite."""
        ...

    def shapes(self, job: EncoderJob, *, most: int) -> Sequence[Sequence[EncoderJob]]:
        """Batches of up to `most` jobs like this one, one for each shape that the device compiles for."""
        ...
