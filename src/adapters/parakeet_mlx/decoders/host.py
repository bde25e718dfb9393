"""Greedy decoding on a CPU, in numpy: a step is a few products of small matrices, and starting them is what costs.

MLX takes half a millisecond to put such a step together, numpy a twentieth of that; so for CPUs one utterance after
the other in numpy is many times faster than all of them at once in MLX.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx.nn.layers.activations import ReLU, Sigmoid, Tanh  # pyright: ignore[reportMissingTypeStubs]

from ..arrays import Floats, floats
from .transducer import Decoded, DecoderState, Emission, Stretch, Transducer, durations_of, most_repeats_of


@dataclass(frozen=True, slots=True)
class _Layer:
    """An LSTM layer: weights with the input's axis first, shape ``(width, 4 * width)``."""

    inputs: Floats
    hidden: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What the prediction network says after the tokens so far.

    Attributes:
        output: Projected for the joint network, shape ``(joint width,)``.
        hidden, cell: The LSTM's state, were the next token emitted.
    """

    output: Floats
    hidden: Floats
    cell: Floats


class HostDecoder:
    """See `TransducerDecoder`; computes in float32."""

    def __init__(self, model: Transducer) -> None:
        """Copy the decoder's and joint network's weights out of `model`."""
        self._blank = len(model.vocabulary)
        self._durations = durations_of(model)
        self._most_repeats = most_repeats_of(model)
        prediction, joint = model.decoder.prediction, model.joint
        self._layers = [
            _Layer(floats(layer.Wx.T), floats(layer.Wh.T), floats(layer.bias)) for layer in prediction["dec_rnn"].lstm
        ]
        # The first layer's input is an embedding: its product with the weights is as well looked up as the embedding.
        first = self._layers[0]
        self._embedded = floats(prediction["embed"].weight) @ first.inputs + first.bias
        if len(self._embedded) == self._blank:
            self._embedded = np.concatenate([self._embedded, first.bias[None]])
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        self._embedded[self._blank] = first.bias
        self._project = joint.enc
        self._pred, self._pred_bias = floats(joint.pred.weight.T), floats(joint.pred.bias)
        activation, *_, out = joint.joint_net
        self._activate = _ACTIVATIONS[type(activation)]
        self._out, self._out_bias = floats(out.weight.T), floats(out.bias)

    def decode(self, encoded: mx.array, stretches: Sequence[Stretch]) -> list[Decoded]:
        """See `TransducerDecoder`."""
        projected = floats(self._project(encoded))
        return [self._decode(frames, stretch) for frames, stretch in zip(projected, stretches, strict=True)]

    def _decode(self, frames: Floats, stretch: Stretch) -> Decoded:
        state = stretch.state
        time = stretch.begin + state.skip
        last, repeats, hidden, cell = state.last, state.repeats, state.hidden, state.cell
        prediction: _Prediction | None = None
        emissions: list[Emission] = []
        while time < stretch.end:
            if prediction is None:
                prediction = self._predict(last, hidden, cell)
            logits = self._activate(frames[time] + prediction.output) @ self._out + self._out_bias
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
        return Decoded(tuple(emissions), DecoderState(max(time - stretch.end, 0), last, repeats, hidden, cell))

    def _predict(self, last: int, hidden: Floats, cell: Floats) -> _Prediction:
        """One step of the prediction network."""
        hiddens, cells = np.empty_like(hidden), np.empty_like(cell)
        gates = self._embedded[last] + hidden[0] @ self._layers[0].hidden
        for index, layer in enumerate(self._layers):
            if index > 0:
                gates = hiddens[index - 1] @ layer.inputs + hidden[index] @ layer.hidden + layer.bias
            i, f, g, o = np.split(gates, 4)
            cells[index] = _sigmoid(f) * cell[index] + _sigmoid(i) * np.tanh(g)
            hiddens[index] = _sigmoid(o) * np.tanh(cells[index])
        return _Prediction(hiddens[-1] @ self._pred + self._pred_bias, hiddens, cells)


def _sigmoid(x: Floats) -> Floats:
    # By tanh: exp(-x) overflows for what a saturated gate holds.
    half: Floats = np.tanh(np.float32(0.5) * x)
    return np.float32(0.5) * (half + np.float32(1))


def _relu(x: Floats) -> Floats:
    return np.maximum(x, np.float32(0))


_ACTIVATIONS: dict[type, Callable[[Floats], Floats]] = {ReLU: _relu, Sigmoid: _sigmoid, Tanh: np.tanh}
