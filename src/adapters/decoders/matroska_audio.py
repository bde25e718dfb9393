"""Matroska with one track of 32-bit floats, as ffmpeg writes it: raw audio that says when it is to be heard.

Source: RFC 8794 (EBML) and RFC 9559 (Matroska).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...domain.audio import Samples
from ...domain.channels import check_channels
from ...domain.downmix import Downmix
from ...domain.errors import DecoderUnavailableError
from ...domain.presentation_times import PresentationTimes

_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _GROUP = 0x18538067, 0x1654AE6B, 0xAE, 0xE1, 0x1F43B675, 0xA0
_MASTERS = frozenset({_SEGMENT, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _GROUP})
"""What holds others that matter. Where it ends is often not known, and does not matter."""
_CHANNELS, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK = 0x9F, 0xE7, 0xA3, 0xA1
_LONGEST_BYTES = 1 << 28
_BLOCK_HEAD_BYTES = 4
"""The number of the track, the time after that of the cluster, flags."""
_TICKS_PER_S = 1000
_SAMPLE_BYTES = 4
_SILENCE = 1 << 16
"""Samples of silence in one piece: a hole may last an hour."""


class MatroskaAudioReader:
    """Turns the bytes of one file, split anywhere, into mono samples, with silence where the recording has none."""

    def __init__(self, *, sample_rate_hz: int, separate: bool = False) -> None:
        """Begin before the header; all audio has that rate. `separate` gives the shape ``(n, channels)``."""
        self._separate = separate
        self._rate_hz = sample_rate_hz
        self._times = PresentationTimes(sample_rate_hz=sample_rate_hz)
        self._rest = bytearray()
        self._is_known = False
        self._cluster_at = 0
        self._channels = 0
        self._downmix: Downmix | None = None

    def read(self, data: bytes) -> Iterator[Samples]:
        """Give the samples that are known with `data`; no bytes are the end, and give those that are left.

        Raises:
            DecoderUnavailableError: This is no such file: the program that writes it is not what it should be.
            InvalidRequestError: There are too many channels to keep them separate.
        """
        self._rest += data
        if not self._is_known:
            if not _MAGIC.startswith(self._rest[: len(_MAGIC)]):
                raise _unexpected()
            self._is_known = len(self._rest) >= len(_MAGIC)
        at = 0
        while (element := _element(self._rest, at)) is not None:
            at = element.end
            content = self._rest[element.begin : element.end]
            if element.kind == _CHANNELS:
                self._channels = int.from_bytes(content)
            elif element.kind == _TIMESTAMP:
                self._cluster_at = int.from_bytes(content)
            elif element.kind in (_SIMPLE_BLOCK, _BLOCK):
                yield from self._mixed(bytes(content))
        del self._rest[:at]
        if not data and self._downmix is not None and not self._separate:
            yield self._downmix.mix(np.zeros((0, self._channels), np.float32), last=True)

    def _mixed(self, block: bytes) -> Iterator[Samples]:
        if not self._channels:
            raise _unexpected()
        if self._downmix is None:
            if self._separate:
                check_channels(self._channels)
            self._downmix = Downmix(channels=self._channels, sample_rate_hz=self._rate_hz)
        ticks = self._cluster_at + int.from_bytes(block[1:3], signed=True)
        samples = _samples(block[_BLOCK_HEAD_BYTES:], self._channels)
        silence = self._times.silence_before(at=round(ticks * self._rate_hz / _TICKS_PER_S), length=len(samples))
        for done in range(0, silence, _SILENCE):
            piece = np.zeros((min(_SILENCE, silence - done), self._channels), np.float32)
            yield piece if self._separate else self._downmix.mix(piece, last=False)
        yield samples if self._separate else self._downmix.mix(samples, last=False)


class _Element(NamedTuple):
    """Where its content begins and ends; of what holds others, both are where the first of them begins."""

    kind: int
    begin: int
    end: int


def _element(data: bytearray, at: int) -> _Element | None:
    """What begins at `at`; ``None`` if it has not come as a whole."""
    kind = _variable(data, at, keep_marker=True)
    size = None if kind is None else _variable(data, kind.end, keep_marker=False)
    if kind is None or size is None:
        return None
    if kind.value in _MASTERS:
        return _Element(kind.value, size.end, size.end)
    if size.value > _LONGEST_BYTES:
        raise _unexpected()
    end = size.end + size.value
    return _Element(kind.value, size.end, end) if end <= len(data) else None


class _Variable(NamedTuple):
    value: int
    end: int


def _variable(data: bytearray, at: int, *, keep_marker: bool) -> _Variable | None:
    """A number whose leading zero bits say how many bytes it has; an identifier keeps the bit that ends them."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > 8:
        raise _unexpected()
    if at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length])
    return _Variable(value if keep_marker else value & ((1 << 7 * length) - 1), at + length)


def _samples(data: bytes, channels: int) -> NDArray[np.float32]:
    """Finite ones within full scale, shape ``(n, channels)``."""
    whole = len(data) - len(data) % (channels * _SAMPLE_BYTES)
    finite: NDArray[np.float32] = np.nan_to_num(
        np.frombuffer(data[:whole], "<f4").astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0
    )
    return np.clip(finite, -1.0, 1.0, out=finite).reshape(-1, channels)


def _unexpected() -> DecoderUnavailableError:
    return DecoderUnavailableError("ffmpeg wrote something other than the audio that it was asked for.")
