"""What an engine is: one loaded model that encodes and decodes batches of jobs."""

from collections.abc import Generator, Hashable, Sequence
from typing import Protocol

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import InferenceError
from .decoding import DecoderState
from .jobs import DecodeResult, EncoderJob


class Engine(Protocol):
    """One loaded model. Synchronous: every call but `bucket`, `room` and `seconds` comes from the thread that made it."""

    @property
    def description(self) -> ModelDescription:
        """What is loaded."""
        ...

    @property
    def frame_s(self) -> float:
        """Seconds of audio per encoder frame."""
        ...

    @property
    def reads_live(self) -> bool:
        """Whether the model's decoder has a state to carry from step to step."""
        ...

    @property
    def start(self) -> DecoderState:
        """The decoder's state before the first frame.

        Raises:
            InferenceError: The model's decoder has no state to carry.
        """
        ...

    def bucket(self, job: EncoderJob, /) -> Hashable:
        """Jobs that may be read as one batch have the same."""
        ...

    def room(self, job: EncoderJob, waiting: int, /) -> int:
        """How many jobs like this one are worth reading as one batch, where so many wait."""
        ...

    def seconds(self, job: EncoderJob, /) -> float:
        """How much audio it is."""
        ...

    def read(self, jobs: Sequence[EncoderJob], /) -> Generator[None, None, list[DecodeResult | InferenceError]]:
        """Read jobs of one bucket as a batch; between two steps of the generator something else may be done.

        Returns:
            For each job its result, or why it has none.

        Raises:
            RuntimeError: The device failed.
        """
        ...

    def warm_up(self, batches: Sequence[Sequence[EncoderJob]] = ()) -> None:
        """Read some noise, and then `batches`, so that no request pays for what only the first reading costs."""
        ...

    def shapes(self, job: EncoderJob, *, most: int) -> Sequence[Sequence[EncoderJob]]:
        """Batches of jobs like this one, of up to `most`, one for each shape that the device prepares for."""
        ...
