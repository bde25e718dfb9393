"""How jobs become batches of the encoder: a CPU is full with one long job, a GPU wants many, in few shapes."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import mlx.core as mx

from ...domain.audio import NO_SAMPLES
from ..inference.jobs import EncoderJob
from .encoder import Encoder
from .features import LogMel

_CPU_FRAMES = 1600
"""Frames of features (10 ms) that fill a CPU."""
_GPU_FRAMES = 1 << 14
"""Frames that fill a GPU: more of them take an H100 longer in proportion, and fewer hardly less long."""
_MOST_GPU_FRAMES = 3 * _GPU_FRAMES
"""Frames that run at once on a GPU: more gain nothing, and the first job would wait for the last."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The encoder's output: shape ``(batch, frames, width)``, and how many frames of each job count."""

    frames: mx.array
    counts: list[int]


class Batching(Protocol):
    """A device's way with batches."""

    def padded(self, job: EncoderJob) -> int:
        """Frames of features to which the job is padded; jobs of the same number may be one batch."""
        ...

    def room(self, job: EncoderJob, waiting: int) -> int:
        """How many jobs like this one are worth running as one batch, when `waiting` of them could."""
        ...

    def shapes(self, job: EncoderJob, *, most: int) -> list[list[EncoderJob]]:
        """Batches of up to `most` jobs like this one, which has a draft: one for each shape to compile for."""
        ...

    def encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, EncodedBatch]:
        """Encode jobs of one padded length; between two steps something else may be done."""
        ...


MakeBatching: TypeAlias = Callable[[LogMel, Encoder, mx.Dtype], Batching]
"""From the parts of a loaded model, the last of them the format in which it computes."""


class CpuBatching:
    """One job fills a CPU, and only short ones gain by company; it yields after every layer."""

    def __init__(self, features: LogMel, encoder: Encoder, dtype: mx.Dtype) -> None:
        """Take the parts of a loaded model."""
        self._features = features
        self._encoder = encoder
        self._dtype = dtype

    def padded(self, job: EncoderJob) -> int:
        """See `Batching`."""
        return _rounded(self._features.count(len(job.samples)))

    def room(self, job: EncoderJob, waiting: int) -> int:  # noqa: ARG002 - the protocol has it
        """See `Batching`."""
        return max(_CPU_FRAMES // self.padded(job), 1)

    def shapes(self, job: EncoderJob, *, most: int) -> list[list[EncoderJob]]:  # noqa: ARG002 - the protocol has it
        """None: nothing is compiled."""
        return []

    def encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, EncodedBatch]:
        """See `Batching`."""
        lengths = [self._features.count(len(job.samples)) for job in jobs]
        features = self._features([job.samples for job in jobs]).astype(self._dtype)
        frames = self._encoder.subsample(features, mx.array(lengths) if min(lengths) < max(lengths) else None)
        for layer in self._encoder.layers:
            mx.eval(frames.x)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
            yield
            frames = layer(frames)
        return EncodedBatch(frames.x, [self._encoder.count(length) for length in lengths])


class GpuBatching:
    """One job does not fill a GPU, and its code is compiled for each shape, and kept: so there are few of them."""

    def __init__(self, features: LogMel, encoder: Encoder, dtype: mx.Dtype) -> None:
        """Take the parts of a loaded model."""
        self._features = features
        self._encoder = encoder
        self._dtype = dtype

    def padded(self, job: EncoderJob) -> int:
        """See `Batching`: the jobs of a live stream are all as long as a complete one."""
        return _rounded(self._features.count(max(len(job.samples), job.full)))

    def room(self, job: EncoderJob, waiting: int) -> int:
        """See `Batching`."""
        frames = self.padded(job)
        room = min(waiting, max(_MOST_GPU_FRAMES // frames, 1))
        # The number is padded to a power of two, which costs nothing until the GPU is full: then only whole ones.
        return room if room * frames <= _GPU_FRAMES else 1 << (room.bit_length() - 1)

    def shapes(self, job: EncoderJob, *, most: int) -> list[list[EncoderJob]]:
        """See `Batching`."""
        sizes = (1 << doublings for doublings in range(most.bit_length() + 1))
        batches = [[job] * size for size in sizes if size // 2 < most and size // 2 < self.room(job, size)]
        # The last job of an utterance has no draft; to pick those that have one is code that is compiled, too.
        return [*batches, [job, job, replace(job, finalized_until=None, end=0)]] if most > 2 else batches

    def encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, EncodedBatch]:
        """See `Batching`; in one step."""
        yield from ()
        samples = [job.samples for job in jobs]
        padding = [NO_SAMPLES] * ((1 << (len(samples) - 1).bit_length()) - len(samples))
        features = self._features([*samples, *padding], frames=max(map(self.padded, jobs))).astype(self._dtype)
        frames, counts = self._encoder(features, [self._features.count(len(one)) for one in (*samples, *padding)])
        return EncodedBatch(frames[: len(samples)], counts[: len(samples)])


def _rounded(count: int) -> int:
    # Four steps to each doubling: padding is a tenth of the work on average, and shapes stay few.
    step = max(1 << max(count.bit_length() - 3, 0), 32)
    return -(-count // step) * step
