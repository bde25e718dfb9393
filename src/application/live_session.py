"""One speaker's live session: raw audio in, events out."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress

from ..domain.audio import NO_SAMPLES, PcmReader, Samples
from ..domain.endpointing import Endpointing
from ..domain.errors import OverloadedError
from ..domain.hypothesis import Hypothesis
from ..domain.live import Cleared, EndCause, LiveEvent, Partial
from ..domain.passages import Passage
from ..domain.utterances import UtteranceTracker
from .ears import Ears
from .inbox import Inbox, Mark
from .ports.resampler import ResampleStream
from .ports.speech_model import SpeechStream

_HOP_S = 0.1
"""Audio is looked at in pieces of at least this length: smaller ones cost more, and tell hardly anything sooner."""


class LiveSession:
    """One speaker. One task feeds it and one reads its events; a slow reader makes the feeder wait."""

    def __init__(
        self,
        stream: SpeechStream,
        reader: PcmReader,
        resampled: ResampleStream,
        ears: Ears,
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
        self._ears = ears
        self._silence_s = endpointing.silence_s
        self._complete_s = endpointing.complete_s
        self._tracker = UtteranceTracker(endpointing)
        self._rate_hz = sample_rate_hz
        self._step = max(int(longest_step_s * sample_rate_hz), 1)
        self._inbox = Inbox(
            hop=max(int(_HOP_S * sample_rate_hz), 1),
            longest=self._step,
            most=max(int(longest_backlog_s * sample_rate_hz), 1),
        )
        self._anew = False  # the next samples do not follow those that the stream has had
        self._considered = False  # in this pause, whether a sentence is over
        self._complete = False  # and so it is

    @property
    def heard_s(self) -> float:
        """How much of the audio has been listened to."""
        return self._ears.received / self._rate_hz

    async def send(self, data: bytes) -> None:
        """Take raw audio in the session's encoding, split anywhere; waits while too much of it is unread."""
        await self._inbox.put(self._resampled.push(self._reader.read(data)))

    async def finalize(self) -> None:
        """Ask for a `Final` of what was said so far, be it nothing; the session goes on."""
        await self._inbox.put(Mark.FLUSH)

    async def clear(self) -> None:
        """Forget what was said since the last `Final`: nothing is heard of it after `Cleared`, not even that it stopped."""
        await self._inbox.put(Mark.CLEAR)

    async def close(self) -> None:
        """Ask for a `Final` of what was said since the last one, and for the end of the events."""
        await self._inbox.put(self._resampled.push(NO_SAMPLES, last=True))
        await self._inbox.put(Mark.CLOSE)

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """What is heard, as soon as it is; ends after `close`.

        Raises:
            InferenceError: The model failed; the session is over.
        """
        while True:
            item = await self._inbox.take()
            steps = self._obey(item) if isinstance(item, Mark) else self._hear(item)
            async with aclosing(steps):
                async for news in steps:
                    for event in news:
                        yield event
            if item is Mark.CLOSE:
                return

    async def _hear(self, samples: Samples) -> AsyncGenerator[list[LiveEvent]]:
        for passage in self._ears.push(samples):
            if passage.opens:
                yield self._tracker.begin(passage.start / self._rate_hz)
            for piece, start_s in self._pieces(passage):
                yield await self._push(piece, start_s=start_s)
            # The model will have forgotten it when the utterance goes on; one that is over is read to its end below.
            if passage.closes and not (self._tracker.speaking and self._is_silent(self._silence_s)):
                yield await self._flush()
        yield await self._consider()
        if self._tracker.speaking and (self._complete or self._is_silent(self._silence_s)):
            # Told before the last words are read: whoever waits for a turn need not wait for the text.
            yield self._tracker.stop((self._ears.received - self._ears.quiet) / self._rate_hz)
            # What is spoken next is another span.
            self._ears.finish()
            yield await self._finish(EndCause.SILENCE)
        elif self._tracker.paused(doubt_s=self._ears.doubt_s):
            yield await self._finish(EndCause.SILENCE)

    async def _consider(self) -> list[LiveEvent]:
        """Once in a pause that would end a sentence, see whether there is one."""
        considered, self._considered = self._considered, self._is_silent(self._complete_s)
        self._complete = self._complete and self._considered
        if considered or not self._considered or not self._tracker.speaking:
            return []
        events = await self._flush()
        self._complete = self._tracker.reads_complete
        return events

    async def _obey(self, mark: Mark) -> AsyncGenerator[list[LiveEvent]]:
        if mark is Mark.CLEAR:
            self._ears.finish()
            self._tracker.clear()
            self._anew = True
            yield [Cleared()]
            return
        for passage in self._ears.finish() if mark is Mark.CLOSE else ():
            for piece, start_s in self._pieces(passage):
                yield await self._push(piece, start_s=start_s)
        yield await self._finish(EndCause.ASKED)

    def _pieces(self, passage: Passage) -> Iterator[tuple[Samples, float | None]]:
        """As much at once as the model may be given, and where it lies if it does not follow what was given before."""
        anew, self._anew = passage.opens or self._anew, False
        for at in range(0, len(passage.samples), self._step):
            start_s = passage.start / self._rate_hz if anew and at == 0 else None
            yield passage.samples[at : at + self._step], start_s

    def _is_silent(self, for_s: float | None) -> bool:
        return for_s is not None and self._ears.quiet >= for_s * self._rate_hz

    async def _push(self, samples: Samples, *, start_s: float | None) -> list[LiveEvent]:
        # A full queue costs the listener a step, not the session: the samples are with the stream.
        with suppress(OverloadedError):
            return self._news(await self._stream.push(samples, start_s=start_s))
        return []

    async def _finish(self, cause: EndCause) -> list[LiveEvent]:
        """Read all that was said, and end the utterance with it."""
        events = await self._flush()
        return [*(event for event in events if not isinstance(event, Partial)), *self._tracker.finish(cause)]

    async def _flush(self) -> list[LiveEvent]:
        if self._anew:
            # What the stream still holds is forgotten.
            return []
        while True:
            try:
                return self._news(await self._stream.flush())
            except OverloadedError as busy:
                await asyncio.sleep(busy.retry_after_s)

    def _news(self, hypothesis: Hypothesis | None) -> list[LiveEvent]:
        return (
            []
            if hypothesis is None
            else self._tracker.step(hypothesis, received_s=self._inbox.received / self._rate_hz)
        )
