"""Live text from the offline encoder: windows ``[left | chunk | right]`` with the decoder's state carried on."""

import numpy as np

from ...application.ports.speech_model import StreamContext
from ...domain.audio import NO_SAMPLES, Samples, is_silence
from ...domain.hypothesis import Hypothesis
from .engine import Engine
from .window import Reading, Window


class LiveWindows:
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
    def whole(self) -> Window:
        """One of the windows that it will give to be read, with silence in it."""
        end = self._full // self._frame
        settle = end - self._right
        samples = np.zeros(self._full, np.float32)
        return Window(samples, begin=self._left, settle=settle, end=end, state=self._start, full=self._full)

    def begin(self, start_s: float) -> None:
        """Forget everything; the next sample lies at `start_s`, and times and frames count from there."""
        self._start_s = start_s
        self._audio = NO_SAMPLES
        self._arrived: list[Samples] = []  # what comes after it
        self._first = 0  # frame at which `_audio` begins
        self._settled = 0  # frames decoded for good
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

    def step(self) -> Window | None:
        """What to read of that which has arrived; ``None`` if there is nothing to hear in it."""
        received = self._received
        return self._window(received, settle=max(received - self._right, self._settled), end=received)

    def flush(self) -> Window | None:
        """The same, all of it for good."""
        received = self._received
        if received <= self._settled and self._buffered % self._frame == 0:
            return None
        # The encoder gives one more frame, for the audio's very end; models like to put a full stop there.
        return self._window(received, settle=received + 1, end=received + 1)

    def accept(self, reading: Reading) -> Hypothesis:
        """Go on from what was read in the window that was given last."""
        self._settled = self._first + reading.settled
        # Only models that have a state are read live.
        self._state = reading.state or self._state
        return Hypothesis(
            finalized=reading.finalized,
            draft=reading.draft,
            finalized_until_s=self._at(self._settled),
            decoded_until_s=self._at(self._first + reading.decoded),
        )

    def nothing(self) -> Hypothesis:
        """What is known where there was nothing to hear."""
        return Hypothesis((), (), self._at(self._settled), self._at(self._received))

    def _at(self, frame: int) -> float:
        return self._start_s + frame * self._frame_s

    def _window(self, received: int, *, settle: int, end: int) -> Window | None:
        self._audio = np.concatenate([self._audio, *self._arrived])
        self._arrived.clear()
        # Who is behind reads more at once, and sees less of what lies before it.
        left = min(self._left, max(self._longest - (received - self._settled), 0))
        begin = max(min(self._settled, received) - left, self._first)
        self._audio = self._audio[(begin - self._first) * self._frame :]
        self._first = begin
        self._unseen = 0
        if len(self._audio) == 0 or end <= self._settled:
            return None
        whole = end > received
        samples = self._audio if whole else self._audio[: (received - begin) * self._frame]
        if is_silence(samples, self._rate_hz):
            self._settled = min(settle, received)
            return None
        return Window(
            samples,
            begin=self._settled - begin,
            settle=settle - begin,
            end=end - begin,
            state=self._state,
            first_frame=begin,
            start_s=self._start_s,
            full=self._full,
        )
