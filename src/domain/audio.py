"""Audio inside the service: mono float32 samples, full scale is [-1, 1]; and the raw encodings of live streams."""

from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
"""Mono samples, shape ``(n,)``, float32, full scale is [-1, 1]."""

NO_SAMPLES: Samples = np.zeros(0, dtype=np.float32)


_SILENCE_RMS = 2.0**-15
"""One step of 16 bits: what has been rounded to nothing, and the noise of doing so. Speech can be softer than any
other threshold: of a distant voice, or at a low gain."""


def is_silence(samples: Samples, sample_rate_hz: int) -> bool:
    """Whether nothing is to be heard: even the loudest tenth of a second varies less than 16 bits can tell."""
    frame = sample_rate_hz // 10
    return all(float(samples[i : i + frame].std()) < _SILENCE_RMS for i in range(0, len(samples), frame))


class Encoding(StrEnum):
    """How the samples of a live stream are written as bytes."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"

    @property
    def sample_bytes(self) -> int:
        """Bytes per sample."""
        return {"pcm_s16le": 2, "pcm_f32le": 4}.get(self.value, 1)


class PcmReader:
    """Turns raw bytes, split anywhere, into samples; keeps the bytes of a sample that is not whole yet."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._rest = b""

    @property
    def has_partial_sample(self) -> bool:
        """Whether the bytes so far end inside a sample."""
        return bool(self._rest)

    def read(self, data: bytes) -> Samples:
        """Give the whole samples of `data`; those that are not finite become silence, louder ones are clipped."""
        data = self._rest + data
        whole = len(data) - len(data) % self._encoding.sample_bytes
        self._rest = data[whole:]
        return _decode(data[:whole], self._encoding)


def _decode(data: bytes, encoding: Encoding) -> Samples:
    if encoding is Encoding.PCM_S16LE:
        scaled = np.frombuffer(data, "<i2").astype(np.float32)
        # In place, and exact: it is a power of two.
        scaled *= np.float32(1 / 32768)
        return scaled
    if encoding is Encoding.PCM_F32LE:
        samples: Samples = np.nan_to_num(np.frombuffer(data, "<f4"), nan=0.0, posinf=0.0, neginf=0.0)
        return np.clip(samples, -1.0, 1.0).astype(np.float32)
    return _TELEPHONE[encoding][np.frombuffer(data, np.uint8)]


def _mulaw_table() -> Samples:
    # Source: ITU-T G.711 (11/1988), table 2a: inverted bits, 3-bit exponent, 4-bit mantissa, bias 33 at 14 bits.
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = ((2.0 * mantissa + 33) * 2.0**exponent - 33) / 8192
    return np.where(code & 128, -magnitude, magnitude).astype(np.float32)


def _alaw_table() -> Samples:
    # Source: ITU-T G.711 (11/1988), table 1a: even bits inverted, 3-bit exponent, 4-bit mantissa, 13 bits.
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 15).astype(np.float64)
    magnitude = np.where(exponent == 0, 2 * mantissa + 1, (2 * mantissa + 33) * 2.0 ** (exponent - 1.0)) / 4096
    return np.where(code & 128, magnitude, -magnitude).astype(np.float32)


_TELEPHONE = {Encoding.MULAW: _mulaw_table(), Encoding.ALAW: _alaw_table()}
