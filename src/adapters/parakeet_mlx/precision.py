"""The weights' precision: how a model is rounded once it is loaded."""

from typing import TypeGuard, cast

import mlx.core as mx
from mlx.nn.layers.base import Module  # pyright: ignore[reportMissingTypeStubs]
from mlx.nn.layers.linear import Linear  # pyright: ignore[reportMissingTypeStubs]
from mlx.nn.layers.quantized import quantize  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from parakeet_mlx.parakeet import BaseParakeet

from ..inference.checkpoint import Precision

_BITS = {"int8": 8, "int4": 4}
_GROUP = 64
"""Weights that share a scale."""


def round_weights(model: BaseParakeet, precision: Precision, *, on_gpu: bool) -> mx.Dtype:
    """Round the weights to `precision` and give the format in which the model computes.

    CPUs compute in float32 all the same: MLX multiplies other matrices there without a BLAS, several times slower.
    """
    if precision != "fp32":
        # On a CPU, too: the weights are those that a GPU has, in a wider format.
        model.set_dtype(mx.bfloat16)
    dtype = mx.bfloat16 if on_gpu and precision != "fp32" else mx.float32
    model.set_dtype(dtype)
    if precision in _BITS:
        _quantize(model, _BITS[precision], keep=on_gpu)
    return dtype


def _quantize(model: BaseParakeet, bits: int, *, keep: bool) -> None:
    """Round the linear layers of the encoder, nine tenths of a model, to `bits` in groups of 64.

    Args:
        model: Changed in place.
        bits: 8 or 4.
        keep: Keep the weights so; else they are rounded, and stored and multiplied as before.
    """
    if keep:
        quantize(model.encoder, _GROUP, bits, class_predicate=lambda _, module: _is_rounded(module))
        return
    for module in cast("list[Module]", model.encoder.modules()):  # type: ignore[no-untyped-call]
        if _is_rounded(module):
            rounded = mx.quantize(module.weight, _GROUP, bits)
            module.weight = mx.dequantize(*rounded, group_size=_GROUP, bits=bits)


def _is_rounded(module: Module) -> TypeGuard[Linear]:
    return isinstance(module, Linear) and module.weight.shape[-1] % _GROUP == 0
