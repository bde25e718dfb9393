"""The layers that a Conformer is made of, with a checkpoint's weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dense import Floats, Multiply, multiply_float32
from .graph import Graph
from .tensors import CheckpointTensors

SILU_LEAST = -0.2784645
"""The smallest value of x sigmoid(x)."""
_EPSILON = 1e-5
"""Of layer and batch normalisation, in MLX as in PyTorch."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Adds layers to a graph; each reads its own weights.

    Attributes:
        graph: Where to.
        tensors: The checkpoint's.
        multiply: How dense layers are multiplied.
    """

    graph: Graph
    tensors: CheckpointTensors
    multiply: Multiply = multiply_float32

    def dense(
        self, x: str, name: str, inputs: int, outputs: int, *, bias: bool, scale: float = 1, least: float | None = None
    ) -> str:
        """A linear layer, its output times `scale`; for `least` see `Multiply`."""
        weight = self.weight(name, inputs, outputs) * np.float32(scale)
        (product,) = self.multiply(self.graph, x, [weight], least=least)
        return self.add_bias(product, self.bias(name, outputs) * np.float32(scale)) if bias else product

    def weight(self, name: str, inputs: int, outputs: int, *between: int) -> Floats:
        """A linear layer's or a pointwise convolution's weight, shape ``(inputs, outputs)``."""
        return self.tensors.read(f"{name}.weight", outputs, *between, inputs).reshape(outputs, inputs).T

    def bias(self, name: str, outputs: int) -> Floats:
        """A layer's bias."""
        return self.tensors.read(f"{name}.bias", outputs)

    def add_bias(self, x: str, bias: Floats) -> str:
        """Add one number to each of the last axis."""
        return self.graph.add("Add", x, self.graph.constant(bias))

    def norm(self, x: str, name: str, width: int) -> str:
        """Layer normalisation."""
        scale = self.tensors.read(f"{name}.weight", width)
        constants = [self.graph.constant(array) for array in (scale, self.bias(name, width))]
        return self.graph.add("LayerNormalization", x, *constants, axis=-1, epsilon=_EPSILON)

    def silu(self, x: str) -> str:
        """The activation of feed-forward modules; ONNX Runtime fuses its two nodes."""
        return self.graph.add("Mul", x, self.graph.add("Sigmoid", x))

    def shaped(self, x: str, *shape: int) -> str:
        """Another shape; 0 keeps an axis, and -1 is whatever remains."""
        return self.graph.add("Reshape", x, self.graph.integers(*shape))

    def transposed(self, x: str, *order: int) -> str:
        """Axes in another order."""
        return self.graph.add("Transpose", x, perm=list(order))


def fold_norm(weight: Floats, bias: Floats | None, norm: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Fold batch normalisation into the convolution before it.

    Args:
        weight: Of the convolution, outputs first.
        bias: Of the convolution, if it has one.
        norm: Scale, shift, mean and variance of the normalisation, one number for each output.
    """
    scale, shift, mean, variance = norm
    factor = (scale / np.sqrt(variance + np.float32(_EPSILON))).astype(np.float32)
    folded = shift + ((bias if bias is not None else np.float32(0)) - mean) * factor
    return weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), folded.astype(np.float32)
