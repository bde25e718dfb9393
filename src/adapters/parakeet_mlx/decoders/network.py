"""A transducer's prediction and joint networks in numpy, for decoders that run on a CPU.

A step is a few products of small matrices, and starting them is what costs: MLX takes half a millisecond to put such
a step together, numpy a twentieth of that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx.nn.layers.activations import ReLU, Sigmoid, Tanh  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from ...inference.beam_search import Prediction
from ..arrays import Floats, floats
from .transducer import Transducer


@dataclass(frozen=True, slots=True)
class _Layer:
    """An LSTM layer: weights with the input's axis first, shape ``(width, 4 * width)``."""

    inputs: Floats
    hidden: Floats
    bias: Floats


class HostNetwork:
    """Copies of the decoder's and joint network's weights; computes in float32."""

    def __init__(self, model: Transducer) -> None:
        """Copy the weights out of `model`."""
        self.blank = len(model.vocabulary)
        prediction, joint = model.decoder.prediction, model.joint
        self._layers = [
            _Layer(floats(layer.Wx.T), floats(layer.Wh.T), floats(layer.bias)) for layer in prediction["dec_rnn"].lstm
        ]
        # The first layer's input is an embedding: its product with the weights is as well looked up as the embedding.
        first = self._layers[0]
        self._embedded = floats(prediction["embed"].weight) @ first.inputs + first.bias
        if len(self._embedded) == self.blank:
            self._embedded = np.concatenate([self._embedded, first.bias[None]])
        # Before the first token the network sees zeros, whatever the blank's embedding holds.
        self._embedded[self.blank] = first.bias
        self._project = joint.enc
        self._pred, self._pred_bias = floats(joint.pred.weight.T), floats(joint.pred.bias)
        activation, *_, out = joint.joint_net
        self._activate = _ACTIVATIONS[type(activation)]
        self._out, self._out_bias = floats(out.weight.T), floats(out.bias)

    def project(self, encoded: mx.array) -> Floats:
        """The encoder's output as `join` takes it, shape ``(batch, frames, joint width)``; waits for the device."""
        return floats(self._project(encoded))

    def predict(self, last: int | NDArray[np.int64], hidden: Floats, cell: Floats) -> Prediction:
        """One step of the prediction network, for one reading or several.

        Args:
            last: The last token, or that of each reading; the blank at the beginning.
            hidden: LSTM output of every layer before `last`, shape ``(layers, [readings,] width)``.
            cell: LSTM cell, likewise.
        """
        hiddens, cells = np.empty_like(hidden), np.empty_like(cell)
        gates = self._embedded[last] + hidden[0] @ self._layers[0].hidden
        for index, layer in enumerate(self._layers):
            if index > 0:
                gates = hiddens[index - 1] @ layer.inputs + hidden[index] @ layer.hidden + layer.bias
            i, f, g, o = np.split(gates, 4, axis=-1)
            cells[index] = _sigmoid(f) * cell[index] + _sigmoid(i) * np.tanh(g)
            hiddens[index] = _sigmoid(o) * np.tanh(cells[index])
        return Prediction(hiddens[-1] @ self._pred + self._pred_bias, hiddens, cells)

    def join(self, frame: Floats, output: Floats) -> Floats:
        """Logits: tokens, the blank, durations.

        Args:
            frame: Projected frames, shape ``([readings,] joint width)``.
            output: What the prediction network says there, likewise.
        """
        logits: Floats = self._activate(frame + output) @ self._out + self._out_bias
        return logits


def _sigmoid(x: Floats) -> Floats:
    # By tanh: exp(-x) overflows for what a saturated gate holds.
    half: Floats = np.tanh(np.float32(0.5) * x)
    return np.float32(0.5) * (half + np.float32(1))


def _relu(x: Floats) -> Floats:
    return np.maximum(x, np.float32(0))


_ACTIVATIONS: dict[type, Callable[[Floats], Floats]] = {ReLU: _relu, Sigmoid: _sigmoid, Tanh: np.tanh}
