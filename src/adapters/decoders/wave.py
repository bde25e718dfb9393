"""Plain WAVE recordings, read in this process; everything else goes to another decoder."""

import asyncio
import re
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...application.ports.audio_decoder import AudioDecoder, DecodedAudio
from ...application.ports.resampler import Resampler
from ...domain.audio import Encoding, PcmReader, Samples
from ...domain.errors import EmptyAudioError, InvalidRequestError, UndecodableAudioError
from ...domain.recording_warnings import RecordingWarning, UnderstatedLength
from .rate_and_channels import RateAndChannels

# Album art and broadcast chunks may stand before the samples; more than this is left to the fallback.
_MAX_HEADER_BYTES = 1 << 20
# 64 KiB are resampled in 0.1 to 0.5 ms, 5 ms at worst, and 256 KiB converted in as little: the event loop needs no help
# of a thread. What a step costs beside that is the same for few bytes as for many.
_RESAMPLED_BYTES = 1 << 16
_UNCHANGED_BYTES = 1 << 18
_MAX_FORMAT_BYTES = 1 << 12
# What may follow the samples: a name and a size that no four samples of sound look like.
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_][ -~]{3}")
_CHUNK_HEAD_BYTES = 8
_MAX_CHUNK_BYTES = 16 << 20
_UNKNOWN_SIZES = frozenset({0, 0xFFFFFFFF})
# Below 4 kHz is no speech, and a block would grow too much on its way to the model's rate.
_RATES_HZ = range(4_000, 768_001)
_LEAST_RATE_HZ = 1_000

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_READABLE = frozenset(
    {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64), (_ALAW, 8), (_MULAW, 8)}
)
# What follows the tag in the sub-format of an extensible header. Source: KSDATAFORMAT_SUBTYPE_*, Microsoft ksmedia.h.
_SUBFORMAT_TAIL = (0x0000, 0x0010, bytes.fromhex("800000aa00389b71"))


class WaveDecoder:
    """Reads WAVE with integer, float, mu-law or A-law samples without a subprocess, of either byte order, any rate.

    A file that states no length (0 or 0xFFFFFFFF, as streaming writers do) is read to its end, and so is one that
    states less than follows; one that is cut short gives the samples that are there. A further file behind the first
    is read, too. Whatever is not such a file, malformed headers included, is handed to `fallback` from its first byte
    on.
    """

    def __init__(self, resampler: Resampler, fallback: AudioDecoder) -> None:
        self._resampler = resampler
        self._fallback = fallback

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        """Decode `source`; see the port."""
        warnings: list[RecordingWarning] = []
        async with aclosing(
            self._decode(_Intake(source), sample_rate_hz, track, warnings, separate=separate)
        ) as blocks:
            yield DecodedAudio(blocks, warnings)

    async def _decode(
        self,
        intake: "_Intake",
        sample_rate_hz: int,
        track: int | None,
        warnings: list[RecordingWarning],
        *,
        separate: bool,
    ) -> AsyncGenerator[Samples]:
        header = await _read_header(intake)
        if header is None:
            async with (
                aclosing(intake.everything()) as whole,
                self._fallback.open(whole, sample_rate_hz=sample_rate_hz, track=track, separate=separate) as decoded,
            ):
                async for block in decoded.blocks:
                    yield block
            warnings += decoded.warnings
            return
        if track is not None and track > 1:
            raise InvalidRequestError("track must be 1: there is one audio track.", param="track")

        empty, channels = True, header.channels
        while header is not None:
            if separate and header.channels != channels:
                raise UndecodableAudioError("The recording has parts of different numbers of channels.")
            async with aclosing(self._samples(intake, header, sample_rate_hz, warnings, separate=separate)) as blocks:
                async for block in blocks:
                    empty = False
                    yield block
            header = await _read_header(intake)
        if empty:
            raise EmptyAudioError("The recording contains no audio.")

    async def _samples(
        self,
        intake: "_Intake",
        header: "_Header",
        sample_rate_hz: int,
        warnings: list[RecordingWarning],
        *,
        separate: bool,
    ) -> AsyncGenerator[Samples]:
        """The samples of one file; what follows them, and is no sample, is taken off `intake`."""
        stream = RateAndChannels(
            self._resampler,
            channels=header.channels,
            from_hz=header.sample_rate_hz,
            to_hz=sample_rate_hz,
            separate=separate,
        )
        most_bytes = _UNCHANGED_BYTES if header.sample_rate_hz == sample_rate_hz else _RESAMPLED_BYTES
        step_bytes = max(1, most_bytes // header.frame_bytes) * header.frame_bytes
        left_bytes, last = header.data_bytes, False
        while not last:
            if not left_bytes and await _goes_on(intake, odd=header.data_bytes % 2 == 1):
                warnings.append(UnderstatedLength(header.data_bytes / header.frame_bytes / header.sample_rate_hz))
                left_bytes = sys.maxsize
            data = await intake.take_some(min(step_bytes, left_bytes), multiple_of=header.frame_bytes)
            left_bytes -= len(data)
            last = len(data) < header.frame_bytes
            samples = stream.convert(header.to_frames(data), last=last)
            if samples.size:
                yield samples
            await asyncio.sleep(0)


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
    big_endian: bool = False

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.bits // 8

    def of(self, size_bytes: int) -> "_Header":
        """The same, where it states that so many bytes of samples follow."""
        whole = size_bytes - size_bytes % self.frame_bytes
        return self if size_bytes in _UNKNOWN_SIZES or not whole else replace(self, data_bytes=whole)

    def to_frames(self, data: bytes) -> NDArray[np.float32]:
        """The whole frames in `data`, shape ``(n, channels)``."""
        data = data[: len(data) - len(data) % self.frame_bytes]
        if self.big_endian:
            data = np.frombuffer(data, np.uint8).reshape(-1, self.bits // 8)[:, ::-1].tobytes()
        return _to_samples(data, self.tag, self.bits).reshape(-1, self.channels)


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
    order = ">" if intake.seen.startswith(b"RIFX") else "<"
    header, position = None, 12
    while position <= _MAX_HEADER_BYTES and await _sees(intake, position + 8):
        name, size = struct.unpack_from(f"{order}4sI", intake.seen, position)
        position += 8
        if name == b"data":
            if header is not None:
                await intake.take(position)
            return header if header is None else header.of(size)
        if name == b"fmt ":
            if size > _MAX_FORMAT_BYTES or not await _sees(intake, position + size):
                return None
            header = _parse_format(bytes(intake.seen[position : position + size]), order)
        position += size + size % 2
    return None


def _parse_format(chunk: bytes, order: str) -> _Header | None:
    if len(chunk) < 16:
        return None
    tag, channels, sample_rate_hz, _, frame_bytes, bits = struct.unpack_from(f"{order}HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 40:
        plain_tag, *tail = struct.unpack_from(f"{order}IHH8s", chunk, 24)
        tag = plain_tag if tuple(tail) == _SUBFORMAT_TAIL else tag
    if 0 < sample_rate_hz < _LEAST_RATE_HZ:
        # ffmpeg would make hours of samples of a few bytes.
        raise UndecodableAudioError(f"The recording has a sample rate of {sample_rate_hz} Hz: that is no speech.")
    header = _Header(tag, bits, channels, sample_rate_hz, big_endian=order == ">")
    plain = (tag, bits) in _READABLE and sample_rate_hz in _RATES_HZ and channels and frame_bytes == header.frame_bytes
    return header if plain else None


def _is_wave(start: bytearray) -> bool:
    return start.startswith((b"RIFF", b"RIFX")) and start.startswith(b"WAVE", 8)


async def _goes_on(intake: _Intake, *, odd: bool) -> bool:
    """Whether samples follow the stated ones; other chunks are taken off `intake`, and then a file may follow."""
    # A chunk of odd length has a byte of padding behind it, which some writers leave out.
    while await _sees(intake, _CHUNK_HEAD_BYTES):
        await _sees(intake, 13)
        begin = next((at for at in ((0, 1) if odd else (0,)) if _is_chunk(intake.seen[at:])), None)
        if begin is None:
            return True
        await intake.take(begin)
        if _is_wave(intake.seen):
            return False
        (size,) = struct.unpack_from("<I", intake.seen, 4)
        await intake.take(_CHUNK_HEAD_BYTES + size)
        odd = size % 2 == 1
    await intake.take(_CHUNK_HEAD_BYTES)
    return False


def _is_chunk(start: bytearray) -> bool:
    if len(start) < _CHUNK_HEAD_BYTES:
        return False
    name, size = struct.unpack_from("<4sI", start)
    return _is_wave(start) or (_CHUNK_NAME.fullmatch(name) is not None and size <= _MAX_CHUNK_BYTES)


async def _sees(intake: _Intake, size_bytes: int) -> bool:
    while len(intake.seen) < size_bytes:
        if not await intake.more():
            return False
    return True
