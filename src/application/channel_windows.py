"""Cuts one channel of a recording into windows for the model."""

from collections.abc import AsyncGenerator, Iterator

import numpy as np

from ..domain.audio import Samples
from ..domain.chunking import AudioWindow, SpeechCutter
from ..domain.vad import VadScores
from .segmenter import Segmenter


class ChannelWindows:
    """One channel on its way to the model; a channel that has nothing of its own to say costs nothing."""

    def __init__(self, segmenter: Segmenter, cutter: SpeechCutter) -> None:
        """Begin before the first sample."""
        self._segmenter = segmenter
        self._cutter = cutter
        self._silent = 0  # samples before the first ones that say something
        self.is_read = False

    @property
    def scores(self) -> VadScores | None:
        """How likely speech was, as far as a detector has listened."""
        return self._segmenter.scores

    async def cut(self, samples: Samples | None, count: int) -> AsyncGenerator[AudioWindow]:
        """Take the next `count` samples, ``None`` for silence, and give the windows that are complete."""
        for piece in self._pieces(samples, count):
            for chunks in await self._segmenter.segment(piece):
                for window in self._cutter.cut(chunks):
                    yield window

    def finish(self) -> list[AudioWindow]:
        """What is left after the last sample."""
        if not self.is_read:
            return []
        return [*self._cutter.cut(self._segmenter.finish()), *self._cutter.finish()]

    def _pieces(self, samples: Samples | None, count: int) -> Iterator[Samples]:
        """What is to be segmented now: nothing while all is silent, and then the silence before."""
        if samples is None and not self.is_read:
            self._silent += count
            return
        self.is_read = True
        while self._silent:
            length = min(count, self._silent)
            self._silent -= length
            yield np.zeros(length, np.float32)
        yield np.zeros(count, np.float32) if samples is None else samples
