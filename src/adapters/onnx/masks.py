"""Which frames of a padded batch count."""

import numpy as np
from onnx import TensorProto

from .graph import Graph


def kept(graph: Graph, x: str, lengths: str, *, axis: int) -> str:
    """1 for frames that count and 0 for padding, shape ``(batch, frames)``, float32.

    Args:
        graph: Where to add it.
        x: What has the frames.
        lengths: How many of each item count, shape ``(batch,)``, int64.
        axis: That of the frames in `x`.
    """
    frames = graph.add("Squeeze", graph.add("Shape", x, start=axis, end=axis + 1))
    zero, one = graph.constant(np.array(0, np.int64)), graph.constant(np.array(1, np.int64))
    numbers = graph.add("Range", zero, frames, one)
    within = graph.add("Less", numbers, graph.add("Unsqueeze", lengths, graph.integers(1)))
    return graph.add("Cast", within, to=TensorProto.FLOAT)


def halved(graph: Graph, lengths: str) -> str:
    """Frames that a convolution with stride 2 and padding 1 makes of so many."""
    return graph.add("Div", graph.add("Add", lengths, graph.integers(1)), graph.integers(2))
