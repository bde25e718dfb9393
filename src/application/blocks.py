"""The audio of a recording in the blocks in which speech is looked for."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import chain, repeat

import numpy as np

from ..domain.audio import Samples

_SHORT_S = 4.0
"""Decoders give as little as a third of a second, and handing that to the detector's thread and back costs more than what
is done there."""
_SHORT_BLOCKS, _LONG_S = 4, 8.0
"""The first blocks are short, so that threads share even a short recording; a second of a long block costs an eighth less."""


async def in_blocks(pieces: AsyncIterator[Samples], *, sample_rate_hz: int, separate: bool) -> AsyncGenerator[Samples]:
    """The same samples in blocks whose lengths do not depend on the pieces; only the last one may be shorter.

    With separate channels all blocks are short: each decides which channels are copies.
    """
    sizes = _sizes(sample_rate_hz, separate=separate)
    parts: list[Samples] = []
    gathered, size = 0, next(sizes)
    async for piece in pieces:
        parts.append(piece)
        gathered += len(piece)
        if gathered < size:
            continue
        joined = np.concatenate(parts)
        start = 0
        while gathered - start >= size:
            yield joined[start : start + size]
            start += size
            size = next(sizes)
        gathered -= start
        parts = [joined[start:]] if gathered else []
    if parts:
        yield np.concatenate(parts)


def _sizes(sample_rate_hz: int, *, separate: bool) -> Iterator[int]:
    """Samples in each block, without end."""
    short, long = (int(seconds * sample_rate_hz) for seconds in (_SHORT_S, _LONG_S))
    return repeat(short) if separate else chain(repeat(short, _SHORT_BLOCKS), repeat(long))
