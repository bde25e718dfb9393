"""Live text from the offline encoder: windows ``[left | chunk | right]`` with the decoder's state carried on."""

import numpy as np

from ...application.ports.speech_model import StreamContext
from ...domain.audio import NO_SAMPLES, Samples, is_silence
from ...domain.hypothesis import Hypothesis
from .engine import Engine


class LiveWindows:
    """One stream's audio and decoder state. Synchronous; belongs to the inference thread, but for `push`.

    Each step encodes the last stretch of audio afresh with the offline encoder. Frames that have `right_s` of
    audio behind them are decoded from the carried state and are final; those after them from a copy of it, as a
    draft. Windows start on the encoder's grid, so that a frame means the same audio in each of them.

    Source: the buffered and stateful transducer inference of NVIDIA NeMo (Apache-2.0), the idea only.
    """

    def __init__(self, engine: Engine, context: StreamContext) -> None:
        """Begin before the first sample."""
        self._engine = engine
        rate_hz = engine.description.sample_rate_hz
        self._frame: int = round(engine.frame_s * rate_hz)  # samples
        self._chunk = max(round(context.chunk_s * rate_hz), 1)  # samples
        self._left = round(context.left_s / engine.frame_s)  # frames
        self._right = round(context.right_s / engine.frame_s)  # frames
        self._audio = NO_SAMPLES
        self._arrived: list[Samples] = []  # what comes after it
        self._first = 0  # frame at which `_audio` begins
        self._settled = 0  # frames decoded for good
        self._unseen = 0  # samples that came after the last step
        self._state = engine.start

    def push(self, samples: Samples) -> bool:
        """Take samples; tells whether a chunk is complete."""
        self._arrived.append(samples)
        self._unseen += len(samples)
        return self._unseen >= self._chunk

    @property
    def kept_s(self) -> float:
        """Seconds of audio that are kept: after a step, those that it read."""
        return len(self._audio) / self._engine.description.sample_rate_hz

    @property
    def _received(self) -> int:
        """Whole frames that have arrived."""
        return self._first + self._buffered // self._frame

    @property
    def _buffered(self) -> int:
        """Samples that are kept."""
        return len(self._audio) + sum(map(len, self._arrived))

    def step(self) -> Hypothesis:
        """Decode what has arrived."""
        received = self._received
        return self._decode(received, settle=max(received - self._right, self._settled), end=received)

    def flush(self) -> Hypothesis:
        """Decode what has arrived, all of it for good."""
        received = self._received
        if received <= self._settled and self._buffered % self._frame == 0:
            return self._nothing(received)
        # The encoder gives one more frame, for the audio's very end; models like to put a full stop there.
        return self._decode(received, settle=received + 1, end=received + 1)

    def _decode(self, received: int, *, settle: int, end: int) -> Hypothesis:
        engine = self._engine
        self._audio = np.concatenate([self._audio, *self._arrived])
        self._arrived.clear()
        begin = max(min(self._settled, received) - self._left, 0)
        self._audio = self._audio[(begin - self._first) * self._frame :]
        self._first = begin
        self._unseen = 0
        if len(self._audio) == 0 or end <= self._settled:
            return self._nothing(received)
        whole = end > received
        samples = self._audio if whole else self._audio[: (received - begin) * self._frame]
        if is_silence(samples, engine.description.sample_rate_hz):
            self._settled = min(settle, received)
            return self._nothing(received)
        encoded = engine.encode(samples)
        end = min(end, begin + encoded.count)
        settle = min(settle, end)
        finalized, self._state = engine.decode(
            encoded, self._settled - begin, settle - begin, self._state, first_frame=begin
        )
        draft, _ = engine.decode(encoded, settle - begin, end - begin, self._state, first_frame=begin)
        self._settled = settle
        return Hypothesis(
            finalized=finalized,
            draft=draft,
            finalized_until_s=settle * engine.frame_s,
            decoded_until_s=end * engine.frame_s,
        )

    def _nothing(self, received: int) -> Hypothesis:
        return Hypothesis((), (), self._settled * self._engine.frame_s, received * self._engine.frame_s)
