"""A `SpeechModel` that does not listen: it reads words from a script, at the pace of the audio.

For those who build a way in (a route, a protocol, a page) and want answers at once, always the same, without a model.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager

import structlog

from parakeet_service.application.ports.speech_model import (
    GREEDY,
    Decoding,
    ModelDescription,
    RecognitionStream,
    StreamContext,
)
from parakeet_service.domain.audio import Samples
from parakeet_service.domain.errors import ModelNotReadyError, TooManyStreamsError
from parakeet_service.domain.hypothesis import Hypothesis
from parakeet_service.domain.transcript import Token

_RATE_HZ = 16_000
_QUIET = 1e-3
"""A slot whose samples all lie below this level (-60 dB) is silence."""
_SPOKEN_PART = 0.75
_SCRIPT = (
    "This text comes from a script. Nobody listens to what you say, "
    "and yet the words keep the pace of your voice. They stop when you stop."
)


class ScriptedModel:
    """Says the next word of `script` for every stretch of audio that is not silent; begins again at its end.

    Time is cut into slots of ``1 / words_per_s`` seconds; the n-th slot has the n-th word of the script, which
    begins with the slot and ends at three quarters of it.
    """

    def __init__(
        self, *, script: str | Sequence[str] = _SCRIPT, words_per_s: float = 2.5, max_streams: int = 32
    ) -> None:
        """Prepare; `start` makes it ready."""
        self._script = tuple(script.split() if isinstance(script, str) else script)
        self._slot_s = 1 / words_per_s
        self._max_streams = max_streams
        self._ready = False
        self._open_streams = 0

    @property
    def open_streams(self) -> int:
        """Live streams that are open now."""
        return self._open_streams

    async def start(self) -> None:
        """Become ready, and say loudly what this is."""
        structlog.stdlib.get_logger(__name__).warning(
            "the scripted model is in use: it does not listen, its text is made up"
        )
        self._ready = True

    async def aclose(self) -> None:
        """Be unloaded again."""
        self._ready = False

    def describe(self) -> ModelDescription:
        """Say that this is no model."""
        self._demand_ready()
        return ModelDescription(
            id="scripted",
            architecture="script",
            languages=("en",),
            precision="none",
            compute="none",
            device="none",
            blas=None,
            sample_rate_hz=_RATE_HZ,
            max_window_s=120.0,
            note="A script, not a recogniser: the text has nothing to do with the audio.",
        )

    async def transcribe(
        self,
        samples: Samples,
        *,
        after_s: float = 0.0,  # noqa: ARG002 - the port has it
        decoding: Decoding = GREEDY,  # noqa: ARG002 - the port has it
    ) -> tuple[Token, ...]:
        """Give the words of the slots that are complete."""
        self._demand_ready()
        ear = _Ear(self._script, self._slot_s)
        return tuple(ear.hear(samples))

    @asynccontextmanager
    async def open_stream(
        self,
        context: StreamContext,
        *,
        decoding: Decoding = GREEDY,  # noqa: ARG002 - the port has it
    ) -> AsyncGenerator[RecognitionStream]:
        """Begin a stream at the script's first word."""
        self._demand_ready()
        if self._open_streams >= self._max_streams:
            raise TooManyStreamsError("Every live stream is taken.", retry_after_s=5.0)
        self._open_streams += 1
        try:
            yield _ScriptedStream(self._script, self._slot_s, context)
        finally:
            self._open_streams -= 1

    def _demand_ready(self) -> None:
        if not self._ready:
            raise ModelNotReadyError("The model has not been started.")


class _Ear:
    """Turns samples that come in pieces into the words of the slots that they fill."""

    def __init__(self, script: Sequence[str], slot_s: float) -> None:
        self._script = script
        self._slot_s = slot_s
        self._slot = 0
        self._taken = 0
        self._loud = False
        self._said = False

    @property
    def unheard_s(self) -> float:
        """No word to come begins before this time."""
        return (self._slot + self._said) * self._slot_s

    def hear(self, samples: Samples) -> Iterator[Token]:
        """Give a word as soon as its spoken part is complete."""
        while True:
            spoken = round((self._slot + _SPOKEN_PART) * self._slot_s * _RATE_HZ)
            end = round((self._slot + 1) * self._slot_s * _RATE_HZ)
            goal = end if self._said else spoken
            piece, samples = samples[: goal - self._taken], samples[goal - self._taken :]
            self._taken += len(piece)
            self._loud = self._loud or bool((abs(piece) > _QUIET).any())
            if self._taken < goal:
                return
            if self._said:
                self._slot, self._said, self._loud = self._slot + 1, False, False
                continue
            self._said = True
            if self._loud:
                yield self._token()

    def _token(self) -> Token:
        at = self._slot % len(self._script)
        begin_s = self._slot * self._slot_s
        return Token(at, " " + self._script[at], begin_s, begin_s + _SPOKEN_PART * self._slot_s, confidence=0.99)


class _ScriptedStream:
    def __init__(self, script: Sequence[str], slot_s: float, context: StreamContext) -> None:
        self._script = script
        self._slot_s = slot_s
        self._chunk = max(int(context.chunk_s * _RATE_HZ), 1)
        self._right_s = context.right_s
        self._begin(0.0)

    def _begin(self, start_s: float) -> None:
        self._start_s = start_s
        self._ear = _Ear(self._script, self._slot_s)
        self._received = self._decoded = 0
        self._draft: list[Token] = []

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        if start_s is not None:
            self._begin(start_s)
        self._received += len(samples)
        self._draft.extend(self._ear.hear(samples))
        if self._received - self._decoded < self._chunk:
            return None
        self._decoded = self._received
        return self._hypothesis(stable_until_s=self._decoded / _RATE_HZ - self._right_s)

    async def flush(self) -> Hypothesis:
        self._decoded = self._received
        return self._hypothesis(stable_until_s=self._decoded / _RATE_HZ)

    def _hypothesis(self, *, stable_until_s: float) -> Hypothesis:
        stable = [token for token in self._draft if token.end_s <= stable_until_s]
        self._draft = self._draft[len(stable) :]
        return Hypothesis(
            finalized=tuple(token.shifted(self._start_s) for token in stable),
            draft=tuple(token.shifted(self._start_s) for token in self._draft),
            finalized_until_s=self._start_s + (self._draft[0].start_s if self._draft else self._unheard_s()),
            decoded_until_s=self._start_s + self._decoded / _RATE_HZ,
        )

    def _unheard_s(self) -> float:
        return min(self._ear.unheard_s, self._decoded / _RATE_HZ)
