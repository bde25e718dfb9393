"""Live text from the offline encoder: windows ``[left | chunk | right]`` with the decoder's state carried on."""

import numpy as np

from ...application.ports.speech_model import StreamContext
from ...domain.audio import NO_SAMPLES, Samples, is_silence
from ...domain.hypothesis import Hypothesis
from .engine import Engine
from .jobs import DecodeResult, EncoderJob


class BufferedStream:
    """One stream's audio and decoder state: says what to read next, and takes what was read.

    Each step encodes the last stretch of audio afresh with the offline encoder. Frames that have `right_s` of
    audio behind them are decoded from the carried state and are final; those after them from a copy of it, as a
    draft. Windows start on the encoder's grid, so that a frame means the same audio in each of them.

    Source: the buffered and stateful transducer inference of NVIDIA NeMo (Apache-2.0), the idea only.
    """

    def __init__(self, engine: Engine, context: StreamContext) -> None:
        """Begin before the first sample."""
        self._rate_hz = engine.description.sample_rate_hz
        self._frame_s = engine.frame_s
        self._frame: int = round(engine.frame_s * self._rate_hz)  # samples
        self._chunk = max(round(context.chunk_s * self._rate_hz), 1)  # samples
        self._left = round(context.left_s / engine.frame_s)  # frames
        self._right = round(context.right_s / engine.frame_s)  # frames
        self._longest = int(engine.description.max_window_s / engine.frame_s)  # frames
        self._full = (self._left + self._right) * self._frame + self._chunk  # samples
        self._start = engine.start
        self.begin(0.0)

    @property
    def whole(self) -> EncoderJob:
        """One of the windows that it will give to be read, with silence in it."""
        end = self._full // self._frame
        finalized_until = end - self._right
        samples = np.zeros(self._full, np.float32)
        return EncoderJob(
            samples, begin=self._left, finalized_until=finalized_until, end=end, state=self._start, full=self._full
        )

    def begin(self, start_s: float) -> None:
        """Forget everything; the next sample lies at `start_s`, and times and frames count from there."""
        self._start_s = start_s
        self._audio = NO_SAMPLES
        self._arrived: list[Samples] = []  # what comes after it
        self._first = 0  # frame at which `_audio` begins
        self._finalized_until = 0  # frames decoded for good
        self._unseen = 0  # samples that came after the last step
        self._state = self._start

    def push(self, samples: Samples) -> bool:
        """Take samples; tells whether a chunk is complete."""
        self._arrived.append(samples)
        self._unseen += len(samples)
        return self._unseen >= self._chunk

    @property
    def _received(self) -> int:
        """Whole frames that have arrived."""
        return self._first + self._buffered // self._frame

    @property
    def _buffered(self) -> int:
        """Samples that are kept."""
        return len(self._audio) + sum(map(len, self._arrived))

    def step(self) -> EncoderJob | None:
        """What to read of that which has arrived; ``None`` if there is nothing to hear in it."""
        received = self._received
        return self._window(received, finalized_until=max(received - self._right, self._finalized_until), end=received)

    def flush(self) -> EncoderJob | None:
        """The same, all of it for good."""
        received = self._received
        if received <= self._finalized_until and self._buffered % self._frame == 0:
            return None
        # The encoder gives one more frame, for the audio's very end; models like to put a full stop there.
        return self._window(received, finalized_until=received + 1, end=received + 1)

    def accept(self, result: DecodeResult) -> Hypothesis:
        """Go on from what was read in the window that was given last."""
        self._finalized_until = self._first + result.finalized_until
        # Only models that have a state are read live.
        self._state = result.state or self._state
        return Hypothesis(
            finalized=result.finalized,
            draft=result.draft,
            finalized_until_s=self._at(self._finalized_until),
            decoded_until_s=self._at(self._first + result.decoded_until),
        )

    def nothing(self) -> Hypothesis:
        """What is known where there was nothing to hear."""
        return Hypothesis((), (), self._at(self._finalized_until), self._at(self._received))

    def _at(self, frame: int) -> float:
        return self._start_s + frame * self._frame_s

    def _window(self, received: int, *, finalized_until: int, end: int) -> EncoderJob | None:
        self._audio = np.concatenate([self._audio, *self._arrived])
        self._arrived.clear()
        # Who is behind reads more at once, and sees less of what lies before it.
        left = min(self._left, max(self._longest - (received - self._finalized_until), 0))
        begin = max(min(self._finalized_until, received) - left, self._first)
        self._audio = self._audio[(begin - self._first) * self._frame :]
        self._first = begin
        self._unseen = 0
        if len(self._audio) == 0 or end <= self._finalized_until:
            return None
        whole = end > received
        samples = self._audio if whole else self._audio[: (received - begin) * self._frame]
        if is_silence(samples, self._rate_hz):
            self._finalized_until = min(finalized_until, received)
            return None
        return EncoderJob(
            samples,
            begin=self._finalized_until - begin,
            finalized_until=finalized_until - begin,
            end=end - begin,
            state=self._state,
            first_frame=begin,
            start_s=self._start_s,
            full=self._full,
        )
