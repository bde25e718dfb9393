"""Audio as Deepgram's clients send it: raw samples that the query describes, and WAVE."""

import struct
from dataclasses import dataclass

import numpy as np

from ....domain.audio import Encoding, PcmReader, Samples
from ....domain.errors import UndecodableAudioError

_UNKNOWN_SIZE = 0xFFFFFFFF
_WAVE_FORMATS = {
    (1, 16): Encoding.PCM_S16LE,
    (3, 32): Encoding.PCM_F32LE,
    (6, 8): Encoding.ALAW,
    (7, 8): Encoding.MULAW,
}
"""Format tag and bits per sample of what a live stream may have."""
_EXTENSIBLE = 0xFFFE
_LONGEST_HEAD_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class RawAudio:
    """What raw samples are: `channels` of them interleaved."""

    encoding: Encoding
    rate_hz: int
    channels: int

    @property
    def mixed(self) -> "RawAudio":
        """What `MixReader` makes of it."""
        return self if self.channels == 1 else RawAudio(Encoding.PCM_F32LE, self.rate_hz, 1)

    @property
    def wave_head(self) -> bytes:
        """What makes a WAVE file of samples that follow it, however many."""
        tag, bits = next(kind for kind, encoding in _WAVE_FORMATS.items() if encoding is self.encoding)
        frame = self.channels * bits // 8
        form = struct.pack("<HHIIHH", tag, self.channels, self.rate_hz, self.rate_hz * frame, frame, bits)
        return b"".join(
            (
                struct.pack("<4sI4s4sI", b"RIFF", _UNKNOWN_SIZE, b"WAVE", b"fmt ", len(form)),
                form,
                struct.pack("<4sI", b"data", _UNKNOWN_SIZE),
            )
        )


class FrameReader:
    """Gives the whole frames of raw samples that are split anywhere, all channels of them."""

    def __init__(self, audio: RawAudio) -> None:
        """Begin before the first sample."""
        self._audio = audio
        self._frame = audio.encoding.sample_bytes * audio.channels
        self._rest = b""

    def read(self, data: bytes) -> bytes:
        """Keep the bytes of a frame that is not whole yet."""
        data = self._rest + data
        whole = len(data) - len(data) % self._frame
        self._rest = data[whole:]
        return data[:whole]


class MixReader(FrameReader):
    """Makes one channel of them."""

    def read(self, data: bytes) -> bytes:
        """Average the channels of the whole frames."""
        frames = super().read(data)
        if self._audio.channels == 1:
            return frames
        samples = PcmReader(self._audio.encoding).read(frames)
        mono: Samples = samples.reshape(-1, self._audio.channels).mean(axis=1, dtype=np.float32)
        return mono.tobytes()


class WaveHead:
    """Reads the head of a live stream that is WAVE: its bytes come split anywhere."""

    def __init__(self) -> None:
        """Begin before the first byte."""
        self._bytes = b""

    def read(self, data: bytes) -> tuple[RawAudio, bytes] | None:
        """What the samples are, and the first bytes of them; ``None`` until that is known.

        Raises:
            UndecodableAudioError: It is no WAVE file, or has samples that a live stream cannot have.
        """
        self._bytes += data
        head = self._bytes
        if not head[:4] == b"RIFF"[: len(head[:4])] or not head[8:12] == b"WAVE"[: len(head[8:12])]:
            raise UndecodableAudioError(
                "Live audio without `encoding` must be a WAVE file; for raw samples, say encoding and sample_rate."
            )
        at, audio = 12, None
        while at + 8 <= len(head):
            name, size = struct.unpack_from("<4sI", head, at)
            at += 8
            if name == b"data":
                if audio is None:
                    raise UndecodableAudioError("The WAVE file does not say what its samples are.")
                return audio, head[at:]
            if name == b"fmt " and at + min(size, 26) <= len(head):
                audio = _format(head[at : at + size])
            at += size + size % 2
        if len(head) > _LONGEST_HEAD_BYTES or at > _LONGEST_HEAD_BYTES:
            raise UndecodableAudioError("The WAVE file has no samples in its first 64 KiB.")
        return None


def _format(chunk: bytes) -> RawAudio:
    if len(chunk) < 16:
        raise UndecodableAudioError("The WAVE file is damaged.")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    encoding = _WAVE_FORMATS.get((tag, bits))
    if encoding is None or not 1 <= channels <= 32 or not 8000 <= rate_hz <= 192_000:
        raise UndecodableAudioError(
            f"A live WAVE file may have samples of 16 bits, 32-bit floats, mu-law or A-law; this one has format {tag} "
            f"with {bits} bits, {channels} channels and {rate_hz} Hz."
        )
    return RawAudio(encoding, rate_hz, channels)
