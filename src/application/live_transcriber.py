"""One speaker's live session: raw audio in, events out."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from enum import Enum, auto
from typing import Any

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


class _Pause(Enum):
    """What is known of the pause that the speaker makes."""

    SHORT = auto()
    """There is none, or it is too short to end even a finished sentence."""
    IN_SENTENCE = auto()
    """It is long enough, and no finished sentence stands before it; it is not looked at again."""
    AFTER_SENTENCE = auto()


class _Unread(Enum):
    """Where the unread speech begins."""

    FOLLOWS = auto()
    """Behind what the model has had."""
    JUMPS = auto()
    """Somewhere else: the model starts afresh there."""
    CLEARED = auto()
    """There is none, and what the model has had is forgotten."""


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
        hop_s: float,
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
        self._keeps_context = endpointing.keeps_context
        self._is_open = False  # the span of an utterance that is over
        self._tracker = UtteranceTracker(endpointing, doubt_s=segmenter.doubt_s)
        self._rate_hz = sample_rate_hz
        self._step = max(int(longest_step_s * sample_rate_hz), 1)
        self._queue = AudioQueue(
            hop=max(int(hop_s * sample_rate_hz), 1),
            longest=self._step,
            most=max(int(longest_backlog_s * sample_rate_hz), 1),
        )
        self._pause = _Pause.SHORT
        self._unread: list[Samples] = []  # for the model
        self._begins = _Unread.FOLLOWS
        self._start_s = 0.0  # of what is unread, if it jumps
        self._given_s = 0.0  # to the model
        self._decoded_s = 0.0  # by it
        self._drafting: asyncio.Task[Hypothesis | None] | None = None
        self._dequeuing: asyncio.Task[Samples | Control] | None = None

    @property
    def heard_s(self) -> float:
        """How much of the audio has been listened to."""
        return self._segmenter.received / self._rate_hz

    async def send(self, data: bytes) -> None:
        """Take raw audio in the session's encoding, split anywhere; waits while too much of it is unread."""
        await self._queue.enqueue(self._resampled.resample(self._reader.read(data)))

    async def finalize(self) -> None:
        """Ask for a `Final` of what was said so far, be it nothing; the session goes on."""
        await self._queue.enqueue(Control.FLUSH)

    async def pause(self) -> None:
        """Nothing has come for as long as a pause that ends an utterance: end the one that is open, if one is."""
        await self._queue.enqueue(Control.PAUSE)

    async def clear(self) -> None:
        """Forget what was said since the last `Final`: nothing is heard of it after `Cleared`, not even that it stopped."""
        await self._queue.enqueue(Control.CLEAR)

    async def close(self) -> None:
        """Ask for a `Final` of what was said since the last one, and for the end of the events."""
        await self._queue.enqueue(self._resampled.resample(NO_SAMPLES, last=True))
        await self._queue.enqueue(Control.CLOSE)

    async def events(self) -> AsyncGenerator[LiveEvent]:
        """What is heard, as soon as it is; ends after `close`.

        Raises:
            InferenceError: The model failed; the session is over.
        """
        try:
            while True:
                item = await self._next()
                async with aclosing(self._steps(item)) as steps:
                    async for news in steps:
                        for event in news:
                            yield event
                if item is Control.CLOSE:
                    return
        finally:
            await _cancelled(self._drafting, self._dequeuing)

    async def _next(self) -> Samples | Control | None:
        """What has come; ``None`` once there is a draft to be shown.

        While the model has no time for a draft, the listening goes on, as far as the model can read at once.
        """
        if self._dequeuing is None and self._drafting is None:
            # Nothing else is waited for: a task for each tenth of a second of audio would cost as much as all of the queue.
            return await self._queue.dequeue()
        if self._dequeuing is None and self._room > 0:
            self._dequeuing = asyncio.create_task(self._queue.dequeue())
        await asyncio.wait(
            [task for task in (self._drafting, self._dequeuing) if task is not None],
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._dequeuing is None or (self._drafting is not None and self._drafting.done()):
            return None
        dequeuing, self._dequeuing = self._dequeuing, None
        return dequeuing.result()

    def _steps(self, item: Samples | Control | None) -> AsyncGenerator[list[LiveEvent]]:
        if item is None:
            return self._show_draft()
        return self._obey(item) if isinstance(item, Control) else self._transcribe(item)

    async def _show_draft(self) -> AsyncGenerator[list[LiveEvent]]:
        yield await self._drafted()
        if self._tracker.paused:
            yield await self._finish(EndCause.SILENCE)

    async def _transcribe(self, samples: Samples) -> AsyncGenerator[list[LiveEvent]]:
        # However much came at once, pauses in it are found; the model reads all of it that no pause parts at once.
        for chunks in await self._segmenter.segment(samples):
            for chunk in chunks:
                if chunk.opens or (self._is_open and not self._is_silent(self._silence_s)):
                    self._is_open = False
                    yield self._tracker.begin(chunk.start / self._rate_hz)
                self._keep(chunk)
                # The model will have forgotten it when the utterance goes on; of one that is over it is read below.
                if chunk.closes and not (self._tracker.speaking and self._is_silent(self._silence_s)):
                    yield await self._flush()
            yield await self._look_for_sentence()
            is_over = self._pause is _Pause.AFTER_SENTENCE or self._is_silent(self._silence_s)
            if self._tracker.speaking and is_over:
                # Sent before the last words are decoded: a client that waits for its turn need not wait for the text.
                yield self._tracker.stop((self._segmenter.received - self._segmenter.silence) / self._rate_hz)
                self._is_open = self._keeps_context
                if not self._is_open:
                    # What is spoken next is another span.
                    self._segmenter.finish()
                yield await self._finish(EndCause.SILENCE)
        yield await self._read()
        if self._tracker.paused:
            yield await self._finish(EndCause.SILENCE)

    async def _look_for_sentence(self) -> list[LiveEvent]:
        """Once in a pause that would end a finished sentence, see whether there is one."""
        if not self._is_silent(self._complete_s):
            self._pause = _Pause.SHORT
        elif self._pause is _Pause.SHORT:
            self._pause = _Pause.IN_SENTENCE
            if self._tracker.speaking:
                events = await self._flush()
                if self._tracker.reads_complete:
                    self._pause = _Pause.AFTER_SENTENCE
                return events
        return []

    async def _obey(self, control: Control) -> AsyncGenerator[list[LiveEvent]]:
        if control is Control.CLEAR:
            await _cancelled(self._drafting)
            self._drafting = None
            self._segmenter.finish()
            self._tracker.clear()
            self._unread.clear()
            self._begins = _Unread.CLEARED
            yield [Cleared()]
            return
        if control is not Control.FLUSH:
            for chunk in self._segmenter.finish():
                self._keep(chunk)
        if control is Control.PAUSE:
            if not self._tracker.speaking:
                # Where no detector tells, the words do that wait for what follows them.
                yield await self._flush()
            if self._tracker.speaking:
                yield await self._finish(EndCause.SILENCE)
            return
        yield await self._finish(EndCause.ASKED)

    def _keep(self, chunk: SpeechChunk) -> None:
        if chunk.opens or self._begins is _Unread.CLEARED:
            self._begins, self._start_s = _Unread.JUMPS, chunk.start / self._rate_hz
        self._unread.append(chunk.samples)

    def _is_silent(self, for_s: float | None) -> bool:
        return for_s is not None and self._segmenter.silence >= for_s * self._rate_hz

    @property
    def _room(self) -> int:
        """How many samples the model may be given beside those that it has not decoded yet."""
        return self._step - round((self._given_s - self._decoded_s) * self._rate_hz)

    async def _read(self) -> list[LiveEvent]:
        """Give the model what was kept for it, as much at once as it may be given."""
        if not self._unread:
            return []
        samples = self._unread[0] if len(self._unread) == 1 else np.concatenate(self._unread)
        self._unread.clear()
        events: list[LiveEvent] = []
        for at in range(0, len(samples), self._step):
            events += await self._give(samples[at : at + self._step])
        return events

    async def _give(self, samples: Samples) -> list[LiveEvent]:
        events: list[LiveEvent] = []
        if self._drafting is not None and (self._drafting.done() or len(samples) > self._room):
            events += await self._drafted()
        start_s = None
        if self._begins is _Unread.JUMPS:
            start_s = self._given_s = self._decoded_s = self._start_s
        self._begins = _Unread.FOLLOWS
        self._given_s += len(samples) / self._rate_hz
        decoding = asyncio.create_task(self._stream.decode(samples, start_s=start_s))
        if self._drafting is None:
            self._drafting = decoding
            # A model that has time begins at once, and where no chunk is complete that is all.
            await asyncio.sleep(0)
            return events + await self._drafted() if decoding.done() else events
        # The draft that waits takes them along; or it is ready by now, and comes first.
        hypothesis = await decoding
        if hypothesis is not None:
            events += await self._drafted()
        return events + self._news(hypothesis)

    async def _drafted(self) -> list[LiveEvent]:
        """The news of the draft that the model was asked for, if there is one."""
        drafting, self._drafting = self._drafting, None
        # A full queue costs the listener a step, not the session: the samples are with the stream.
        with suppress(OverloadedError):
            return [] if drafting is None else self._news(await drafting)
        return []

    async def _finish(self, cause: EndCause) -> list[LiveEvent]:
        """Read all that was said, and end the utterance with it."""
        events = await self._flush()
        return [*(event for event in events if not isinstance(event, Partial)), *self._tracker.finish(cause)]

    async def _flush(self) -> list[LiveEvent]:
        if self._begins is _Unread.CLEARED:
            return []
        events = await self._read()
        hypothesis = await self._flushed()
        # A draft that was ready before comes before.
        return [*events, *await self._drafted(), *self._news(hypothesis)]

    async def _flushed(self) -> Hypothesis:
        while True:
            try:
                return await self._stream.flush()
            except OverloadedError as busy:
                await asyncio.sleep(busy.retry_after_s)

    def _news(self, hypothesis: Hypothesis | None) -> list[LiveEvent]:
        if hypothesis is None:
            return []
        self._decoded_s = hypothesis.decoded_until_s
        return self._tracker.step(hypothesis, received_s=self._queue.received / self._rate_hz)


async def _cancelled(*tasks: asyncio.Task[Any] | None) -> None:
    """End what nobody waits for any more."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
