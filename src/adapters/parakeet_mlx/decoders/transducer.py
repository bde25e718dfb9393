"""What a greedy decoder of transducers (TDT and RNNT) takes and gives, whatever it runs on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from parakeet_mlx import ParakeetRNNT, ParakeetTDT

Transducer: TypeAlias = ParakeetTDT | ParakeetRNNT


@dataclass(frozen=True, slots=True)
class Emission:
    """A token as it left the joint network.

    Attributes:
        token: Index in the vocabulary.
        frame: Encoder frame at which it was emitted, counted from the window's first.
        frames: How many frames it takes; 0 is possible, and a plain transducer's takes 1.
        probability: That the model gave it.
    """

    token: int
    frame: int
    frames: int
    probability: float


@dataclass(frozen=True, slots=True)
class DecoderState:
    """Where one utterance's decoding stands between two stretches of frames.

    Attributes:
        skip: Frames of the next stretch that the last token's duration already covers.
        last: Last token; the blank at the beginning.
        repeats: Tokens emitted so far without moving on.
        hidden: LSTM output of every layer before `last`, shape ``(layers, width)``, float32.
        cell: LSTM cell, likewise.
    """

    skip: int
    last: int
    repeats: int
    hidden: NDArray[np.float32]
    cell: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames ``[begin, end)`` of one item of a batch, and the state from which to decode them."""

    begin: int
    end: int
    state: DecoderState


@dataclass(frozen=True, slots=True)
class Decoded:
    """The emissions of a stretch in order, and the state from which to go on at its end."""

    emissions: tuple[Emission, ...]
    state: DecoderState


class TransducerDecoder(Protocol):
    """Takes the likeliest token and duration at each step.

    From the same features it gives the tokens and times of parakeet-mlx's greedy decoder, which waits for the
    device several times a token and takes one utterance after the other. A plain transducer is the special
    case in which the blank moves on by one frame and a token by none.
    """

    def decode(self, encoded: mx.array, stretches: Sequence[Stretch]) -> list[Decoded]:
        """Decode a batch.

        Args:
            encoded: Encoder output, shape ``(batch, frames, width)``.
            stretches: For each item, which frames to decode and from where.
        """
        ...


def start_of(model: Transducer) -> DecoderState:
    """The state before the first frame."""
    layers = model.decoder.prediction["dec_rnn"].lstm
    zeros = np.zeros((len(layers), layers[0].Wh.shape[-1]), dtype=np.float32)
    return DecoderState(skip=0, last=len(model.vocabulary), repeats=0, hidden=zeros, cell=zeros)


def durations_of(model: Transducer) -> tuple[int, ...]:
    """Frames that each output of the duration head stands for; none for a plain transducer."""
    return tuple(model.durations) if isinstance(model, ParakeetTDT) else ()


def most_repeats_of(model: Transducer) -> int:
    """Tokens in one place after which decoding moves on.

    Upstream loops for ever on a checkpoint without a limit whose duration head says 0 again and again.
    """
    return model.max_symbols or 10
