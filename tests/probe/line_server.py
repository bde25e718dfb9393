"""Recordings and live audio over plain TCP: ``file BYTES`` and the bytes, or ``live`` and lines of base64 PCM."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from parakeet_service.application.live_codec import Close, Command, Failed, LoopEvent, Ready, SendAudio
from parakeet_service.application.service import Service
from parakeet_service.application.stream_session import LiveOptions
from parakeet_service.domain.errors import ServiceError
from parakeet_service.domain.live import Final


@asynccontextmanager
async def line_server(port: int, service: Service) -> AsyncGenerator[None]:
    async with await asyncio.start_server(partial(_serve, service), "127.0.0.1", port, limit=1 << 20):
        yield


async def _serve(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    caller = f"address {writer.get_extra_info('peername')[0]}"
    channel = LineChannel(reader, writer)
    try:
        with service.drain.work():
            request = (await channel.receive()).split()
            await service.quota.admit(caller)
            match request:
                case ["file", count]:
                    transcript = await service.transcribe_file(_recording(reader, int(count)), caller=caller)
                    await channel.send(transcript.text)
                case ["live"]:
                    await service.live_loop(channel, LineCodec(service.stream_session.defaults), caller=caller).run()
                case _:
                    await channel.send("error: file BYTES, or live")
    except ServiceError as error:
        await channel.send(f"error: {error.code}")
    finally:
        writer.close()


async def _recording(reader: asyncio.StreamReader, count: int) -> AsyncIterator[bytes]:
    while count and (piece := await reader.read(min(count, 1 << 16))):
        count -= len(piece)
        yield piece


@dataclass(frozen=True, slots=True)
class LineChannel:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def receive(self) -> str:
        return (await self.reader.readline()).decode()

    async def send(self, message: str) -> None:
        self.writer.write(f"{message}\n".encode())
        await self.writer.drain()


@dataclass(frozen=True, slots=True)
class LineCodec:
    options: LiveOptions

    def begin(self) -> LiveOptions:
        return self.options

    async def decode(self, message: str) -> Sequence[Command[str]]:
        return (SendAudio(base64.b64decode(message)),) if message.strip() else (Close(),)

    def encode(self, event: LoopEvent) -> Sequence[str]:
        if isinstance(event, Final) and event.words:
            return (event.text,)
        if isinstance(event, Failed):
            return (f"error: {event.error.code}",)
        return ("ready",) if isinstance(event, Ready) else ()
