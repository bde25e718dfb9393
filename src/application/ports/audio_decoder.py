"""The port through which recordings become samples."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ...domain.audio import Samples


class AudioDecoder(Protocol):
    """Turns the bytes of a recording, whatever its container and codec, into samples, piece by piece."""

    def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Samples]]:
        """Decode `source` while it is read, in memory that does not grow with its length.

        Channels are averaged to mono. Blocks have any length of at least one sample and, together, are the
        recording at `sample_rate_hz`. The content decides the format; there is no name or type to believe.
        A slow consumer slows the reading of `source`. Leaving the context, also by cancellation, ends every
        process and thread and removes every file that decoding needed. May be called concurrently.

        Args:
            source: The recording in order, in pieces of any size.
            sample_rate_hz: The rate of the samples to give.

        Raises:
            EmptyAudioError: `source` has no bytes, or a readable container holds no samples.
            UndecodableAudioError: The bytes are no audio we can read, are cut short before the first sample,
                or refer to other files or hosts.
            OverloadedError: As many recordings are being decoded as may be.
            DecoderUnavailableError: The decoder is missing, could not start, or was killed.

        All are raised while iterating; what `source` raises passes through unchanged.
        """
        ...
