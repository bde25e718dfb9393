"""What transducer decoders take and give, whatever they run on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .phrases import PhraseState


@dataclass(frozen=True, slots=True)
class Emission:
    """A token as it left the joint network.

    Attributes:
        token: Index in the vocabulary.
        frame: Encoder frame at which it was emitted, counted from the job's first.
        frames: Its duration in frames; 0 is possible, and a plain transducer's is 1.
        probability: As the model gave it, in [0, 1].
    """

    token: int
    frame: int
    frames: int
    probability: float


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """What a beam search knows of the reading that it goes on from, beside the network's state.

    Attributes:
        count: How many tokens it has.
        score: Logarithm of its likelihood, weighted, without the boost.
        boost: What favoured phrases have added.
        phrases: Where the booster stands; ``None`` where nothing is favoured.
    """

    count: int
    score: float
    boost: float
    phrases: PhraseState | None


@dataclass(frozen=True, slots=True)
class DecoderState:
    """The state of one utterance's decoding between two ranges of frames.

    Attributes:
        skip: Frames of the next range that the last token's duration already covers.
        last: Last token; the blank at the beginning.
        repeats: Tokens emitted so far without advancing a frame.
        hidden: LSTM output of every layer before `last`, shape ``(layers, width)``, float32.
        cell: LSTM cell, likewise.
        search: What beam search goes on from as well; ``None`` at the beginning, and in greedy decoding.
    """

    skip: int
    last: int
    repeats: int
    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]
    search: SearchProgress | None = None


@dataclass(frozen=True, slots=True)
class DecodeRange:
    """Frames ``[begin, end)`` of one item of a batch, and the state from which to decode them."""

    begin: int
    end: int
    state: DecoderState


@dataclass(frozen=True, slots=True)
class Decoded:
    """The emissions of a range in order, and the state at its end."""

    emissions: tuple[Emission, ...]
    state: DecoderState
