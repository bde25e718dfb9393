"""The graph from features to what the decoder takes: subsampling, Conformer blocks, and the projection behind them."""

import math

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture
from .conformer import Block, Shared
from .dense import Floats, Multiply
from .graph import Graph
from .layers import Layers
from .masks import kept
from .subsampling import subsample
from .tensors import CheckpointTensors

_HIDDEN = -1e30
"""What is added to the score of a frame that does not count: its share of the attention is exactly 0."""


def add_encoder(graph: Graph, architecture: Architecture, tensors: CheckpointTensors, multiply: Multiply) -> None:
    """Add the encoder to an empty graph.

    Inputs are ``features`` (``(batch, frames, mels)``, float32; anything finite behind an item's end), ``lengths``
    (frames of each item that count, ``(batch,)``, int64) and ``positions`` (see `relative_positions`). The output is
    ``encoded``, ``(batch, encoded frames, outputs)``: for a transducer the frames as its joint network takes them,
    for CTC the logits of the vocabulary and the blank.

    Args:
        graph: Has no nodes yet.
        architecture: The model's.
        tensors: Its weights.
        multiply: How dense layers are multiplied; the convolutions and the last projection are in float32.

    Raises:
        ModelLoadError: A tensor is missing, or is not what the architecture asks for.
    """
    args = architecture.encoder
    features = graph.input("features", np.float32, "batch", "frames", args.feat_in)
    lengths = graph.input("lengths", np.int64, "batch")
    positions = graph.input("positions", np.float32, "positions", args.d_model)
    outer, inner = Layers(graph, tensors), Layers(graph, tensors, multiply)
    subsampled = subsample(inner, args, features, lengths)
    x = graph.add("Mul", subsampled.x, graph.floats(math.sqrt(args.d_model))) if args.xscaling else subsampled.x
    keep = kept(graph, x, subsampled.lengths, axis=1)
    hidden = graph.add("Mul", graph.add("Sub", graph.floats(1), keep), graph.floats(_HIDDEN))
    shared = Shared(
        positions,
        keep=graph.add("Unsqueeze", keep, graph.integers(2)),
        bias=graph.add("Unsqueeze", hidden, graph.integers(1, 2)),
    )
    for number in range(args.n_layers):
        x = Block(inner, args, f"encoder.layers.{number}")(x, shared)
    if architecture.transducer is None:
        weight, bias, outputs = _ctc(outer, architecture)
    else:
        outputs = architecture.transducer.joint_width
        weight, bias = outer.weight("joint.enc", args.d_model, outputs), outer.bias("joint.enc", outputs)
    x = outer.add_bias(graph.add("MatMul", x, graph.constant(weight)), bias)
    graph.output(x, "encoded", np.float32, "batch", "encoded_frames", outputs)


def _ctc(layers: Layers, architecture: Architecture) -> tuple[Floats, Floats, int]:
    name, outputs = "decoder.decoder_layers.0", architecture.blank + 1
    return layers.weight(name, architecture.encoder.d_model, outputs, 1), layers.bias(name, outputs), outputs


def relative_positions(width: int, frames: int) -> NDArray[np.float32]:
    """The sinusoids of all distances between `frames` encoded frames, from the longest to its negative.

    Returns:
        Shape ``(2 * frames, width)``; the first row means nothing, and saves the graph a copy.
    """
    distances = np.arange(frames, -frames, -1, dtype=np.float32)[:, None]
    frequencies = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(10000.0) / width))
    table = np.empty((2 * frames, width), np.float32)
    table[:, 0::2] = np.sin(distances * frequencies)
    table[:, 1::2] = np.cos(distances * frequencies)
    return table
