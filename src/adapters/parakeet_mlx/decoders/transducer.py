"""What a greedy decoder of transducers (TDT and RNNT) takes and gives, whatever it runs on."""

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import mlx.core as mx
import numpy as np
from parakeet_mlx import ParakeetRNNT, ParakeetTDT

from ...inference.decoding import Decoded, DecodeRange, DecoderState
from ..requirements import UnsupportedModelError, require_finite

Transducer: TypeAlias = ParakeetTDT | ParakeetRNNT


class TransducerDecoder(Protocol):
    """Takes the likeliest token and duration at each step.

    From the same features it gives the tokens and times of parakeet-mlx's greedy decoder, which waits for the
    device several times a token and takes one utterance after the other. A plain transducer is the special
    case in which the blank moves on by one frame and a token by none.
    """

    def decode(self, encoded: mx.array, spans: Sequence[DecodeRange]) -> list[Decoded]:
        """Decode a batch.

        Args:
            encoded: Encoder output, shape ``(batch, frames, width)``.
            spans: For each item, which frames to decode and from where.
        """
        ...


def require_usable_transducer(model: Transducer) -> None:
    """Check the decoder and the joint network.

    Raises:
        UnsupportedModelError: The weights are not finite, or do not fit the vocabulary, the durations or the limits.
    """
    require_finite("decoder", model.decoder)
    require_finite("joint network", model.joint)
    durations, limit = durations_of(model), model.max_symbols
    if any(duration < 0 for duration in durations):
        raise UnsupportedModelError(f"durations {list(durations)}")
    if limit is not None and not (isinstance(limit, int) and limit >= 0):
        raise UnsupportedModelError(f"max_symbols {limit!r}")
    wanted, outputs = len(model.vocabulary) + 1 + len(durations), model.joint.joint_net[-1].weight.shape[0]
    if outputs != wanted:
        raise UnsupportedModelError(f"a joint network with {outputs} outputs, not {wanted} as its vocabulary asks for")


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
