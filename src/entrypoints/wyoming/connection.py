"""One Wyoming client: what it asks for, one after the other."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from wyoming.asr import Transcript
from wyoming.event import Event, async_write_event

from ...application.live_loop import LiveEnd
from ...application.service import Service
from ...domain.errors import ServiceError
from .audio import AudioFormat
from .codec import Ending, TranscribeRequest, WyomingCodec, error_event, pong, read_format, read_request
from .errors import ClientGoneError, UnexpectedError
from .framing import EventReader

_SEND_S = 30.0
"""How long a client may leave our events unread."""
_LINGER_S = 2.0
"""How long a refused client may go on sending: one that is cut off at once may lose the reason."""
_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Terms:
    """What every client gets.

    Attributes:
        silence_s: Silence that ends an utterance; ``None`` leaves that to the client.
        longest_audio_s: Longest audio of one request.
        longest_idle_s: A client that sends nothing for so long is disconnected.
    """

    silence_s: float | None
    longest_audio_s: float
    longest_idle_s: float


class Connection:
    """A client, until it leaves, is idle, or does what it may not."""

    def __init__(
        self,
        service: Service,
        terms: Terms,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        caller: str,
        info: Callable[[], Event],
    ) -> None:
        """Prepare; `serve` begins.

        Args:
            service: What it asks.
            terms: What it may do.
            reader: From the client.
            writer: To the client.
            caller: Its name for the quota.
            info: The answer to `describe`.
        """
        self._service = service
        self._terms = terms
        self._reader = reader
        self._writer = writer
        self._caller = caller
        self._info = info
        self._events = EventReader(reader)
        self._request = TranscribeRequest()
        self._told_early = False  # the transcript of audio that still comes

    async def serve(self) -> None:
        """Serve until the end, and close the connection."""
        try:
            await self._answer_all()
        except ServiceError as error:
            await self._refuse(error)
        except OSError:
            # It has left, or did not read what it was told.
            self._writer.transport.abort()
        except Exception:  # noqa: BLE001 - the outermost handler
            _log.exception("wyoming connection failed")
            await self._refuse(UnexpectedError())
        finally:
            await self._close()

    async def turn_away(self, error: ServiceError) -> None:
        """Tell the client that it comes at a bad time, and close the connection at once."""
        try:
            with suppress(OSError):
                await self._send(error_event(error))
        finally:
            await self._close()

    async def _refuse(self, error: ServiceError) -> None:
        """Tell the client, and let it read that before the connection is closed."""
        with suppress(OSError):
            await self._send(error_event(error))
            await self._linger()

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_LINGER_S):
                await self._writer.wait_closed()
        except OSError:
            self._writer.transport.abort()

    async def _linger(self) -> None:
        self._check_open()
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await self._reader.read(1 << 16):
                    pass

    async def _answer_all(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._terms.longest_idle_s):
                    event = await self._events.next()
            except TimeoutError:
                return
            if not await self._answer(event):
                return

    async def _answer(self, event: Event) -> bool:
        """Do what is asked for; False if nothing may follow."""
        match event.type:
            case "describe":
                await self._send(self._info())
            case "ping":
                await self._send(pong(event))
            case "transcribe":
                self._request = read_request(event)
            case "audio-start":
                self._told_early = False
                return await self._transcribe(read_format(event), first=None)
            case "audio-chunk" if not self._told_early:
                # Some clients leave audio-start out.
                return await self._transcribe(read_format(event), first=event)
            case "audio-stop":
                if not self._told_early:
                    await self._send(Transcript("").event())
                self._told_early = False
            case _:
                # The protocol grows, and asks servers to drop what they do not know.
                pass
        return True

    async def _transcribe(self, audio: AudioFormat, *, first: Event | None) -> bool:
        service, terms = self._service, self._terms
        options = self._request.options(
            service.stream_session.defaults, audio, silence_s=terms.silence_s, searches=self._searches
        )
        ending = Ending(by_itself=terms.silence_s is not None, longest_s=terms.longest_audio_s)
        codec = WyomingCodec(options, audio, ending, info=self._info)
        began = time.perf_counter()
        with service.drain.work():
            await service.quota.admit(self._caller)
            loop = service.live_loop(
                _Channel(self._events, codec, self._send, first),
                codec,
                caller=self._caller,
                longest_idle_s=terms.longest_idle_s,
            )
            code = "client_gone"
            try:
                end = await loop.run()
                code = end.code if isinstance(end, ServiceError) else end.name.lower()
                for event in codec.conclude():
                    await self._send(event)
            finally:
                _log.info(
                    "wyoming session",
                    code=code,
                    audio_s=round(loop.audio_s, 3),
                    utterances=loop.utterances,
                    duration_ms=round((time.perf_counter() - began) * 1000, 1),
                )
            if end is not LiveEnd.CLOSED:
                # The client may still speak: cut off at once, it could lose its transcript.
                await self._linger()
                return False
        self._request = TranscribeRequest()
        self._told_early = not codec.is_stopped
        return True

    @property
    def _searches(self) -> bool:
        try:
            return self._service.model.describe().searches
        except ServiceError:
            # The live loop meets it as well, and tells the client.
            return False

    async def _send(self, event: Event) -> None:
        self._check_open()
        async with asyncio.timeout(_SEND_S):
            await async_write_event(event, self._writer)

    def _check_open(self) -> None:
        # uvloop raises RuntimeError where asyncio's own transports drop what is written after the end.
        if self._writer.is_closing():
            raise ClientGoneError


class _Channel:
    """The connection, while the live loop has it."""

    def __init__(
        self,
        events: EventReader,
        codec: WyomingCodec,
        send: Callable[[Event], Awaitable[None]],
        first: Event | None,
    ) -> None:
        self._events = events
        self._codec = codec
        self._send = send
        self._first = first

    async def receive(self) -> Event:
        """See the port."""
        if self._codec.is_closed:
            await self._events.wait_gone()
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._events.next()

    async def send(self, message: Event) -> None:
        """See the port."""
        await self._send(message)
