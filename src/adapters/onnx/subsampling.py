"""The convolutions before a FastConformer's blocks: they halve the number of frames, three times as a rule."""

from dataclasses import dataclass

import numpy as np

from .architecture import EncoderArgs
from .dense import Floats
from .layers import Layers
from .masks import halved, kept

_HIDDEN = -1e30
"""Whatever is added to it, an activation makes 0 of it."""


@dataclass(frozen=True, slots=True)
class Subsampled:
    """Frames ``(batch, frames, width)``, and how many of each item count, shape ``(batch,)``."""

    x: str
    lengths: str


def subsample(layers: Layers, args: EncoderArgs, features: str, lengths: str) -> Subsampled:
    """Add the subsampling to a graph.

    Before each convolution that looks at neighbours, frames behind an item's end are set to zero: that is what lies
    behind the end of an item that is alone.

    Args:
        layers: Adds to the graph.
        args: The encoder's.
        features: Shape ``(batch, frames, mels)``.
        lengths: Frames of each item that count, shape ``(batch,)``, int64.
    """
    graph, channels, name = layers.graph, args.subsampling_conv_channels, "encoder.pre_encode"
    x = graph.add("Unsqueeze", features, graph.integers(1))  # (batch, channels, frames, mels)
    x = graph.add("Relu", _first(layers, f"{name}.conv.0", x, lengths, channels=channels))
    lengths = halved(graph, lengths)
    mels = (args.feat_in + 1) // 2
    for stage in range(1, args.stages):
        depthwise, pointwise = 3 * stage - 1, 3 * stage
        if stage > 1:
            x = graph.add("Mul", x, _keep(layers, x, lengths))
        weight = _kernel(layers, f"{name}.conv.{depthwise}", channels, 1, size=3)
        x = _convolved(layers, f"{name}.conv.{depthwise}", x, weight, stride=2, groups=channels)
        weight = _kernel(layers, f"{name}.conv.{pointwise}", channels, channels, size=1)
        x = graph.add("Relu", _convolved(layers, f"{name}.conv.{pointwise}", x, weight))
        lengths = halved(graph, lengths)
        mels = (mels + 1) // 2
    x = layers.shaped(layers.transposed(x, 0, 2, 1, 3), 0, 0, -1)
    x = layers.dense(x, f"{name}.out", channels * mels, args.d_model, bias=True, least=0.0)
    return Subsampled(x, lengths)


def _first(layers: Layers, name: str, x: str, lengths: str, *, channels: int) -> str:
    """The first convolution, which leaves nothing behind an item's end for the activation to pass on.

    Its output is the largest array of all, and to multiply it by a mask takes longer than to compute it. So it has a
    second input, which is hugely negative in frames that do not count, and which each output adds from its own place.
    """
    graph = layers.graph
    keep = _keep(layers, x, lengths)
    hidden = graph.add("Mul", graph.add("Sub", graph.floats(1), keep), graph.floats(_HIDDEN))
    x = graph.add("Concat", graph.add("Mul", x, keep), graph.add("Expand", hidden, graph.add("Shape", x)), axis=1)
    weight = np.zeros((channels, 2, 3, 3), np.float32)
    weight[:, :1] = _kernel(layers, name, channels, 1, size=3)
    weight[:, 1, 1, 1] = 1
    return _convolved(layers, name, x, weight, stride=2)


def _kernel(layers: Layers, name: str, channels: int, inputs: int, *, size: int) -> Floats:
    return layers.tensors.read(f"{name}.weight", channels, size, size, inputs).transpose(0, 3, 1, 2)


def _convolved(layers: Layers, name: str, x: str, weight: Floats, *, stride: int = 1, groups: int = 1) -> str:
    size = weight.shape[2]
    constants = [layers.graph.constant(array) for array in (weight, layers.bias(name, len(weight)))]
    side = size // 2
    return layers.graph.add("Conv", x, *constants, group=groups, strides=[stride] * 2, pads=[side] * 4)


def _keep(layers: Layers, x: str, lengths: str) -> str:
    """1 for frames that count, else 0; shape ``(batch, 1, frames, 1)``."""
    return layers.graph.add("Unsqueeze", kept(layers.graph, x, lengths, axis=2), layers.graph.integers(1, 3))
