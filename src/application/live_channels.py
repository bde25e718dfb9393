"""One live client's audio, whose channels are transcribed each by itself."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ..domain.live import LiveEvent
from .live_transcriber import LiveTranscriber
from .run_unless import all_of

Hear: TypeAlias = Callable[[LiveEvent], Awaitable[None]]
"""Is given what is heard, as soon as it is."""


class LiveChannels:
    """A speaker on each channel, one or several. One task feeds them, and one tells what is heard on all of them."""

    def __init__(self, transcribers: Sequence[LiveTranscriber], *, sample_bytes: int) -> None:
        """Begin with silence, with a transcriber for each of the interleaved channels."""
        self._transcribers = transcribers
        self._sample_bytes = sample_bytes
        self._rest = b""

    @property
    def heard_s(self) -> float:
        """How much of the audio has been listened to on all channels."""
        return min(one.heard_s for one in self._transcribers)

    async def send(self, data: bytes) -> None:
        """Take raw interleaved audio, split anywhere; waits while too much of any channel is unread."""
        for transcriber, part in zip(self._transcribers, self._apart(data), strict=True):
            await transcriber.send(part)

    async def finalize(self, channel: int | None = None) -> None:
        """Ask for a `Final` of what was said so far, on each channel or on this one; see `LiveTranscriber`."""
        for transcriber in self._transcribers if channel is None else (self._transcribers[channel],):
            await transcriber.finalize()

    async def pause(self) -> None:
        """Nothing has come for as long as a pause that ends an utterance; see `LiveTranscriber`."""
        for transcriber in self._transcribers:
            await transcriber.pause()

    async def clear(self) -> None:
        """Forget what was said since the last `Final`; see `LiveTranscriber`."""
        for transcriber in self._transcribers:
            await transcriber.clear()

    async def close(self) -> None:
        """Ask for the last `Final` of each channel, and for the end of the events."""
        for transcriber in self._transcribers:
            await transcriber.close()

    async def tell(self, hear: Hear) -> None:
        """Tell `hear` what is heard on each channel; ends after `close`.

        Raises:
            InferenceError: The model failed; the session is over.
        """
        if len(self._transcribers) == 1:
            # A task fewer for each of many sessions.
            await _tell_of(0, self._transcribers[0], hear)
        else:
            await all_of(*(_tell_of(number, one, hear) for number, one in enumerate(self._transcribers)))

    def _apart(self, data: bytes) -> Iterator[bytes]:
        """The samples of each channel; the bytes of a frame that is not whole yet are kept."""
        channels = len(self._transcribers)
        if channels == 1:
            return iter((data,))
        frame = channels * self._sample_bytes
        data = self._rest + data
        whole = len(data) - len(data) % frame
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], np.uint8).reshape(-1, channels, self._sample_bytes)
        return (samples[:, number].tobytes() for number in range(channels))


async def _tell_of(channel: int, transcriber: LiveTranscriber, hear: Hear) -> None:
    async with aclosing(transcriber.events()) as events:
        async for event in events:
            await hear(replace(event, channel=channel) if channel else event)
