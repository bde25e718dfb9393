"""Greedy decoding on a CPU, in numpy.

One utterance after the other in numpy is many times faster than all of them at once in MLX: see `network`.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from ...inference.beam_search import Prediction
from ...inference.decoding import Decoded, DecodeRange, DecoderState, Emission
from ..arrays import Floats
from .network import HostNetwork
from .transducer import Transducer, durations_of, most_repeats_of


class HostDecoder:
    """See `TransducerDecoder`; computes in float32."""

    def __init__(self, model: Transducer, network: HostNetwork | None = None) -> None:
        """Copy the decoder's and joint network's weights out of `model`, unless `network` has them already."""
        self._network = network or HostNetwork(model)
        self._blank = self._network.blank
        self._durations = durations_of(model)
        self._most_repeats = most_repeats_of(model)

    def decode(self, encoded: mx.array, spans: Sequence[DecodeRange]) -> list[Decoded]:
        """See `TransducerDecoder`."""
        projected = self._network.project(encoded)
        return [self._decode(frames, span) for frames, span in zip(projected, spans, strict=True)]

    def _decode(self, frames: Floats, span: DecodeRange) -> Decoded:
        state = span.state
        time = span.begin + state.skip
        last, repeats, hidden, cell = state.last, state.repeats, state.hidden, state.cell
        prediction: Prediction | None = None
        emissions: list[Emission] = []
        while time < span.end:
            if prediction is None:
                prediction = self._network.predict(last, hidden, cell)
            logits = self._network.join(frames[time], prediction.output)
            scores = logits[: self._blank + 1]
            token = int(scores.argmax())
            if self._durations:
                lasts = self._durations[int(logits[self._blank + 1 :].argmax())]
            else:
                lasts = int(token == self._blank)
            if token != self._blank:
                probability = 1 / float(np.exp(scores - scores[token]).sum())
                emissions.append(Emission(token, time, lasts if self._durations else 1, probability))
                last, hidden, cell = token, prediction.hidden, prediction.cell
                prediction = None
            repeats = repeats + 1 if lasts == 0 else 0
            time += lasts
            if repeats >= self._most_repeats:
                time, repeats = time + 1, 0
        return Decoded(tuple(emissions), DecoderState(max(time - span.end, 0), last, repeats, hidden, cell))
