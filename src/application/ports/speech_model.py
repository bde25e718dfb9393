"""The port through which samples become tokens."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ...domain.audio import Samples
from ...domain.errors import InvalidRequestError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token

WIDEST_BEAM = 16
MOST_PHRASES = 500
LONGEST_PHRASE = 100
"""In characters."""
MOST_PHRASE_CHARACTERS = 10_000
"""Of all phrases together."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is loaded, and what it asks of its callers.

    Attributes:
        id: The name that the model was asked for by, such as a Hub id.
        architecture: The family member, such as ``"tdt"``.
        languages: ISO 639-1 codes of the languages that it writes.
        precision: Format of the weights, such as ``"bf16"``.
        compute: Format of the arithmetic, such as ``"float32"``.
        device: What runs it, such as ``"cpu"`` or ``"gpu (Metal)"``.
        blas: The matrix library behind a CPU device, else ``None``.
        sample_rate_hz: The rate of the samples it takes.
        max_window_s: The longest window that it reads well, in seconds.
        searches: Whether it can keep several readings and favour phrases: see `Decoding`.
        batch_size: Windows that it reads at once, at most.
        pause_s: A pause of this length in a recording is better left out than read.
        note: What a user must know before trusting the text, if anything.
        engine: What computes it, such as ``"onnx"``.
        workers_up: Workers of a cluster that take windows now; ``None`` without a cluster.
        workers_wanted: How many there should be, likewise.
    """

    id: str
    architecture: str
    languages: tuple[str, ...]
    precision: str
    compute: str
    device: str
    blas: str | None
    sample_rate_hz: int
    max_window_s: float
    searches: bool = False
    batch_size: int = 4
    pause_s: float = 0.8
    note: str | None = None
    engine: str | None = None
    workers_up: int | None = None
    workers_wanted: int | None = None


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a model chooses among the tokens that it holds possible; by default it takes the likeliest at each step.

    Anything else costs a multiple of the time, and only a model that `searches` takes it.

    Attributes:
        beam_size: How many readings are kept at each step, up to 16; 1 keeps the best, or, where there are phrases,
            leaves the number to the model.
        phrases: Words and phrases that are favoured where the audio allows them, such as names; the case of the
            first letters of words does not matter. Up to 500, of 100 characters each, 10 000 in all.

    Raises:
        InvalidRequestError: It is more than that.
    """

    beam_size: int = 1
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the limits: a search holds its device for as long as it is asked to."""
        if not 1 <= self.beam_size <= WIDEST_BEAM:
            raise InvalidRequestError(f"beam_size must be from 1 to {WIDEST_BEAM}, not {self.beam_size}.")
        if len(self.phrases) > MOST_PHRASES:
            raise InvalidRequestError(f"There may be at most {MOST_PHRASES} phrases.")
        if any(len(phrase) > LONGEST_PHRASE for phrase in self.phrases):
            raise InvalidRequestError(f"A phrase may have at most {LONGEST_PHRASE} characters.")
        if sum(map(len, self.phrases)) > MOST_PHRASE_CHARACTERS:
            raise InvalidRequestError(f"All phrases together may have at most {MOST_PHRASE_CHARACTERS} characters.")


GREEDY = Decoding()


@dataclass(frozen=True, slots=True)
class StreamContext:
    """How a live stream is cut into windows; all in seconds.

    Attributes:
        left_s: Settled audio that each window sees again.
        chunk_s: New audio per step: how often the draft is renewed.
        right_s: Audio that must follow a token before it is final.
    """

    left_s: float
    chunk_s: float
    right_s: float


class RecognitionStream(Protocol):
    """One live stream.

    While a `decode` waits for the model, another may be called: it gives its samples to the one that waits. A `flush`
    decodes them, too, and the `decode` that waited gives ``None``. The results count in the order of the calls.
    """

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """Take samples, and decode all of them that there are when the model has time for it.

        ``None`` if no chunk is complete, or something else decodes these samples.

        Args:
            samples: Any number of them, as long as they fit into the model's window together with a chunk and the
                right context.
            start_s: Where the first of them lies, if they do not follow those before them: these are forgotten, with
                whatever of them was not flushed, and times go on from here. By default the stream begins at 0.

        Raises:
            OverloadedError: The model's queue is full; the samples were taken.
            InferenceError: The model failed; the stream is of no further use.
        """
        ...

    async def flush(self) -> Hypothesis:
        """Decode all that was taken, as if nothing followed; afterwards there is no draft. More may follow.

        Raises:
            OverloadedError: The model's queue is full; nothing was decoded.
            InferenceError: The model failed; the stream is of no further use.
        """
        ...


class SpeechModel(Protocol):
    """A speech recogniser that owns its device, its threads and its queue."""

    async def start(self) -> None:
        """Fetch, load and warm up the model; takes from seconds to minutes, and is called once.

        Raises:
            ModelLoadError: It cannot be found, fetched or loaded.
        """
        ...

    async def aclose(self) -> None:
        """Free the model; what waits is cancelled."""
        ...

    def describe(self) -> ModelDescription:
        """Say what is loaded.

        Raises:
            ModelNotReadyError: It is still being loaded or warmed up.
            ModelLoadError: It could not be loaded.
        """
        ...

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """Read one window; times count from its first sample and are monotone.

        May be called concurrently, also for windows of one recording; on cancellation the window leaves the queue.

        Args:
            samples: Mono samples at the model's rate, at most `max_window_s` long; may be silent or a single sample.
            after_s: How much of the same recording lies before this window; who has been given little comes first.
            decoding: How to choose among tokens.

        Raises:
            InvalidRequestError: `decoding` asks for a search, and the model does not search.
            ModelNotReadyError: It is still being loaded.
            OverloadedError: Its queue is full.
            InferenceError: It failed; the next window may succeed.
        """
        ...

    def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AbstractAsyncContextManager[RecognitionStream]:
        """Begin a live stream, independent of all others; leaving the context frees it.

        Args:
            context: How it is cut into windows.
            decoding: How to choose among tokens.

        Raises:
            InvalidRequestError: `decoding` asks for a search, and the model does not search.
            ModelNotReadyError: It is still being loaded.
            TooManyStreamsError: It holds as many streams as it may.
        """
        ...
