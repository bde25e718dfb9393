"""Windows and outcomes as they travel: as bytes."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder
from numpy.typing import NDArray

from ...domain.audio import Samples
from ...domain.errors import ServiceError
from ...domain.transcript import Token
from ..inference.job_queue import Urgency
from ..inference.jobs import DecodeResult, EncoderJob
from .workers import Outcome, Window

_SCALE = np.float32(32768)
_NARROW, _WIDE = 2, 4
"""Bytes of a sample."""


class _Room:
    """Memory that is written to again and again: to get it anew takes longer than to fill it."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """So many bytes, until this is called again."""
        if len(self._bytes) < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]


_room = _Room()
_scaled = np.empty(1 << 14, np.float32)


class _Sent(Struct, array_like=True):
    """An outcome; the decoder's state and an error are pickled, for they have parts of every kind."""

    number: int
    finalized: tuple[Token, ...] = ()
    draft: tuple[Token, ...] = ()
    finalized_until: int = 0
    decoded_until: int = 0
    state: bytes = b""
    error: bytes = b""


# Several times as fast as pickle, which calls Python functions for each token.
_encoder = Encoder()
_decoder: Decoder[list[_Sent]] = Decoder(list[_Sent])


def packed(windows: Sequence[Window]) -> tuple[bytes, bytes]:
    """Windows without their audio, and the audio of all of them: in 16 bits where that loses nothing."""
    sizes = [len(window.job.samples) for window in windows]
    room = _room.of(_WIDE * sum(sizes))
    heads: list[tuple[object, ...]] = []
    at = 0
    for window, size in zip(windows, sizes, strict=True):
        width = _put(window.job.samples, room[at:])
        at += size * width
        # Values, not objects, whose pickling would call Python functions.
        heads.append((window.number, int(window.urgency), size, width, _fields(window.job)))
    return pickle.dumps(heads, pickle.HIGHEST_PROTOCOL), room[:at].tobytes()


def unpacked(head: bytes, sound: bytes) -> list[Window]:
    """What was packed."""
    heads: list[tuple[int, int, int, int, Any]] = pickle.loads(head)  # noqa: S301 - of a front, which may run any code here
    windows: list[Window] = []
    at = 0
    for number, urgency, count, width, fields in heads:
        windows.append(Window(number, EncoderJob(_samples(sound, at, count, width), *fields), Urgency(urgency)))
        at += count * width
    return windows


def packed_outcomes(outcomes: Sequence[tuple[int, Outcome]]) -> bytes:
    """Outcomes by their windows' numbers, for `unpacked_outcomes`."""
    return _encoder.encode([_sent(number, outcome) for number, outcome in outcomes])


def unpacked_outcomes(data: bytes) -> list[tuple[int, Outcome]]:
    """What was packed."""
    return [(sent.number, _outcome(sent)) for sent in _decoder.decode(data)]


def _fields(job: EncoderJob) -> tuple[object, ...]:
    """All but the samples, in their order."""
    return (
        *(job.begin, job.finalized_until, job.end, job.state, job.first_frame, job.start_s, job.full),
        job.decoding,
    )


def _put(samples: Samples, room: NDArray[np.uint8]) -> int:
    """Write samples; gives how many bytes each of them took."""
    narrow = room[: _NARROW * len(samples)].view("<i2")
    with np.errstate(invalid="ignore"):
        # Most recordings have 16 bits at the model's rate; what was resampled has more, and shows it in the first block.
        for begin in range(0, len(samples), len(_scaled)):
            block, scaled = narrow[begin : begin + len(_scaled)], _scaled[: len(samples) - begin]
            # The product is exact: what is a whole number in range has 16 bits.
            np.multiply(samples[begin : begin + len(_scaled)], _SCALE, out=scaled)
            np.copyto(block, scaled, casting="unsafe")
            if not np.array_equal(block, scaled):
                room[: _WIDE * len(samples)].view("<f4")[:] = samples
                return _WIDE
    return _NARROW


def _samples(sound: bytes, at: int, count: int, width: int) -> Samples:
    if width == _NARROW:
        samples = np.frombuffer(sound, "<i2", count, at).astype(np.float32)
        samples /= _SCALE
        return samples
    return np.frombuffer(sound, "<f4", count, at)


def _sent(number: int, outcome: Outcome) -> _Sent:
    if isinstance(outcome, ServiceError):
        return _Sent(number, error=pickle.dumps(outcome))
    state = b"" if outcome.state is None else pickle.dumps(outcome.state, pickle.HIGHEST_PROTOCOL)
    return _Sent(number, outcome.finalized, outcome.draft, outcome.finalized_until, outcome.decoded_until, state)


def _outcome(sent: _Sent) -> Outcome:
    if sent.error:
        error: ServiceError = pickle.loads(sent.error)  # noqa: S301 - of a worker that we started
        return error
    state = pickle.loads(sent.state) if sent.state else None  # noqa: S301 - likewise
    return DecodeResult(sent.finalized, sent.draft, sent.finalized_until, sent.decoded_until, state)
