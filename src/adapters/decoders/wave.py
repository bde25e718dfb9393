"""Plain WAVE recordings, read in this process; everything else goes to another decoder."""

import asyncio
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...application.ports.audio_decoder import AudioDecoder
from ...application.ports.resampler import Resampler
from ...domain.audio import NO_SAMPLES, Encoding, PcmReader, Samples
from ...domain.errors import EmptyAudioError

# Album art and broadcast chunks may stand before the samples; more than this is left to the fallback.
_MAX_HEADER_BYTES = 1 << 20
# 64 KiB are resampled in 0.1 to 0.5 ms, 5 ms at worst, and 256 KiB converted in as little: the event loop needs no help
# of a thread. What a step costs beside that is the same for few bytes as for many.
_RESAMPLED_BYTES = 1 << 16
_UNCHANGED_BYTES = 1 << 18
_MAX_FORMAT_BYTES = 1 << 12
_UNKNOWN_SIZES = frozenset({0, 0xFFFFFFFF})
# Below 4 kHz is no speech, and a block would grow too much on its way to the model's rate.
_RATES_HZ = range(4_000, 768_001)

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_READABLE = frozenset(
    {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64), (_ALAW, 8), (_MULAW, 8)}
)
# What follows the tag in the sub-format of an extensible header. Source: KSDATAFORMAT_SUBTYPE_*, Microsoft ksmedia.h.
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")


class WaveDecoder:
    """Reads RIFF/WAVE with integer, float, mu-law or A-law samples without a subprocess, any channels, any rate.

    A file that states no length (0 or 0xFFFFFFFF, as streaming writers do) is read to its end; one that is cut
    short gives the samples that are there. Whatever is not such a file, malformed headers included, is handed to
    `fallback` from its first byte on.
    """

    def __init__(self, resampler: Resampler, fallback: AudioDecoder) -> None:
        self._resampler = resampler
        self._fallback = fallback

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int
    ) -> AsyncGenerator[AsyncIterator[Samples]]:
        """Decode `source`; see the port."""
        async with aclosing(self._decode(_Intake(source), sample_rate_hz)) as blocks:
            yield blocks

    async def _decode(self, intake: "_Intake", sample_rate_hz: int) -> AsyncGenerator[Samples]:
        header = await _read_header(intake)
        if header is None:
            async with (
                aclosing(intake.everything()) as whole,
                self._fallback.open(whole, sample_rate_hz=sample_rate_hz) as blocks,
            ):
                async for block in blocks:
                    yield block
            return

        stream = self._resampler.open(from_hz=header.sample_rate_hz, to_hz=sample_rate_hz)
        most_bytes = _UNCHANGED_BYTES if header.sample_rate_hz == sample_rate_hz else _RESAMPLED_BYTES
        step_bytes = max(1, most_bytes // header.frame_bytes) * header.frame_bytes
        left_bytes, empty, last = header.data_bytes, True, False
        while not last:
            data = await intake.take_some(min(step_bytes, left_bytes), multiple_of=header.frame_bytes)
            left_bytes -= len(data)
            last = len(data) < header.frame_bytes or not left_bytes
            samples = stream.resample(header.to_mono(data), last=last)
            if samples.size:
                empty = False
                yield samples
            await asyncio.sleep(0)
        if empty:
            raise EmptyAudioError("The recording contains no audio.")


class _Intake:
    """The bytes of a source, which can be looked at before they are taken."""

    def __init__(self, source: AsyncIterable[bytes]) -> None:
        self._pieces = aiter(source)
        self.seen = bytearray()

    async def more(self) -> bool:
        """Add the next piece to what is seen; False at the end."""
        piece = await anext(self._pieces, None)
        if piece is None:
            return False
        self.seen += piece
        return True

    async def take(self, size_bytes: int) -> bytes:
        """Remove that many bytes from the front; fewer only at the end."""
        while len(self.seen) < size_bytes and await self.more():
            pass
        if size_bytes >= len(self.seen):
            # Nothing is copied twice.
            taken, self.seen = bytes(self.seen), bytearray()
        else:
            taken = bytes(self.seen[:size_bytes])
            del self.seen[:size_bytes]
        return taken

    async def take_some(self, most_bytes: int, *, multiple_of: int) -> bytes:
        """Remove what has come, which may still be spoken, in whole frames; fewer bytes than one only at the end."""
        while len(self.seen) < min(multiple_of, most_bytes) and await self.more():
            pass
        size_bytes = min(len(self.seen), most_bytes)
        return await self.take(size_bytes - size_bytes % multiple_of or size_bytes)

    async def everything(self) -> AsyncGenerator[bytes]:
        """Give what was seen so far and then the rest, as if nobody had looked."""
        seen, self.seen = bytes(self.seen), bytearray()
        yield seen
        async for piece in self._pieces:
            yield piece


@dataclass(frozen=True, slots=True)
class _Header:
    tag: int
    bits: int
    channels: int
    sample_rate_hz: int
    data_bytes: int = sys.maxsize

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8

    def to_mono(self, data: bytes) -> Samples:
        """Average the channels of the whole frames in `data`."""
        if not (whole := len(data) - len(data) % self.frame_bytes):
            return NO_SAMPLES
        samples = _to_samples(data[:whole], self.tag, self.bits)
        return samples if self.channels == 1 else samples.reshape(-1, self.channels).mean(axis=1, dtype=np.float32)


def _to_samples(data: bytes, tag: int, bits: int) -> Samples:
    match tag, bits:
        case (1, 8):
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
        case (1, 24):
            # The three bytes become the upper ones of an int32, which brings the sign along.
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.view("<i4")[:, 0].astype(np.float32) / 2147483648.0
        case (1, 32):
            return np.frombuffer(data, "<i4").astype(np.float32) / 2147483648.0
        case (3, 64):
            finite: NDArray[np.float64] = np.nan_to_num(np.frombuffer(data, "<f8"), nan=0.0, posinf=0.0, neginf=0.0)
            return np.clip(finite, -1.0, 1.0).astype(np.float32)
        case _:
            return PcmReader(_ENCODINGS[tag]).read(data)


_ENCODINGS = {
    _PCM: Encoding.PCM_S16LE,
    _FLOAT: Encoding.PCM_F32LE,
    _ALAW: Encoding.ALAW,
    _MULAW: Encoding.MULAW,
}


async def _read_header(intake: _Intake) -> _Header | None:
    """Take the header off `intake`; None, with nothing taken, where the bytes are no plain WAVE."""
    if not await _sees(intake, 12) or not _is_wave(intake.seen):
        return None
    header, position = None, 12
    while position <= _MAX_HEADER_BYTES and await _sees(intake, position + 8):
        name, size = struct.unpack_from("<4sI", intake.seen, position)
        position += 8
        if name == b"data":
            if header is not None:
                await intake.take(position)
            return header if header is None or size in _UNKNOWN_SIZES else replace(header, data_bytes=size)
        if name == b"fmt ":
            if size > _MAX_FORMAT_BYTES or not await _sees(intake, position + size):
                return None
            header = _parse_format(bytes(intake.seen[position : position + size]))
        position += size + size % 2
    return None


def _parse_format(chunk: bytes) -> _Header | None:
    if len(chunk) < 16:
        return None
    tag, channels, sample_rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and chunk[26:40] == _SUBFORMAT_TAIL:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    header = _Header(tag, bits, channels, sample_rate_hz)
    plain = (tag, bits) in _READABLE and sample_rate_hz in _RATES_HZ and channels and frame_bytes == header.frame_bytes
    return header if plain else None


def _is_wave(start: bytearray) -> bool:
    return start.startswith(b"RIFF") and start.startswith(b"WAVE", 8)


async def _sees(intake: _Intake, size_bytes: int) -> bool:
    while len(intake.seen) < size_bytes:
        if not await intake.more():
            return False
    return True
