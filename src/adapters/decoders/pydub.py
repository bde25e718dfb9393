"""Compressed recordings, decoded by pydub; for those who ask for it with ``AUDIO_DECODER=pydub``."""

import asyncio
import os
import re
import warnings
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing, asynccontextmanager
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from ...application.ports.audio_decoder import DecodedAudio
from ...application.ports.resampler import Resampler
from ...domain.audio import Samples
from ...domain.errors import (
    AudioTooLongError,
    DecoderUnavailableError,
    EmptyAudioError,
    InvalidRequestError,
    UndecodableAudioError,
    UploadTooLargeError,
)
from .rate_and_channels import RateAndChannels

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_STEP_FRAMES = 1 << 14
# Each entry: bytes, the place where they must stand, and ffmpeg's name of the one demuxer that may read the file.
# A playlist has no such start, and with a fixed demuxer nothing inside the file can make ffmpeg open another.
_SIGNATURES = (
    (b"ID3", 0, "mp3"),
    (b"fLaC", 0, "flac"),
    (b"OggS", 0, "ogg"),
    (b"\x1aE\xdf\xa3", 0, "matroska"),
    (b"WAVE", 8, "wav"),
    (b"AVI ", 8, "avi"),
    (b"AIFF", 8, "aiff"),
    (b"AIFC", 8, "aiff"),
    (b"ftyp", 4, "mp4"),
    (b"moov", 4, "mp4"),
    (b"mdat", 4, "mp4"),
    (b"caff", 0, "caf"),
    (b"#!AMR", 0, "amr"),
    (b"FLV\x01", 0, "flv"),
    (b".snd", 0, "au"),
    (b"0&\xb2u\x8ef\xcf\x11", 0, "asf"),
)


_SAMPLE_TYPES = {1: "i1", 2: "<i2", 4: "<i4"}


class PydubDecoder:
    """Decodes with pydub and its ffmpeg, in a thread, with the recording and all its samples in memory.

    pydub knows no streams: `source` is read whole before decoding starts, and pydub writes it and the result to
    temporary files, which it removes, and rounds the length to milliseconds. So nothing is decoded that has more
    than `max_bytes` or plays longer than `max_duration_s`. Leaving the context while pydub works waits until it is
    done, since it cannot be stopped. It takes the track that is marked as default and no other, gives no warnings, and
    its times leave out what presentation times add. It takes float samples in an extensible WAVE for integers: put `WaveDecoder`
    before it.
    """

    def __init__(
        self, executable: Path, resampler: Resampler, *, max_bytes: int = 100 << 20, max_duration_s: int = 3600
    ) -> None:
        self._executable = executable
        self._resampler = resampler
        self._max_bytes = max_bytes
        self._max_duration_s = max_duration_s
        self._segment_class, self._could_not_decode = _load_pydub(executable)

    @asynccontextmanager
    async def open(
        self, source: AsyncIterable[bytes], *, sample_rate_hz: int, track: int | None = None, separate: bool = False
    ) -> AsyncGenerator[DecodedAudio]:
        """Decode `source`; see the port.

        Raises:
            UploadTooLargeError: While iterating: `source` has more than `max_bytes`.
            AudioTooLongError: While iterating: the recording plays longer than `max_duration_s`.
        """
        async with aclosing(self._decode(source, sample_rate_hz, track, separate=separate)) as blocks:
            yield DecodedAudio(blocks)

    async def _decode(
        self, source: AsyncIterable[bytes], sample_rate_hz: int, track: int | None, *, separate: bool
    ) -> AsyncGenerator[Samples]:
        if track is not None:
            raise InvalidRequestError("track has no effect with pydub, which takes the default one.", param="track")
        data = bytearray()
        async for piece in source:
            data += piece
            if len(data) > self._max_bytes:
                raise UploadTooLargeError(limit_bytes=self._max_bytes)
        segment = await _in_thread(self._read, data)

        frames = _frames(segment)
        if len(frames) > self._max_duration_s * segment.frame_rate:
            raise AudioTooLongError(limit_s=self._max_duration_s, duration_s=len(frames) / segment.frame_rate)
        stream = RateAndChannels(
            self._resampler,
            channels=segment.channels,
            from_hz=segment.frame_rate,
            to_hz=sample_rate_hz,
            separate=separate,
        )
        empty, full_scale = True, np.float32(1 << (8 * segment.sample_width - 1))
        for start in range(0, len(frames), _STEP_FRAMES):
            step = frames[start : start + _STEP_FRAMES]
            last = start + _STEP_FRAMES >= len(frames)
            samples = stream.convert(step.astype(np.float32) / full_scale, last=last)
            if samples.size:
                empty = False
                yield samples
            await asyncio.sleep(0)
        if empty:
            raise EmptyAudioError("The recording contains no audio.")

    def _read(self, data: bytearray) -> "_Segment":
        if not data:
            raise EmptyAudioError("The recording is empty.")
        if (demuxer := _demuxer(data)) is None:
            raise UndecodableAudioError("The recording cannot be decoded: unknown format.")
        # Else pydub would leave its temporary files behind on finding out.
        if not os.access(self._executable, os.X_OK):
            raise DecoderUnavailableError("The audio decoder is missing.")
        try:
            # `from_file` would do without files, but needs ffprobe and cannot seek to the index of an mp4.
            segment = self._segment_class.from_file_using_temporary_files(
                BytesIO(data), format=demuxer, duration=self._max_duration_s + 1
            )
        except self._could_not_decode as error:
            raise _explain(str(error)) from None
        except OSError as error:
            raise DecoderUnavailableError("The audio decoder failed.") from error
        if segment.channels < 1 or segment.frame_rate < 1 or segment.sample_width not in _SAMPLE_TYPES:
            raise UndecodableAudioError("The recording cannot be decoded: its header is invalid.")
        return segment


class _Segment(Protocol):
    """The part of `pydub.AudioSegment` that we use; the library publishes no types."""

    channels: int
    frame_rate: int
    sample_width: int
    raw_data: bytes

    @classmethod
    def from_file_using_temporary_files(cls, file: BytesIO, format: str, *, duration: int) -> "_Segment": ...  # noqa: A002


def _load_pydub(executable: Path) -> tuple[type[_Segment], type[Exception]]:
    # pydub warns of its own escape sequences, of audioop, and of programs that are not on PATH: none is our concern.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydub = import_module("pydub")
    # A subclass, since the attribute of the original is shared by the whole process.
    segment_class = type("Segment", (pydub.AudioSegment,), {"converter": str(executable)})
    return cast("type[_Segment]", segment_class), cast("type[Exception]", pydub.exceptions.CouldntDecodeError)


async def _in_thread(read: Callable[[bytearray], _Segment], data: bytearray) -> _Segment:
    work = asyncio.ensure_future(asyncio.to_thread(read, data))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # The thread cannot be stopped, and it has a process and files to put away.
        await asyncio.wait({work})
        raise


def _demuxer(data: bytearray) -> str | None:
    for magic, place, demuxer in _SIGNATURES:
        if data.startswith(magic, place):
            return demuxer
    # MPEG audio without a tag: eleven set bits, then version and layer; layer 0 is AAC.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return "mp3" if data[1] & 0x06 else "aac"
    return None


def _explain(message: str) -> DecoderUnavailableError | UndecodableAudioError:
    _log.debug("pydub_could_not_decode", reason=message[-4096:])
    # pydub tells the exit status in its message only; a negative one is a signal.
    if re.search(r"error code: -\d", message):
        return DecoderUnavailableError("The audio decoder crashed.")
    return UndecodableAudioError("The recording cannot be decoded: it is damaged, or not the format that it starts as.")


def _frames(segment: _Segment) -> NDArray[np.signedinteger[Any]]:
    samples = np.frombuffer(segment.raw_data, _SAMPLE_TYPES[segment.sample_width])
    whole = len(samples) - len(samples) % segment.channels
    return samples[:whole].reshape(-1, segment.channels)
