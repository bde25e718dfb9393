"""Cuts the channels of a recording into windows for the model."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing

import numpy as np

from ..domain.audio import Samples
from ..domain.channels import without_copies
from ..domain.chunking import AudioWindow, SpeechCutter
from ..domain.vad import VadScores
from .in_order import in_order
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

    def pieces(self, samples: Samples | None, count: int) -> Iterator[Samples]:
        """What is to be heard of the next `count` samples, ``None`` for silence: nothing while all is silent.

        Once something is said, the silence before comes first.
        """
        if samples is None and not self.is_read:
            self._silent += count
            return
        self.is_read = True
        while self._silent:
            length = min(count, self._silent)
            self._silent -= length
            yield np.zeros(length, np.float32)
        yield np.zeros(count, np.float32) if samples is None else samples

    async def hear(self, piece: Samples) -> Iterator[AudioWindow]:
        """Take the next piece, and give the windows that are complete with it, once those of the pieces before are taken.

        It may be called again before it has answered.
        """
        heard = await self._segmenter.segment(piece)
        return (window for chunks in heard for window in self._cutter.cut(chunks))

    def finish(self) -> list[AudioWindow]:
        """What is left after the last sample."""
        if not self.is_read:
            return []
        return [*self._cutter.cut(self._segmenter.finish()), *self._cutter.finish()]


class ChannelsOfRecording:
    """The channels of a recording: one where they are mixed."""

    def __init__(self, another: Callable[[], ChannelWindows], *, separate: bool) -> None:
        """Begin before the first sample; `another` makes a channel."""
        self._another = another
        self._separate = separate
        self.channels = [] if separate else [another()]
        self.received = 0

    async def windows(self, blocks: AsyncIterator[Samples], *, at_once: int) -> AsyncGenerator[tuple[int, AudioWindow]]:
        """The windows of all channels, each with its channel's number; those of one channel in order.

        So many blocks are with the detector at once, while the next ones are decoded.
        """
        async with (
            aclosing(self._pieces(blocks)) as pieces,
            aclosing(in_order(pieces, self._hear, at_once=at_once)) as heard,
        ):
            async for number, windows in heard:
                for window in windows:
                    yield number, window
        for number, channel in enumerate(self.channels):
            for window in channel.finish():
                yield number, window

    async def _pieces(self, blocks: AsyncIterator[Samples]) -> AsyncGenerator[tuple[int, Samples]]:
        """What is to be heard of each block, with the number of its channel."""
        async for block in blocks:
            self.received += len(block)
            apart = without_copies(block) if self._separate else [block]
            if not self.channels:
                self.channels = [self._another() for _ in apart]
            for number, samples in enumerate(apart):
                for piece in self.channels[number].pieces(samples, len(block)):
                    yield number, piece

    async def _hear(self, numbered: tuple[int, Samples]) -> tuple[int, Iterator[AudioWindow]]:
        number, piece = numbered
        return number, await self.channels[number].hear(piece)
