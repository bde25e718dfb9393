"""One Conformer block: half a feed-forward module, attention, convolution, the other half."""

from dataclasses import dataclass

import numpy as np

from .architecture import EncoderArgs
from .layers import SILU_LEAST, Layers, fold_norm


@dataclass(frozen=True, slots=True)
class Shared:
    """What all blocks see.

    Attributes:
        positions: Relative positions, see `positions`; shape ``(2 * frames, width)``.
        keep: 1 for frames that count, else 0; shape ``(batch, frames, 1)``.
        bias: 0 for frames that count, else a large negative number; shape ``(batch, 1, 1, frames)``.
    """

    positions: str
    keep: str
    bias: str


@dataclass(frozen=True, slots=True)
class Block:
    """Adds the block called `name` to a graph."""

    layers: Layers
    args: EncoderArgs
    name: str

    def __call__(self, x: str, shared: Shared) -> str:
        """Frames before and after, shape ``(batch, frames, width)``."""
        graph = self.layers.graph
        x = graph.add("Add", x, self._feed_forward("feed_forward1", self._norm(x, "feed_forward1")))
        x = graph.add("Add", x, self._attend(self._norm(x, "self_att"), shared))
        x = graph.add("Add", x, self._convolve(self._norm(x, "conv"), shared.keep))
        x = graph.add("Add", x, self._feed_forward("feed_forward2", self._norm(x, "feed_forward2")))
        return self._norm(x, "out")

    def _norm(self, x: str, name: str) -> str:
        return self.layers.norm(x, f"{self.name}.norm_{name}", self.args.d_model)

    def _feed_forward(self, module: str, x: str) -> str:
        width, bias, name = self.args.d_model, self.args.use_bias, f"{self.name}.{module}"
        inner = width * self.args.ff_expansion_factor
        x = self.layers.silu(self.layers.dense(x, f"{name}.linear1", width, inner, bias=bias))
        # Feed-forward modules count half.
        return self.layers.dense(x, f"{name}.linear2", inner, width, bias=bias, scale=0.5, least=SILU_LEAST)

    def _attend(self, x: str, shared: Shared) -> str:
        layers, width, heads, name = self.layers, self.args.d_model, self.args.n_heads, f"{self.name}.self_attn"
        graph, size, scale = layers.graph, width // heads, np.float32((width // heads) ** -0.5)
        # The scale of the scores is folded into the queries.
        weights = [layers.weight(f"{name}.linear_{part}", width, width) for part in "qkv"]
        query, key, value = layers.multiply(graph, x, [weights[0] * scale, *weights[1:]])
        if self.args.use_bias:
            query = layers.add_bias(query, layers.bias(f"{name}.linear_q", width) * scale)
            key = layers.add_bias(key, layers.bias(f"{name}.linear_k", width))
            value = layers.add_bias(value, layers.bias(f"{name}.linear_v", width))
        position = layers.dense(shared.positions, f"{name}.linear_pos", width, width, bias=False)
        by_content, by_position = (
            layers.add_bias(query, layers.tensors.read(f"{name}.pos_bias_{which}", heads, size).reshape(-1) * scale)
            for which in "uv"
        )

        def by_head(y: str, *order: int) -> str:
            return layers.transposed(layers.shaped(y, 0, 0, heads, size), *order)

        position = layers.transposed(layers.shaped(position, 0, heads, size), 1, 2, 0)  # (heads, size, positions)
        distances = self._shifted(graph.add("MatMul", by_head(by_position, 0, 2, 1, 3), position))
        scores = graph.add("MatMul", by_head(by_content, 0, 2, 1, 3), by_head(key, 0, 2, 3, 1))
        scores = graph.add("Add", graph.add("Add", scores, distances), shared.bias)
        out = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), by_head(value, 0, 2, 1, 3))
        out = layers.shaped(layers.transposed(out, 0, 2, 1, 3), 0, 0, width)
        return layers.dense(out, f"{name}.linear_out", width, width, bias=self.args.use_bias)

    def _shifted(self, scores: str) -> str:
        """From one score per distance to one per frame.

        Of `n` frames row `i` of the result is row `i` of `scores` from ``n - i`` on. In the flattened rows of ``2 n``
        these begin at ``n + i (2 n - 1)``: without the first `n` numbers they are the rows of a matrix ``2 n - 1`` wide.

        Args:
            scores: Shape ``(batch, heads, n, 2 n)``.

        Returns:
            Shape ``(batch, heads, n, n)``.
        """
        graph, layers = self.layers.graph, self.layers
        frames = graph.add("Shape", scores, start=2, end=3)
        zero, last, all_of_it = graph.integers(0), graph.integers(-1), graph.integers(np.iinfo(np.int64).max)
        wide = graph.add("Concat", graph.integers(0, 0), frames, last, axis=0)
        flat = graph.add("Slice", layers.shaped(scores, 0, 0, -1), frames, all_of_it, last)
        return graph.add("Slice", graph.add("Reshape", flat, wide), zero, frames, last)

    def _convolve(self, x: str, keep: str) -> str:
        layers, width, bias, name = self.layers, self.args.d_model, self.args.use_bias, f"{self.name}.conv"
        graph, kernel = layers.graph, self.args.conv_kernel_size
        both = layers.weight(f"{name}.pointwise_conv1", width, 2 * width, 1)
        value, gate = layers.multiply(graph, x, [both[:, :width], both[:, width:]])
        if bias:
            biases = layers.bias(f"{name}.pointwise_conv1", 2 * width)
            value, gate = layers.add_bias(value, biases[:width]), layers.add_bias(gate, biases[width:])
        x = graph.add("Mul", value, graph.add("Sigmoid", gate))
        x = self._depthwise(graph.add("Mul", x, keep), kernel)
        weight = layers.weight(f"{name}.pointwise_conv2", width, width, 1)
        (x,) = layers.multiply(graph, layers.silu(x), [weight], least=SILU_LEAST)
        return layers.add_bias(x, layers.bias(f"{name}.pointwise_conv2", width)) if bias else x

    def _depthwise(self, x: str, kernel: int) -> str:
        """The convolution over time, with its normalisation.

        It is two-dimensional, with an axis of one: only such ones does ONNX Runtime compute in blocks of channels.
        """
        layers, width, name = self.layers, self.args.d_model, f"{self.name}.conv"
        weight = layers.tensors.read(f"{name}.depthwise_conv.weight", width, kernel, 1).reshape(width, 1, 1, kernel)
        bias = layers.bias(f"{name}.depthwise_conv", width) if self.args.use_bias else None
        norm = [
            layers.tensors.read(f"{name}.batch_norm.{part}", width)
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        constants = [layers.graph.constant(array) for array in fold_norm(weight, bias, norm)]
        x = layers.transposed(layers.graph.add("Unsqueeze", x, layers.graph.integers(1)), 0, 3, 1, 2)
        side = kernel // 2
        x = layers.graph.add("Conv", x, *constants, group=width, kernel_shape=[1, kernel], pads=[0, side, 0, side])
        return layers.graph.add("Squeeze", layers.transposed(x, 0, 2, 3, 1), layers.graph.integers(1))
