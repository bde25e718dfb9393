"""The audio of Wyoming clients: PCM of any rate, width and number of channels."""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ...domain.audio import Encoding, Samples


class AudioFormat(BaseModel):
    """What `audio-start` and each `audio-chunk` say of their samples."""

    model_config = ConfigDict(strict=True, frozen=True)

    rate: int
    width: Literal[1, 2, 3, 4]
    channels: Annotated[int, Field(ge=1, le=32)]

    @property
    def frame_bytes(self) -> int:
        """Of one sample of each channel."""
        return self.width * self.channels

    @property
    def encoding(self) -> Encoding:
        """What `MonoReader` makes of it."""
        return Encoding.PCM_S16LE if self.width == 2 and self.channels == 1 else Encoding.PCM_F32LE


class MonoReader:
    """Turns PCM, split anywhere, into one channel in the format's `encoding`."""

    def __init__(self, audio: AudioFormat) -> None:
        self._audio = audio
        self._rest = b""

    def read(self, data: bytes) -> bytes:
        """Average the channels of the whole frames, and keep the bytes of one that is not whole yet."""
        if self._audio.encoding is Encoding.PCM_S16LE:
            return data
        data = self._rest + data
        whole = len(data) - len(data) % self._audio.frame_bytes
        self._rest = data[whole:]
        samples = _to_samples(data[:whole], self._audio.width)
        mono: Samples = samples.reshape(-1, self._audio.channels).mean(axis=1, dtype=np.float32)
        return mono.tobytes()


def _to_samples(data: bytes, width: int) -> Samples:
    match width:
        case 1:
            # Signed, as the protocol's own converter takes it; only WAVE files have unsigned bytes.
            return np.frombuffer(data, np.int8).astype(np.float32) / np.float32(1 << 7)
        case 2:
            return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(1 << 15)
        case 3:
            # The three bytes become the upper ones of an int32, which brings the sign along.
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
        case _:
            return np.frombuffer(data, "<i4").astype(np.float32) / np.float32(1 << 31)
