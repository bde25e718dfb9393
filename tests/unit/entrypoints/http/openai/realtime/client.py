"""A client of `/v1/realtime` that needs no socket."""

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from tests.unit.entrypoints.world import LiveClient, Message, World

LOUD = 16000


def voice(seconds: float, *, level: int = LOUD, rate_hz: int = 24000) -> bytes:
    """So much of raw audio that the scripted model hears, or with `level=0` does not."""
    return np.full(round(seconds * rate_hz), level, "<i2").tobytes()


def silence(seconds: float, *, rate_hz: int = 24000) -> bytes:
    return voice(seconds, level=0, rate_hz=rate_hz)


class Speaker:
    """What a client does, and what it has heard, event by event."""

    def __init__(self, line: LiveClient) -> None:
        self.line = line
        self.heard: list[Message] = []

    async def hear(self) -> Message:
        message = await self.line.hear()
        assert message["event_id"].startswith("event_")
        self.heard.append(message)
        return message

    async def hear_until(self, kind: str) -> Message:
        """The next event of that kind; those before it are among `heard`."""
        while (message := await self.hear())["type"] != kind:
            pass
        return message

    async def hear_until_close(self) -> int:
        """The close code; what comes before it is among `heard`."""
        heard, code = await self.line.hear_until_close()
        self.heard += heard
        return code

    async def say(self, kind: str, **fields: Any) -> None:
        await self.line.say({"type": kind, **fields})

    async def append(self, audio: bytes) -> None:
        await self.say("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    async def speak(self, *parts: bytes) -> None:
        """In pieces of 50 ms, as most clients do, each when the last one was taken."""
        audio = b"".join(parts)
        for at in range(0, len(audio), 2400):
            await self.append(audio[at : at + 2400])
            await self.line.said()

    async def update(self, **audio_input: Any) -> Message:
        await self.say("session.update", session={"type": "transcription", "audio": {"input": audio_input}})
        updated: Message = (await self.hear_until("session.updated"))["session"]
        return updated

    async def error(self) -> Message:
        told: Message = (await self.hear_until("error"))["error"]
        return told

    def of(self, kind: str) -> list[Message]:
        """What was heard of that kind."""
        return [message for message in self.heard if message["type"].endswith(kind)]

    @property
    def kinds(self) -> list[str]:
        """What was heard, by the last part of its names, without deltas."""
        kinds = [
            message["type"].removeprefix("input_audio_buffer.").rpartition("transcription.")[2]
            for message in self.heard
        ]
        return [kind.removeprefix("conversation.") for kind in kinds if kind != "delta"]

    @property
    def transcripts(self) -> list[str]:
        return [message["transcript"] for message in self.of("completed")]


@asynccontextmanager
async def speaker(world: World, *, query: str = "intent=transcription", **more: Any) -> AsyncGenerator[Speaker]:
    """One that was let in and greeted."""
    async with world.live(path="/v1/realtime", query=query, **more) as line:
        await line.accepted()
        one = Speaker(line)
        await one.hear_until("session.created")
        yield one
