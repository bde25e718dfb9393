"""A live stream whose model is in another process."""

from typing import Any, Protocol

import numpy as np
from msgspec.msgpack import Decoder

from ...domain.audio import NO_SAMPLES, Samples
from ...domain.hypothesis import Hypothesis
from ..processes.messages import decoder_of
from .host import Decode, Flush

_steps: Decoder[Hypothesis | None] = decoder_of(Hypothesis | None)
_flushes: Decoder[Hypothesis] = decoder_of(Hypothesis)

_PIECES = 4
"""In so many pieces a chunk goes to a draft that waits for its turn, and takes them along."""


class Step(Protocol):
    """Has the other process take one step of a stream."""

    async def __call__(self, request: Decode | Flush, results: Decoder[Any], /) -> Any:
        """What it gives."""
        ...


class IsolatedRecognitionStream:
    """The port RecognitionStream: one stream of the other process's model.

    Samples of which no draft can be made yet are kept here. To send each tenth of a second as it comes would take the other
    process, which all streams share, more time than all that it does for drafts.
    """

    def __init__(self, step: Step, number: int, *, hop: int, rate_hz: int) -> None:
        """Begin with silence.

        Args:
            step: Asks the process.
            number: By which it knows the stream.
            hop: Samples of a chunk.
            rate_hz: Of the samples.
        """
        self._step = step
        self._number = number
        self._hop = hop
        self._rate_hz = rate_hz
        self._start_s = 0.0
        self._kept: list[Samples] = []
        self._length = 0  # of what is kept
        self._sent = 0  # since the start
        self._along = 0  # of that, sent while a draft was under way
        self._unread = 0  # of that, in no draft
        self._under_way = 0

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        if start_s is not None:
            self._start_s = start_s
            self._kept, self._length = [], 0
            self._sent = self._along = self._unread = 0
        self._kept.append(samples)
        self._length += len(samples)
        enough = self._hop / _PIECES if self._under_way else self._hop - self._unread
        # Where it jumps, what is under way is of no use any more.
        if start_s is None and self._length < enough:
            return None
        request = Decode(self._number, self._taken(), start_s)
        self._sent += len(request.samples)
        self._unread += len(request.samples)
        if self._under_way:
            self._along += len(request.samples)
        self._under_way += 1
        try:
            hypothesis: Hypothesis | None = await self._step(request, _steps)
        finally:
            self._under_way -= 1
        if hypothesis is not None:
            read = round((hypothesis.decoded_until_s - self._start_s) * self._rate_hz)
            self._unread = min(max(self._sent - read, 0), self._along)
            self._along = 0
        return hypothesis

    async def flush(self) -> Hypothesis:
        """See the port."""
        request = Flush(self._number, self._taken())
        self._sent += len(request.samples)
        self._along = self._unread = 0
        hypothesis: Hypothesis = await self._step(request, _flushes)
        return hypothesis

    def _taken(self) -> Samples:
        kept, self._kept, self._length = self._kept, [], 0
        if not kept:
            return NO_SAMPLES
        return kept[0] if len(kept) == 1 else np.concatenate(kept)
