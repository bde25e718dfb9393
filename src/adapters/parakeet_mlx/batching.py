"""How jobs become batches of the encoder: a CPU is full with one long job, a GPU wants many, in few shapes."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Protocol, TypeAlias

import mlx.core as mx
import numpy as np

from ...domain.audio import NO_SAMPLES
from ..inference.jobs import EncoderJob
from .encoder import Encoder
from .features import LogMel

_CPU_FRAMES = 1600
"""Frames of features (10 ms) that fill a CPU."""
_GPU_START = 1 << 13
"""What a batch costs a GPU whatever is in it, as the number of frames that an H100 reads in that time."""
MOST_GPU_FRAMES = 3 << 14
"""Frames that run at once on a GPU: more gain nothing, and the first job would wait for the last."""
GPU_BYTES_PER_FRAME = 280_000
"""Memory that the 0.6 B model takes on CUDA for each of them, at its peak."""
_MOST_COMPARED = 256
"""Jobs among which a batch is chosen: with more, choosing would take longer than it gains."""
_LADDER = (256, 512, 1024, 1536, 2048, 2560, 3328, 3968, 4608, 5376, 6144)
"""Lengths in frames that CUDA plans for; further ones go on in steps of a third and a half."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The encoder's output.

    Attributes:
        frames: Shape ``(batch, frames, width)``; there may be more rows than jobs.
        counts: How many frames of each row count.
        in_shape: Whether what follows should take all rows together, because other shapes would have to be compiled.
    """

    frames: mx.array
    counts: list[int]
    in_shape: bool = False


class Batching(Protocol):
    """A device's way with batches."""

    def company(self, jobs: Sequence[EncoderJob], *, most: int) -> list[int]:
        """Which of these, given in the order of their turn, to run as one batch of up to `most`; the first is in it."""
        ...

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> list[list[EncoderJob]]:
        """Batches to run before any other, one for each shape to compile for, most likely first.

        Args:
            live: A job of a live stream, with a draft, if there will be any.
            longest_s: How long a job may be.
            most: Jobs in a batch, at most.
        """
        ...

    def encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, EncodedBatch]:
        """Encode jobs that keep each other company; between two steps something else may be done."""
        ...


MakeBatching: TypeAlias = Callable[[LogMel, Encoder, mx.Dtype], Batching]
"""From the parts of a loaded model, the last of them the format in which it computes."""


class CpuBatching:
    """One job fills a CPU, and only short ones of one length gain by company; it yields after every layer."""

    def __init__(self, features: LogMel, encoder: Encoder, dtype: mx.Dtype) -> None:
        """Take the parts of a loaded model."""
        self._features = features
        self._encoder = encoder
        self._dtype = dtype

    def padded(self, job: EncoderJob) -> int:
        """Frames of features to which the job is padded."""
        return _rounded(self._features.count(len(job.samples)))

    def company(self, jobs: Sequence[EncoderJob], *, most: int) -> list[int]:
        """See `Batching`."""
        length = self.padded(jobs[0])
        alike = [at for at, job in enumerate(jobs) if self.padded(job) == length]
        return alike[: min(most, max(_CPU_FRAMES // length, 1))]

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> list[list[EncoderJob]]:  # noqa: ARG002 - the protocol has them
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
    """One job does not fill a GPU: jobs of any lengths run together, padded to the longest, where that is worth it.

    The number of jobs is padded to a power of two. Which lengths there are is for the kind of GPU to say.
    """

    def __init__(
        self, features: LogMel, encoder: Encoder, dtype: mx.Dtype, *, most_frames: int = MOST_GPU_FRAMES
    ) -> None:
        """Take the parts of a loaded model; a batch has at most so many frames, unless it is a single job."""
        self._most_frames = most_frames
        self._features = features
        self._encoder = encoder
        self._dtype = dtype

    def company(self, jobs: Sequence[EncoderJob], *, most: int) -> list[int]:
        """See `Batching`: those with which the GPU reads most audio in the time that the whole batch takes."""
        lengths = [self._length(job) for job in jobs[:_MOST_COMPARED]]
        longest_first = sorted(range(1, len(lengths)), key=lambda at: -lengths[at])
        best, best_pace = [0], 0.0
        for length in sorted({length for length in lengths if length >= lengths[0]}):
            fitting = [0, *(at for at in longest_first if lengths[at] <= length)]
            for size in self._sizes(length):
                batch = fitting[: min(size, most)]
                pace = sum(lengths[at] for at in batch) / (_GPU_START + size * length)
                if pace > best_pace:
                    best, best_pace = batch, pace
                if size >= len(fitting):
                    break
        return sorted(best)

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> list[list[EncoderJob]]:  # noqa: ARG002 - the protocol has it
        """See `Batching`: one for each size of a live batch, for kernels are compiled when they are first used."""
        if live is None:
            return []
        sizes = takewhile(lambda size: size < 2 * most, self._sizes(self._length(live)))
        # The last job of an utterance has no draft.
        return [*([live] * size for size in sizes), [live, replace(live, finalized_until=None, end=0)][:most]]

    def encode(self, jobs: Sequence[EncoderJob]) -> Generator[None, None, EncodedBatch]:
        """See `Batching`; in one step."""
        yield from ()
        length, size = self.shape(jobs)
        samples = [*(job.samples for job in jobs), *[NO_SAMPLES] * (size - len(jobs))]
        features = self._features(samples, frames=length).astype(self._dtype)
        frames, counts = self._encoder(features, [self._features.count(len(one)) for one in samples])
        return EncodedBatch(frames, counts, in_shape=True)

    def _length(self, job: EncoderJob) -> int:
        """Frames to which the job is padded when alone; the jobs of a live stream are all as long as a complete one."""
        return _rounded(self._features.count(max(len(job.samples), job.full)))

    def _sizes(self, length: int) -> Iterator[int]:
        """Numbers of jobs of that length, padded ones included, that a batch may have; the least comes first."""
        size = 1
        while size == 1 or size * length <= self._most_frames:
            yield size
            size *= 2

    def shape(self, jobs: Sequence[EncoderJob]) -> tuple[int, int]:
        """Frames and rows to which these jobs are padded as a batch."""
        return max(map(self._length, jobs)), 1 << (len(jobs) - 1).bit_length()


class CudaBatching(GpuBatching):
    """On CUDA each shape costs most of a second when it is first seen: there are few, and all of them are prepared.

    A batch only ever has a shape that was; one job of a length that was not is the exception, for nothing fits it.
    """

    def __init__(
        self, features: LogMel, encoder: Encoder, dtype: mx.Dtype, *, most_frames: int = MOST_GPU_FRAMES
    ) -> None:
        """Take the parts of a loaded model, and how many frames a batch may have."""
        super().__init__(features, encoder, dtype, most_frames=most_frames)
        self._prepared: dict[int, list[int]] = {}  # sizes, the least first, by length

    def prepare(self, live: EncoderJob | None, *, longest_s: float, most: int) -> list[list[EncoderJob]]:
        """See `Batching`: small batches of every length first, for with these every job can be read."""
        longest = _rung(self._features.count(int(longest_s * self._features.sample_rate_hz)))
        lengths = {
            *takewhile(lambda length: length <= longest, _rungs()),
            *([] if live is None else [self._length(live)]),
        }
        shapes = (
            (size, length)
            for length in lengths
            for size in takewhile(lambda size: size < 2 * most, super(CudaBatching, self)._sizes(length))
        )
        return [[self._job(length, live)] * size for size, length in sorted(shapes)]

    def _job(self, length: int, live: EncoderJob | None) -> EncoderJob:
        """Noise of that length, with a draft where live text will have one."""
        samples = (length - 1) * self._features.hop_length
        noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
        if live is None:
            return EncoderJob(noise)
        end = self._encoder.count(length)
        return EncoderJob(noise, finalized_until=end // 2, end=end)

    def _length(self, job: EncoderJob) -> int:
        return _rung(self._features.count(len(job.samples)))

    def _sizes(self, length: int) -> Iterator[int]:
        return iter(self._prepared.get(length, [1]))

    def shape(self, jobs: Sequence[EncoderJob]) -> tuple[int, int]:
        """Likewise; from then on this shape counts as prepared."""
        longest = max(map(self._length, jobs))
        fitting = [
            (length * size, length, size)
            for length, sizes in self._prepared.items()
            for size in sizes
            if length >= longest and size >= len(jobs)
        ]
        if fitting:
            _, length, size = min(fitting)
            return length, size
        length, size = super().shape(jobs)
        self._prepared.setdefault(length, []).append(size)
        self._prepared[length].sort()
        return length, size


def _rounded(count: int) -> int:
    # Four steps to each doubling: padding is a tenth of the work on average, and shapes stay few.
    step = max(1 << max(count.bit_length() - 3, 0), 32)
    return -(-count // step) * step


def _rungs() -> Iterator[int]:
    """The lengths that CUDA plans for, without end."""
    yield from _LADDER
    length = _LADDER[-1]
    while True:
        yield length // 3 * 4
        length *= 2
        yield length


def _rung(count: int) -> int:
    """The least length that holds so many frames."""
    return next(length for length in _rungs() if length >= count)
