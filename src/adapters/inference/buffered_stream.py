"""Live text from an offline encoder: jobs ``[left | hop | right]`` whose decoder state is carried on."""

import numpy as np

from ...application.ports.speech_model import GREEDY, Decoding, StreamContext
from ...domain.audio import NO_SAMPLES, Samples, is_silence
from ...domain.hypothesis import Hypothesis
from .decoding import DecoderState
from .engine import KnownEngine
from .jobs import DecodeResult, EncoderJob


class BufferedStream:
    """The audio and the decoder state of one stream: makes the next job, and takes its result.

    Each job encodes the last stretch of audio afresh with the offline encoder. Frames that have `right_s` of audio
    after them are decoded from the carried state and are final; those after them from a copy of it, as a draft. Jobs
    start on the encoder's grid, so that a frame means the same audio in each of them.

    Source: the buffered and stateful transducer inference of NVIDIA NeMo (Apache-2.0), the idea only.
    """

    def __init__(self, engine: KnownEngine, context: StreamContext, *, decoding: Decoding = GREEDY) -> None:
        """Begin before the first sample."""
        self._decoding = decoding
        self._rate_hz = engine.description.sample_rate_hz
        self._frame_s = engine.frame_s
        self._frame: int = round(engine.frame_s * self._rate_hz)  # samples
        self._hop = max(round(context.chunk_s * self._rate_hz), 1)  # samples
        self._left = round(context.left_s / engine.frame_s)  # frames
        self._right = round(context.right_s / engine.frame_s)  # frames
        self._longest = int(engine.description.max_window_s / engine.frame_s)  # frames
        self._full = (self._left + self._right) * self._frame + self._hop  # samples
        self.begin(0.0)

    @property
    def complete_job(self) -> EncoderJob:
        """A job as the stream makes them once left and right context are there; of silence."""
        end = self._full // self._frame
        samples = np.zeros(self._full, np.float32)
        return EncoderJob(samples, begin=self._left, finalized_until=end - self._right, end=end, full=self._full)

    def begin(self, start_s: float) -> None:
        """Forget everything; the next sample lies at `start_s`, and times and frames count from there."""
        self._start_s = start_s
        self._audio = NO_SAMPLES
        self._arrived: list[Samples] = []  # after `_audio`
        self._first = 0  # frame at which `_audio` begins
        self._finalized_until = 0  # frames decoded for good
        self._new = 0  # samples that arrived after the last job
        self._state: DecoderState | None = None  # at `_finalized_until`

    def append(self, samples: Samples) -> bool:
        """Add samples; tells whether a hop is complete."""
        self._arrived.append(samples)
        self._new += len(samples)
        return self._new >= self._hop

    @property
    def _received(self) -> int:
        """Whole frames that have arrived."""
        return self._first + self._buffered // self._frame

    @property
    def _buffered(self) -> int:
        """Samples that are kept."""
        return len(self._audio) + sum(map(len, self._arrived))

    def next_job(self) -> EncoderJob | None:
        """Decode what has arrived; ``None`` if all of it is silence."""
        received = self._received
        return self._job(received, finalized_until=max(received - self._right, self._finalized_until), end=received)

    def last_job(self) -> EncoderJob | None:
        """Decode what has arrived, all of it for good; ``None`` if there is nothing new, or only silence."""
        received = self._received
        if received <= self._finalized_until and self._buffered % self._frame == 0:
            return None
        # The encoder gives one more frame, for the audio's very end; models like to put a full stop there.
        return self._job(received, finalized_until=received + 1, end=received + 1)

    def accept(self, result: DecodeResult) -> Hypothesis:
        """Go on from the result of the job that was made last."""
        self._finalized_until = self._first + result.finalized_until
        self._state = result.state
        return Hypothesis(
            finalized=result.finalized,
            draft=result.draft,
            finalized_until_s=self._time(self._finalized_until),
            decoded_until_s=self._time(self._first + result.decoded_until),
        )

    def accept_silence(self) -> Hypothesis:
        """What is known where there was no job."""
        return Hypothesis((), (), self._time(self._finalized_until), self._time(self._received))

    def _time(self, frame: int) -> float:
        return self._start_s + frame * self._frame_s

    def _job(self, received: int, *, finalized_until: int, end: int) -> EncoderJob | None:
        self._audio = np.concatenate([self._audio, *self._arrived])
        self._arrived.clear()
        # A stream that is behind decodes more at once, and sees less of what lies before it.
        left = min(self._left, max(self._longest - (received - self._finalized_until), 0))
        begin = max(min(self._finalized_until, received) - left, self._first)
        self._audio = self._audio[(begin - self._first) * self._frame :]
        self._first = begin
        self._new = 0
        if len(self._audio) == 0 or end <= self._finalized_until:
            return None
        samples = self._audio if end > received else self._audio[: (received - begin) * self._frame]
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
            decoding=self._decoding,
        )
