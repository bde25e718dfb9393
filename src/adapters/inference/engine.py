"""What an engine is: one loaded model that runs batches of jobs."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import InferenceError
from .job_queue import BatchRunner
from .jobs import DecodeResult, EncoderJob


class KnownEngine(Protocol):
    """What must be known of an engine to make its jobs, wherever it runs them."""

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


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """A `KnownEngine` as values, which can be sent."""

    description: ModelDescription
    frame_s: float
    can_stream: bool


class Engine(KnownEngine, BatchRunner[EncoderJob, DecodeResult], Protocol):
    """One loaded model, synchronous; `run` is called from the thread that loaded it, everything else from any."""

    def run(self, jobs: Sequence[EncoderJob], /) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """See `BatchRunner`: for each job its result, or `InferenceError` where its numbers are not finite."""
        ...

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> Sequence[Sequence[EncoderJob]]:
        """Batches to run before any other, one for each shape that the device compiles for, most likely first.

        Args:
            live: A job of a live stream, with a draft, if there will be any.
            longest_s: How long a job may be.
            most: Jobs in a batch, at most.
        """
        ...
