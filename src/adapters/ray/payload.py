"""Jobs and results as they travel: as bytes, which Ray passes on as they are. It pickles anything else in Python."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...domain.audio import Samples
from ...domain.errors import ServiceError
from ..inference.job_queue import Urgency
from ..inference.jobs import DecodeResult, EncoderJob

_SCALE = np.float32(32768)
_NOTHING: Samples = np.zeros(0, np.float32)


def packed(jobs: Sequence[EncoderJob], urgency: Urgency) -> tuple[bytes, bytes]:
    """The jobs without their audio, and the audio of all of them: in 16 bits where that loses nothing."""
    sounds = [_sound(job.samples) for job in jobs]
    widths = [len(sound) // max(len(job.samples), 1) for sound, job in zip(sounds, jobs, strict=True)]
    sizes = [(len(job.samples), width) for job, width in zip(jobs, widths, strict=True)]
    bare = [replace(job, samples=_NOTHING) for job in jobs]
    return pickle.dumps((bare, sizes, urgency), pickle.HIGHEST_PROTOCOL), b"".join(sounds)


def unpacked(head: bytes, sound: bytes) -> tuple[list[EncoderJob], Urgency]:
    """What was packed."""
    bare, sizes, urgency = pickle.loads(head)  # noqa: S301 - of a front, which may run any code here
    jobs: list[EncoderJob] = []
    at = 0
    for job, (count, width) in zip(bare, sizes, strict=True):
        jobs.append(replace(job, samples=_samples(sound, at, count, width)))
        at += count * width
    return jobs, urgency


def packed_results(results: Sequence[DecodeResult | ServiceError]) -> bytes:
    """Results, for `unpacked_results`."""
    return pickle.dumps(list(results), pickle.HIGHEST_PROTOCOL)


def unpacked_results(data: bytes) -> Sequence[DecodeResult | ServiceError]:
    """What was packed."""
    results: Sequence[DecodeResult | ServiceError] = pickle.loads(data)  # noqa: S301 - of a worker that we started
    return results


def _sound(samples: Samples) -> bytes:
    # Most recordings have 16 bits at the model's rate; what was resampled has more.
    with np.errstate(invalid="ignore"):
        narrow = (samples * _SCALE).astype("<i2")
    return narrow.tobytes() if np.array_equal(narrow / _SCALE, samples) else samples.astype("<f4").tobytes()


def _samples(sound: bytes, at: int, count: int, width: int) -> Samples:
    if width == np.dtype("<i2").itemsize:
        samples = np.frombuffer(sound, "<i2", count, at).astype(np.float32)
        samples /= _SCALE
        return samples
    return np.frombuffer(sound, "<f4", count, at)
