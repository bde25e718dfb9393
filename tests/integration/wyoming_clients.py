"""Wyoming clients: the official one, and what Home Assistant does with it."""

import asyncio
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient, AsyncTcpClient
from wyoming.event import Event

from tests.integration.processes import HANGS_S, SAMPLE

CHUNK_SAMPLES = 512


@dataclass(frozen=True)
class Pcm:
    """Raw audio and its format."""

    data: bytes
    rate: int = 16000
    width: int = 2
    channels: int = 1

    @property
    def start(self) -> Event:
        return AudioStart(self.rate, self.width, self.channels).event()

    def chunks(self) -> list[Event]:
        step = CHUNK_SAMPLES * self.width * self.channels
        pieces = [self.data[at : at + step] for at in range(0, len(self.data), step)]
        return [AudioChunk(self.rate, self.width, self.channels, piece).event() for piece in pieces]


def recording() -> Pcm:
    with wave.open(str(SAMPLE)) as file:
        return Pcm(file.readframes(file.getnframes()), file.getframerate())


def silence(seconds: float) -> Pcm:
    return Pcm(bytes(2 * round(16000 * seconds)))


def in_format(rate_factor: int, width: int, channels: int) -> Pcm:
    """The recording at a multiple of its rate, in wider or narrower samples, in so many channels."""
    samples = np.frombuffer(recording().data, "<i2").astype(np.int32)
    ratio = np.arange(len(samples) * rate_factor) / rate_factor
    samples = np.interp(ratio, np.arange(len(samples)), samples).astype(np.int32)
    frames = np.repeat(samples, channels)
    match width:
        case 1:
            data = (frames >> 8).astype(np.int8).tobytes()
        case 3:
            # 16 bits of value in 24.
            data = (frames << 8).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
        case 4:
            data = (frames << 16).astype("<i4").tobytes()
        case _:
            data = frames.astype("<i2").tobytes()
    return Pcm(data, 16000 * rate_factor, width, channels)


async def read(client: AsyncClient) -> Event:
    async with asyncio.timeout(HANGS_S):
        event = await client.read_event()
    assert event is not None, "the server has closed the connection"
    return event


async def read_until(client: AsyncClient, *kinds: str) -> list[Event]:
    events = [await read(client)]
    while events[-1].type not in kinds:
        events.append(await read(client))
    return events


async def send(client: AsyncClient, audio: Pcm, *, request: Transcribe | None = None, stop: bool = True) -> None:
    if request is not None:
        await client.write_event(request.event())
    for event in (audio.start, *audio.chunks()):
        await client.write_event(event)
    if stop:
        await client.write_event(AudioStop().event())


async def transcribe(client: AsyncClient, audio: Pcm, *, language: str | None = None) -> str:
    await send(client, audio, request=Transcribe(language=language))
    events = await read_until(client, "transcript-stop")
    return text_of(events)


def text_of(events: list[Event]) -> str:
    (transcript,) = [Transcript.from_event(event) for event in events if event.type == "transcript"]
    return transcript.text


async def in_real_time(audio: Pcm) -> AsyncIterator[bytes]:
    """A microphone, as Home Assistant hands it on."""
    step, loop = CHUNK_SAMPLES * 2, asyncio.get_running_loop()
    began = loop.time()
    for number, at in enumerate(range(0, len(audio.data), step)):
        await asyncio.sleep(max(began + number * CHUNK_SAMPLES / audio.rate - loop.time(), 0))
        yield audio.data[at : at + step]


async def as_home_assistant(host: str, port: int, stream: AsyncIterator[bytes]) -> tuple[str | None, float]:
    """The calls of Home Assistant's entity, one connection for one command; also how long the microphone was open."""
    loop = asyncio.get_running_loop()
    async with AsyncTcpClient(host, port) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(rate=16000, width=2, channels=1).event())
        began = loop.time()

        async def upload() -> None:
            async for piece in stream:
                await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=piece).event())
            await client.write_event(AudioStop().event())

        async def receive() -> str | None:
            while (event := await client.read_event()) is not None:
                if Transcript.is_type(event.type):
                    return Transcript.from_event(event).text
            return None

        uploading, receiving = asyncio.create_task(upload()), asyncio.create_task(receive())
        try:
            await asyncio.wait((uploading, receiving), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                uploading.result()
            return await receiving, loop.time() - began
        finally:
            for task in (uploading, receiving):
                task.cancel()
            await asyncio.gather(uploading, receiving, return_exceptions=True)
