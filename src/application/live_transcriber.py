"""One speaker's live session: raw audio in, events out."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress

import numpy as np

from ..domain.audio import NO_SAMPLES, PcmReader, Samples
from ..domain.endpointing import Endpointing
from ..domain.errors import OverloadedError
from ..domain.hypothesis import Hypothesis
from ..domain.live import Cleared, EndCause, LiveEvent, Partial
from ..domain.utterances import UtteranceTracker
from ..domain.vad_gate import SpeechChunk
from .audio_queue import AudioQueue, Control
from .ports.resampler import RateConverter
from .ports.speech_model import RecognitionStream
from .segmenter import Segmenter

_HOP_S = 0.1
"""Audio is looked at in pieces of at least this length: smaller ones cost more, and tell hardly anything sooner."""


class LiveTranscriber:
    """One speaker. One task feeds it and one reads its events; a slow reader makes the feeder wait."""

    def __init__(
        self,
        stream: RecognitionStream,
        reader: PcmReader,
        resampled: RateConverter,
        segmenter: Segmenter,
        endpointing: Endpointing,
        *,
        sample_rate_hz: int,
        longest_step_s: float,
        longest_backlog_s: float,
    ) -> None:
        """Begin with silence; `StreamSession.open` is the way here."""
        self._stream = stream
        self._reader = reader
        self._resampled = resampled
        self._segmenter = segmenter
        self._silence_s = endpointing.silence_s
        self._complete_s = endpointing.complete_s
        self._tracker = UtteranceTracker(endpointing, doubt_s=segmenter.doubt_s)
        self._rate_hz = sample_rate_hz
        self._step = max(int(longest_step_s * sample_rate_hz), 1)
        self._hop = max(int(_HOP_S * sample_rate_hz), 1)
        self._queue = AudioQueue(
            hop=self._hop,
            longest=self._step,
            most=max(int(longest_backlog_s * sample_rate_hz), 1),
        )
        self._unread: list[Samples] = []  # for the model
        self._start_s: float | None = None  # of these, if they do not follow those that the model has had
        self._anew = False  # the next ones do not, whatever the segmenter say
        self._considered = False  # in this pause, whether a sentence is over
        self._complete = False  # and so it is

    @property
    def heard_s(self) -> float:
        """How much of the audio has been listened to."""
        return self._segmenter.received / self._rate_hz

    async def send(self, data: bytes) -> None:
        """Take raw audio in the session's encoding, split anywhere; waits while too much of it is unread."""
        await self._queue.put(self._resampled.push(self._reader.read(data)))

    async def finalize(self) -> None:
        """Ask for a `Final` of what was said so far, be it nothing; the session goes on."""
        await self._queue.put(Control.FLUSH)

    async def clear(self) -> None:
        """Forget what was said since the last `Final`: nothing is heard of it after `Cleared`, not even that it stopped."""
        await self._queue.put(Control.CLEAR)

    async def close(self) -> None:
        """Ask for a `Final` of what was said since the last one, and for the end of the events."""
        await self._queue.put(self._resampled.push(NO_SAMPLES, last=True))
        await self._queue.put(Control.CLOSE)

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """What is heard, as soon as it is; ends after `close`.

        Raises:
            InferenceError: The model failed; the session is over.
        """
        while True:
            item = await self._queue.take()
            steps = self._obey(item) if isinstance(item, Control) else self._hear(item)
            async with aclosing(steps):
                async for news in steps:
                    for event in news:
                        yield event
            if item is Control.CLOSE:
                return

    async def _hear(self, samples: Samples) -> AsyncGenerator[list[LiveEvent]]:
        # However much came at once, pauses in it are found; the model reads all of it that no pause parts at once.
        await self._segmenter.listen(samples)
        for piece in self._hops(samples):
            for chunk in self._segmenter.push(piece):
                if chunk.opens:
                    yield self._tracker.begin(chunk.start / self._rate_hz)
                self._keep(chunk)
                # The model will have forgotten it when the utterance goes on; of one that is over it is read below.
                if chunk.closes and not (self._tracker.speaking and self._is_silent(self._silence_s)):
                    yield await self._flush()
            yield await self._consider()
            if self._tracker.speaking and (self._complete or self._is_silent(self._silence_s)):
                # Told before the last words are read: whoever waits for a turn need not wait for the text.
                yield self._tracker.stop((self._segmenter.received - self._segmenter.quiet) / self._rate_hz)
                # What is spoken next is another span.
                self._segmenter.finish()
                yield await self._finish(EndCause.SILENCE)
        yield await self._read()
        if self._tracker.paused:
            yield await self._finish(EndCause.SILENCE)

    def _hops(self, samples: Samples) -> Iterator[Samples]:
        """Pieces that end where they would have ended, had the samples come one by one."""
        while len(samples):
            length = self._hop - self._segmenter.received % self._hop
            yield samples[:length]
            samples = samples[length:]

    async def _consider(self) -> list[LiveEvent]:
        """Once in a pause that would end a sentence, see whether there is one."""
        considered, self._considered = self._considered, self._is_silent(self._complete_s)
        self._complete = self._complete and self._considered
        if considered or not self._considered or not self._tracker.speaking:
            return []
        events = await self._flush()
        self._complete = self._tracker.reads_complete
        return events

    async def _obey(self, control: Control) -> AsyncGenerator[list[LiveEvent]]:
        if control is Control.CLEAR:
            self._segmenter.finish()
            self._tracker.clear()
            self._unread.clear()
            self._anew = True
            yield [Cleared()]
            return
        if control is Control.CLOSE:
            for chunk in self._segmenter.finish():
                self._keep(chunk)
        yield await self._finish(EndCause.ASKED)

    def _keep(self, chunk: SpeechChunk) -> None:
        if chunk.opens or self._anew:
            self._start_s, self._anew = chunk.start / self._rate_hz, False
        self._unread.append(chunk.samples)

    def _is_silent(self, for_s: float | None) -> bool:
        return for_s is not None and self._segmenter.quiet >= for_s * self._rate_hz

    async def _read(self) -> list[LiveEvent]:
        """Give the model what was kept for it, as much at once as it may be given."""
        if not self._unread:
            return []
        samples = np.concatenate(self._unread)
        self._unread.clear()
        events: list[LiveEvent] = []
        for at in range(0, len(samples), self._step):
            start_s, self._start_s = self._start_s, None
            # A full queue costs the listener a step, not the session: the samples are with the stream.
            with suppress(OverloadedError):
                events += self._news(await self._stream.decode(samples[at : at + self._step], start_s=start_s))
        return events

    async def _finish(self, cause: EndCause) -> list[LiveEvent]:
        """Read all that was said, and end the utterance with it."""
        events = await self._flush()
        return [*(event for event in events if not isinstance(event, Partial)), *self._tracker.finish(cause)]

    async def _flush(self) -> list[LiveEvent]:
        if self._anew:
            # What the stream still holds is forgotten.
            return []
        events = await self._read()
        while True:
            try:
                return events + self._news(await self._stream.flush())
            except OverloadedError as busy:
                await asyncio.sleep(busy.retry_after_s)

    def _news(self, hypothesis: Hypothesis | None) -> list[LiveEvent]:
        return (
            []
            if hypothesis is None
            else self._tracker.step(hypothesis, received_s=self._queue.received / self._rate_hz)
        )
