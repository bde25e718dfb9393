"""The loop behind every live protocol: it reads what a client sends and writes the answers, from the first message to the last."""

import asyncio
import math
from enum import Enum, auto
from typing import Generic, NoReturn

from ..domain.encoded_audio import RawFormat
from ..domain.errors import CallerError, RateLimitError, ServiceError, SessionIdleError
from ..domain.live import Final, LiveEvent
from .audio_head import AudioHead
from .drain import Drain
from .live_channels import LiveChannels
from .live_codec import (
    Channel,
    Clear,
    Codec,
    Command,
    Configure,
    Configured,
    Failed,
    Finalize,
    KeepAlive,
    LoopEvent,
    Ready,
    Received,
    Reply,
    SendAudio,
    Sent,
)
from .ports.metrics import TranscriptionMetrics
from .ports.quota import Quota
from .run_unless import first_of
from .stream_session import LiveOptions, StreamSession

_LAST_FINAL_S = 1.0
"""How long the last final may take when there is no grace time, or none left."""
_SHORTEST_GAP_S = 2.5
"""A client that sends nothing for less may be one that sends in bursts: two seconds at once are usual."""


class LiveEnd(Enum):
    """Why a live session ended, if nothing failed."""

    CLOSED = auto()
    """The client asked for it."""
    DRAINED = auto()
    """The service is shutting down."""


class LiveLoop(Generic[Received, Sent]):
    """One client's live session.

    One task reads what the client sends, one writes the answers, and one ends the session when the service shuts
    down. The client has a place as soon as it is connected; transcription begins with its first message, which may
    say how.
    """

    def __init__(
        self,
        stream_session: StreamSession,
        drain: Drain,
        quota: Quota,
        metrics: TranscriptionMetrics,
        channel: Channel[Received, Sent],
        codec: Codec[Received, Sent],
        *,
        caller: str | None = None,
        longest_idle_s: float | None = None,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            stream_session: Transcribes the audio.
            drain: Tells when the service shuts down.
            quota: Is charged while audio arrives.
            metrics: Counts the audio, at the end.
            channel: The connection to the client.
            codec: The client's protocol.
            caller: Whom to charge, by the name that `quota` knows; ``None`` charges nobody.
            longest_idle_s: A client that sends nothing for so long loses its place.
        """
        self._stream_session = stream_session
        self._drain = drain
        self._quota = quota
        self._metrics = metrics
        self._channel = channel
        self._codec = codec
        self._caller = caller
        self._longest_idle_s = longest_idle_s
        self._heard = asyncio.Queue[LiveChannels]()  # of which events are still to be told
        self._channels: LiveChannels | None = None
        self._begun_s = 0.0  # where its audio begins in that of the session
        self._bytes = 0  # of its audio
        self._charged_s = 0
        self._closing = False
        self._gap_ends_s: float | None = None  # when an utterance ends, though no audio says so
        self._refusal: ServiceError | None = None
        self._commanding = asyncio.Lock()
        self._sending = asyncio.Lock()
        self.utterances = 0
        """Finals with words that were told."""
        self.end: LiveEnd | ServiceError | None = None
        """How it ended; ``None`` before that, and where the channel or a defect ended it."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio that have arrived."""
        return self._begun_s + (self._bytes / self._options.bytes_per_s if self._bytes else 0.0)

    @property
    def heard_s(self) -> float:
        """Seconds of audio of which all events were told but those of words."""
        return self._begun_s + (0.0 if self._channels is None else self._channels.heard_s)

    async def run(self) -> LiveEnd | ServiceError:
        """Serve the client until it is done, the service shuts down or something fails; tells how it ended.

        Raises:
            Exception: What `channel` raises, such as when the client is gone.
        """
        try:
            await self._converse()
            self.end = LiveEnd.DRAINED if self._drain.begun else LiveEnd.CLOSED
        except ServiceError as error:
            self.end = error
            await self._tell(Failed(error))
        finally:
            self._metrics.live_session_ended(audio_s=self.audio_s)
        return self.end

    async def _converse(self) -> None:
        self._use(self._codec.begin())
        async with self._stream_session.reserve(self._options) as self._slot:
            await self._tell(Ready(self))
            await first_of(self._write(), self._read(), self._leave(), self._stop())
        if self._refusal is not None:
            raise self._refusal

    async def _write(self) -> None:
        """Tell what is heard, until there is no more to say."""
        while True:
            channels = await self._heard.get()
            await channels.tell(self._hear)
            self._heard.task_done()
            if self._closing:
                return

    async def _hear(self, event: LiveEvent) -> None:
        self.utterances += isinstance(event, Final) and bool(event.words)
        await self._tell(event)

    async def _read(self) -> NoReturn:
        """Do what the client asks for; once the session is closing, only notice when the client leaves."""
        while True:
            try:
                message = await self._receive()
            except SessionIdleError as error:
                async with self._commanding:
                    await self._refuse(error)
                continue
            async with self._commanding:
                if not self._closing:
                    try:
                        await self._obey_all(message)
                    except CallerError as error:
                        await self._refuse(error)

    async def _receive(self) -> Received:
        """The next message; meanwhile a gap in the audio ends the utterance, and one in all messages the session.

        Raises:
            SessionIdleError: Nothing came for too long.
        """
        now = asyncio.get_running_loop().time
        idle_s = math.inf if self._closing or self._longest_idle_s is None else self._longest_idle_s
        idle_at_s = now() + idle_s
        while True:
            gap_at_s = math.inf if self._gap_ends_s is None or self._closing else self._gap_ends_s
            ends_s = min(idle_at_s, gap_at_s)
            limit = asyncio.timeout_at(None if ends_s == math.inf else ends_s)
            try:
                async with limit:
                    return await self._channel.receive()
            except TimeoutError:
                if not limit.expired():
                    raise
            if idle_at_s < gap_at_s:
                raise SessionIdleError(limit_s=idle_s)
            self._gap_ends_s = None
            async with self._commanding:
                if self._channels is not None and not self._closing:
                    await self._channels.pause()

    async def _leave(self) -> None:
        await self._drain.wait_begun()
        async with self._commanding:
            await self._close()
        # The writer ends the session.
        await asyncio.Event().wait()

    async def _stop(self) -> NoReturn:
        """End without what is still to be said, once there is no more time for it."""
        await self._drain.wait_over()
        await asyncio.sleep(_LAST_FINAL_S)
        raise self._drain.refusal()

    async def _obey_all(self, message: Received) -> None:
        for number, command in enumerate(await self._codec.decode(message)):
            if number:
                # One message may hold minutes of audio: others want their turn.
                await asyncio.sleep(0)
            await self._obey(command)
            if self._closing:
                return

    async def _obey(self, command: Command[Sent]) -> None:
        match command:
            case SendAudio(data):
                await self._take(data)
            case Finalize(channel):
                await (await self._open()).finalize(channel)
            case Clear():
                await (await self._open()).clear()
            case KeepAlive():
                await self._open()
            case Configure(options):
                await self._configure(options)
            case Reply(message):
                await self._send(message)
            case _:
                await self._close()

    async def _take(self, audio: bytes) -> None:
        arrived = self._bytes + len(audio)
        # Seconds are charged as they begin: many small pieces must not add up to more than they are.
        due_s = math.ceil(round(self._begun_s + arrived / self._options.bytes_per_s, 6)) - self._charged_s
        if due_s > 0 and self._caller is not None:
            self._charged_s += due_s
            try:
                await self._quota.charge(self._caller, due_s * self._options.channels)
            except RateLimitError as error:
                await self._refuse(error)
                return
        self._head.check(audio)
        self._bytes = arrived
        await (await self._open()).send(audio)
        silence_s = self._options.endpointing.silence_s
        if silence_s is not None:
            # Counted once all of it is taken: who is made to wait is not silent.
            self._gap_ends_s = asyncio.get_running_loop().time() + max(silence_s, _SHORTEST_GAP_S)

    async def _configure(self, options: LiveOptions) -> None:
        if self._channels is not None:
            await self._channels.close()
            await self._heard.join()
            self._channels = None
        self._begun_s, self._bytes = self.audio_s, 0
        self._gap_ends_s = None
        self._use(options)
        await self._open()
        await self._tell(Configured(self._begun_s))

    def _use(self, options: LiveOptions) -> None:
        self._options = options
        self._head = AudioHead(RawFormat(options.encoding, options.sample_rate_hz, options.channels))

    async def _open(self) -> LiveChannels:
        """What transcribes the audio that comes now."""
        if self._channels is None:
            transcribers = await self._slot.open(self._options)
            self._channels = LiveChannels(transcribers, sample_bytes=self._options.encoding.sample_bytes)
            self._heard.put_nowait(self._channels)
        return self._channels

    async def _refuse(self, error: ServiceError) -> None:
        """Take no more; what was said until now is still told."""
        if self._closing:
            return
        if self._channels is None:
            raise error
        self._refusal = error
        await self._close()

    async def _close(self) -> None:
        if not self._closing:
            self._closing = True
            await (await self._open()).close()

    async def _tell(self, event: LoopEvent) -> None:
        for message in self._codec.encode(event):
            await self._send(message)

    async def _send(self, message: Sent) -> None:
        async with self._sending:
            await self._channel.send(message)
