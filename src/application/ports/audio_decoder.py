"""The port through which recordings become samples."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ...domain.audio import Samples
from ...domain.recording_warnings import RecordingWarning


@dataclass(frozen=True, slots=True, eq=False)
class DecodedAudio:
    """A recording that is being decoded.

    Attributes:
        blocks: Its samples, in blocks of at least one; with separate channels of shape ``(n, channels)``.
        warnings: What was passed over; complete when `blocks` has ended.
    """

    blocks: AsyncIterator[Samples]
    warnings: list[RecordingWarning] = field(default_factory=list)


class AudioDecoder(Protocol):
    """Turns the bytes of a recording, whatever its container and codec, into samples, piece by piece."""

    def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AbstractAsyncContextManager[DecodedAudio]:
        """Decode `source` while it is read, in memory that does not grow with its length.

        Channels are averaged to mono, those that cancel each other without loss. Together, the blocks are the
        recording at `sample_rate_hz`, from the first moment of its earliest track, with silence where it has none.
        The content decides the format; there is no name or type to believe.
        A slow consumer slows the reading of `source`. Leaving the context, also by cancellation, ends every
        process and thread and removes every file that decoding needed. May be called concurrently.

        Args:
            source: The recording in order, in pieces of any size.
            sample_rate_hz: The rate of the samples to give.
            track: Which audio track to decode, counted from 1; ``None`` takes the one that is marked as default.
            separate: Keep the channels apart instead of averaging them.

        Raises:
            EmptyAudioError: `source` has no bytes, or a readable container holds no samples.
            UndecodableAudioError: The bytes are no audio we can read, are cut short before the first sample,
                or refer to other files or hosts.
            InvalidRequestError: There is no such `track`, or there are more channels than are kept apart.
            OverloadedError: The limit of recordings that are decoded at once is reached.
            DecoderUnavailableError: The decoder is missing, could not start, or was killed.

        All are raised while iterating; what `source` raises passes through unchanged.
        """
        ...
