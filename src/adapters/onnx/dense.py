"""Products of activations and weights, in float32 or in int8: nine tenths of a model's arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from onnx.numpy_helper import from_array

from .graph import CONTRIB, Graph

Floats = NDArray[np.float32]

_TINY = 1e-30
"""Keeps the scale of a row of zeros from being 0."""


class Multiply(Protocol):
    """Adds to a graph what multiplies the same activations by one or more weights."""

    def __call__(self, graph: Graph, x: str, weights: Sequence[Floats], *, least: float | None = None) -> list[str]:
        """Append the products.

        Args:
            graph: Where to.
            x: Activations, shape ``(..., inputs)``.
            weights: Each of shape ``(inputs, outputs)``.
            least: The smallest value that an activation can have, if there is one close to 0.

        Returns:
            For each of the weights the product, shape ``(..., outputs)``.
        """
        ...


def multiply_float32(graph: Graph, x: str, weights: Sequence[Floats], *, least: float | None = None) -> list[str]:
    """See `Multiply`."""
    del least
    return [graph.add("MatMul", x, graph.constant(weight)) for weight in weights]


@dataclass(frozen=True, slots=True)
class MultiplyInt8:
    """See `Multiply`: weights are int8 with a scale per output, activations uint8 with a scale per row.

    A row is one frame of one item of a batch. ONNX Runtime's own dynamic quantisation has one scale for the whole
    tensor instead, so that the text of a quiet window depends on the windows that share its batch.

    Activations that may be of either sign are rounded to steps on both sides of 0. Where there is a least value, that is
    the lowest step, so that none is lost: for what comes out of a SiLU this halves the error.

    Attributes:
        top: The highest step, 255; or 127 for CPUs on which sums of two products saturate, see `saturates`.
    """

    top: int = 255

    def __call__(self, graph: Graph, x: str, weights: Sequence[Floats], *, least: float | None = None) -> list[str]:
        """See `Multiply`."""
        rows = quantize_rows(graph, x, len(weights[0]), top=self.top, least=least)
        products: list[str] = []
        for weight in weights:
            rounded, scales = quantize(weight)
            product = graph.add("Mul", multiply_rounded(graph, rows.values, rows.zero, rounded, scales), rows.scale)
            if least:
                lowest = np.float32(least) * rounded.sum(axis=0, dtype=np.int64) * scales
                product = graph.add("Add", product, graph.constant(lowest.astype(np.float32)))
            products.append(product)
        return products


@dataclass(frozen=True, slots=True)
class Rows:
    """Rounded activations: they are ``scale * (values - zero)``, and `least` more if there is one.

    Attributes:
        values: Shape ``(..., inputs)``, uint8.
        scale: Shape ``(..., 1)``.
        zero: What stands for 0, or for `least`.
    """

    values: str
    scale: str
    zero: int


def quantize_rows(graph: Graph, x: str, inputs: int, *, top: int, least: float | None) -> Rows:
    """Round each row of activations by itself, see `MultiplyInt8`."""
    if least is None:
        steps, zero = top // 2, top // 2 + 1
        ends = [graph.add(f"Reduce{end}", x, graph.integers(-1), keepdims=1) for end in ("Max", "Min")]
        largest = graph.add("Max", ends[0], graph.add("Neg", ends[1]))
    else:
        steps, zero = top, 0
        x = graph.add("Sub", x, graph.floats(least)) if least else x
        largest = graph.add("ReduceMax", x, graph.integers(-1), keepdims=1)
    scale = graph.add("Max", graph.add("Mul", largest, graph.floats(1 / steps)), graph.floats(_TINY))
    zeros = graph.add("ConstantOfShape", graph.add("Shape", scale), value=from_array(np.array([zero], np.uint8)))
    # A row is one block: to divide by its scale beforehand would write all activations once more.
    return Rows(graph.add("QuantizeLinear", x, scale, zeros, axis=-1, block_size=inputs), scale, zero)


def quantize(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round a weight to int8, symmetrically.

    Args:
        weight: Shape ``(inputs, outputs)``.

    Returns:
        The rounded weight, and the scale of each output, shape ``(outputs,)``.
    """
    scales: Floats = np.maximum(np.abs(weight).max(axis=0), np.float32(_TINY)) / np.float32(127)
    return np.rint(weight / scales).astype(np.int8), scales


def multiply_rounded(graph: Graph, x: str, zero: int, weight: NDArray[np.int8], scales: Floats) -> str:
    """Add the product of uint8 activations, where `zero` stands for 0, and of a weight with a scale per output."""
    # Without a fused operator the sums would be written twice more: as integers, and as floats without their scale.
    one, zeros = graph.constant(np.array(1, np.float32)), (np.array(zero, np.uint8), np.array(0, np.int8))
    constants = [graph.constant(weight), one, graph.constant(scales), *map(graph.constant, zeros)]
    return graph.add("MatMulIntegerToFloat", x, *constants, domain=CONTRIB)
