"""``parakeet-service stream``: speaks to a running service, and shows the live text."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from ...application.ports.audio_decoder import AudioDecoder
from ...domain.audio import Encoding
from ...domain.errors import CallerError, ServiceError
from .context import CommandContext
from .exit_code import ExitCode
from .live_client import FRAME_S, LiveClient, LiveError, Message, at_pace, in_frames
from .screen import Screen

_BLOCK_BYTES = 1 << 16
_WAVE_HEAD_BYTES = 12


@dataclass(frozen=True, slots=True)
class RawAudio:
    """How mono samples without a header are written."""

    encoding: Encoding = Encoding.PCM_S16LE
    sample_rate_hz: int = 16_000

    @property
    def bytes_per_s(self) -> int:
        """What a second of them takes."""
        return self.encoding.sample_bytes * self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Speech:
    """What is to be said.

    Attributes:
        name: A recording in any format; ``-`` is standard input: a WAV file, or else raw.
        raw: How raw audio is written.
        fast: Say it as fast as the service takes it, not as fast as it was spoken.
    """

    name: str
    raw: RawAudio = RawAudio()
    fast: bool = False


class _UnreadableError(Exception):
    """The system does not give the recording; the message says why."""


async def stream(
    context: CommandContext,
    speech: Speech,
    connect: Callable[[], AbstractAsyncContextManager[LiveClient]],
    *,
    words: bool,
    as_json: bool,
) -> ExitCode:
    """Speak to a running service and show the live text; Control-C ends the speech, and what was said is still shown.

    Args:
        context: Gives the decoder of recordings.
        speech: The audio.
        connect: Begins a conversation.
        words: Show the words of each utterance with their times, a line each.
        as_json: Print every message as it comes, and nothing else.
    """
    try:
        raw, audio = await _open(speech, context.audio_decoder)
        async with aclosing(audio), connect() as client:
            await client.configure(encoding=raw.encoding, sample_rate=raw.sample_rate_hz, words=words)
            frames = in_frames(audio, frame_bytes=round(FRAME_S * raw.sample_rate_hz) * raw.encoding.sample_bytes)
            spoken = frames if speech.fast else at_pace(frames, bytes_per_s=raw.bytes_per_s)
            with nullcontext() if as_json else Screen() as screen:
                show = _print if screen is None else partial(screen.show, words=words)
                await _converse(client, spoken, show)
    except _UnreadableError as error:
        return _complain(f"{speech.name}: {error}", ExitCode.UNREADABLE)
    except CallerError as error:
        return _complain(f"{speech.name}: {error.message}", ExitCode.UNREADABLE)
    except ServiceError as error:
        return _complain(f"{speech.name}: {error.message}", ExitCode.FAULT)
    except LiveError as error:
        return _complain(str(error), ExitCode.FAULT)
    return ExitCode.DONE


async def _converse(client: LiveClient, audio: AsyncGenerator[bytes], show: Callable[[Message], None]) -> None:
    try:
        async with aclosing(client.converse(audio)) as messages:
            async for message in messages:
                show(message)
    except asyncio.CancelledError:
        # Control-C. A second one does not come here, but ends the program.
        await client.close()
        async for message in client.messages():
            show(message)
        raise


def _print(message: Message) -> None:
    print(json.dumps(message, ensure_ascii=False), flush=True)


async def _open(speech: Speech, decoder: Callable[[], AudioDecoder]) -> tuple[RawAudio, AsyncGenerator[bytes]]:
    """The audio, and how it is written.

    Raises:
        _UnreadableError: Now or later: the system does not give it.
        ServiceError: Likewise: it cannot be decoded.
    """
    source = _readable(_standard_input() if speech.name == "-" else _file(speech.name))
    head = b""
    while len(head) < _WAVE_HEAD_BYTES and (block := await anext(source, b"")):
        head += block
    whole = _after(head, source)
    if speech.name == "-" and not (head.startswith(b"RIFF") and head.startswith(b"WAVE", 8)):
        return speech.raw, whole
    return RawAudio(), _decoded(decoder(), whole)


async def _after(head: bytes, source: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(source):
        if head:
            yield head
        async for block in source:
            yield block


async def _decoded(decoder: AudioDecoder, source: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(source), decoder.open(source, sample_rate_hz=RawAudio().sample_rate_hz) as decoded:
        async for block in decoded.blocks:
            yield np.clip(np.rint(block * 32768), -32768, 32767).astype("<i2").tobytes()


async def _readable(blocks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(blocks):
            async for block in blocks:
                yield block
    except OSError as error:
        raise _UnreadableError(error.strerror or str(error)) from error


async def _file(name: str) -> AsyncGenerator[bytes]:
    with await asyncio.to_thread(open, name, "rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block


async def _standard_input() -> AsyncGenerator[bytes]:
    """Standard input as it comes: a microphone's next samples are not waited for."""
    descriptor = sys.stdin.fileno()
    mode = os.fstat(descriptor).st_mode
    # On Windows, event loops take no pipes but their own.
    if sys.platform == "win32" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        while block := await asyncio.to_thread(os.read, descriptor, _BLOCK_BYTES):
            yield block
        return
    # No thread, which would go on waiting after Control-C, and the program for it.
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(descriptor), "rb", buffering=0)
    )
    try:
        while block := await reader.read(_BLOCK_BYTES):
            yield block
    finally:
        transport.close()


def _complain(line: str, code: ExitCode) -> ExitCode:
    print(line, file=sys.stderr)
    return code
