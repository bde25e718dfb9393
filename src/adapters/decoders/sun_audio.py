"""Sun audio of 32-bit floats, as ffmpeg writes it: it tells how many channels there are, and may be of any length."""

import struct

import numpy as np
from numpy.typing import NDArray

from ...domain.audio import NO_SAMPLES, Samples
from ...domain.downmix import Downmix
from ...domain.errors import DecoderUnavailableError

_HEADER_BYTES = 24
_SAMPLE_BYTES = 4


class SunAudioReader:
    """Turns the bytes of one file, split anywhere, into mono samples."""

    def __init__(self) -> None:
        """Begin before the header."""
        self._rest: bytes = b""
        self._channels = 0
        self._downmix: Downmix | None = None

    def read(self, data: bytes) -> Samples:
        """Give the samples that are known with `data`; no bytes are the end, and give those that are left.

        Raises:
            DecoderUnavailableError: This is no Sun audio: the program that writes it is not what it should be.
        """
        last = not data
        data = self._rest + data
        if self._downmix is None:
            if len(data) < _HEADER_BYTES:
                self._rest = data
                return NO_SAMPLES
            header: tuple[bytes, int, int, int, int, int] = struct.unpack_from(">4s5I", data)
            magic, begin, _, _, rate_hz, self._channels = header
            if magic != b".snd" or not self._channels:
                raise DecoderUnavailableError("ffmpeg wrote something other than the audio that it was asked for.")
            if len(data) < begin:
                self._rest = data
                return NO_SAMPLES
            self._downmix = Downmix(channels=self._channels, sample_rate_hz=rate_hz)
            data = data[begin:]
        frame_bytes = self._channels * _SAMPLE_BYTES
        whole = len(data) - len(data) % frame_bytes
        self._rest = data[whole:]
        finite: NDArray[np.float32] = np.nan_to_num(
            np.frombuffer(data[:whole], ">f4").astype(np.float32), copy=False, nan=0.0, posinf=0.0, neginf=0.0
        )
        return self._downmix.mix(np.clip(finite, -1.0, 1.0, out=finite).reshape(-1, self._channels), last=last)
