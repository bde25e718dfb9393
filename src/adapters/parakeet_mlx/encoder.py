"""The FastConformer encoder over batches of unequal lengths: each item reads as it does alone.

The modules and their weights are parakeet-mlx's, which pads without a mask: there a padded item sees its padding in
the subsampling, in the attention and in the convolutions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mlx.core as mx
from mlx.nn.layers.convolution import Conv2d  # pyright: ignore[reportMissingTypeStubs]
from parakeet_mlx.attention import RelPositionMultiHeadAttention
from parakeet_mlx.conformer import Conformer, ConformerBlock, Convolution, DwStridingSubsampling, FeedForward

from .requirements import UnsupportedModelError

_MOST_POSITIONS_KEPT = 1024
"""Frames up to which the projected positions are kept, per layer: 80 s; longer windows compute their own."""


@dataclass(frozen=True, slots=True)
class Frames:
    """A batch between two layers.

    Attributes:
        x: Shape ``(batch, frames, width)``.
        positions: Relative positions from the longest distance to its negative, shape ``(1, 2 * frames - 1, width)``.
        keep: Which frames count, shape ``(batch, frames)``; ``None`` if all do.
    """

    x: mx.array
    positions: mx.array
    keep: mx.array | None


class Encoder:
    """Runs a ``Conformer`` of parakeet-mlx with masks; for a batch of one it computes what that computes.

    Source: parakeet-mlx 0.7.0 (Apache-2.0), conformer.py and attention.py; the masks are those of NVIDIA NeMo.
    """

    def __init__(self, conformer: Conformer, *, on_gpu: bool) -> None:
        """Take the modules of `conformer`.

        Raises:
            UnsupportedModelError: Its subsampling or its attention is of another kind than Parakeet's.
        """
        subsampling = conformer.pre_encode
        if not isinstance(subsampling, DwStridingSubsampling):
            raise UnsupportedModelError(f"subsampling by {type(subsampling).__name__}")
        if conformer.args.self_attention_model != "rel_pos":
            raise UnsupportedModelError(f"attention {conformer.args.self_attention_model!r}")
        self._subsampling = subsampling
        self._positions = conformer.pos_enc
        self._layers = [_Layer(block, on_gpu=on_gpu) for block in conformer.layers]
        self._on_gpu = on_gpu
        # On a GPU most of an encoder's time went into putting it together; on a CPU compiling needs a C++ compiler.
        self._run = mx.compile(self._run_all) if on_gpu else self._run_all

    @property
    def layers(self) -> Sequence[Callable[[Frames], Frames]]:
        """What turns the subsampled frames into the encoder's output, one after the other."""
        return self._layers

    def __call__(self, features: mx.array, lengths: Sequence[int]) -> tuple[mx.array, list[int]]:
        """Encode a batch.

        Args:
            features: Shape ``(batch, frames, mels)``; frames behind an item's length may hold anything finite.
            lengths: Frames of each item that count.

        Returns:
            Encoded frames, shape ``(batch, frames, width)``, and how many of each item count.
        """
        padded = any(length < features.shape[1] for length in lengths)
        # On a GPU it is compiled for each shape; whether there is padding shall not double their number.
        x = self._run(features, mx.array(list(lengths)) if padded or self._on_gpu else None)
        return x, [self.count(length) for length in lengths]

    def _run_all(self, features: mx.array, lengths: mx.array | None) -> mx.array:
        frames = self.subsample(features, lengths)
        for layer in self._layers:
            frames = layer(frames)
        return frames.x

    def count(self, length: int) -> int:
        """How many encoded frames so many frames of features give."""
        for layer in self._subsampling.conv:
            length = (length - 1) // 2 + 1 if _halves(layer) else length
        return length

    def subsample(self, features: mx.array, lengths: mx.array | None) -> Frames:
        """What stands before the layers.

        Args:
            features: Shape ``(batch, frames, mels)``.
            lengths: Frames of each item that count, shape ``(batch,)``; ``None`` if all do.
        """
        x = features[..., None]  # (batch, frames, mels, channels)
        for layer in self._subsampling.conv:
            if _halves(layer) and lengths is not None:
                x = mx.where(_within(lengths, x.shape[1])[:, :, None, None], x, 0)
                lengths = (lengths - 1) // 2 + 1
            x = layer(x) if self._on_gpu else _convolve_on_cpu(layer, x)
        x = mx.flatten(mx.swapaxes(x, 2, 3), start_axis=2)
        x, positions = self._positions(self._subsampling.out(x))
        return Frames(x, positions, None if lengths is None else _within(lengths, x.shape[1]))


class _Layer:
    """One conformer block."""

    def __init__(self, block: ConformerBlock, *, on_gpu: bool) -> None:
        self._block = block
        self._sigmoid = mx.sigmoid if on_gpu else rational_sigmoid
        self._attention = _Attention(block.self_attn, keeps_positions=not on_gpu)

    def __call__(self, frames: Frames) -> Frames:
        block, x = self._block, frames.x
        x = x + 0.5 * self._feed_forward(block.feed_forward1, block.norm_feed_forward1(x))
        x = x + self._attention(block.norm_self_att(x), frames.positions, frames.keep)
        x = x + self._convolve(block.conv, block.norm_conv(x), frames.keep)
        x = x + 0.5 * self._feed_forward(block.feed_forward2, block.norm_feed_forward2(x))
        return Frames(block.norm_out(x), frames.positions, frames.keep)

    def _feed_forward(self, module: FeedForward, x: mx.array) -> mx.array:
        x = module.linear1(x)
        return module.linear2(x * self._sigmoid(x))

    def _convolve(self, module: Convolution, x: mx.array, keep: mx.array | None) -> mx.array:
        value, gate = mx.split(module.pointwise_conv1(x), 2, axis=-1)
        x = value * self._sigmoid(gate)
        if keep is not None:
            x = mx.where(keep[:, :, None], x, 0)
        x = mx.pad(x, [(0, 0), (module.padding, module.padding), (0, 0)])
        x = module.batch_norm(module.depthwise_conv(x))
        return module.pointwise_conv2(x * self._sigmoid(x))


class _Attention:
    """Self-attention with relative positions, whose projection depends on the number of frames alone.

    It is kept where that saves time; compiled code must not keep anything.
    """

    def __init__(self, module: RelPositionMultiHeadAttention, *, keeps_positions: bool) -> None:
        self._module = module
        self._most_kept = _MOST_POSITIONS_KEPT if keeps_positions else 0
        self._projected: mx.array | None = None

    def __call__(self, x: mx.array, positions: mx.array, keep: mx.array | None) -> mx.array:
        module, frames = self._module, x.shape[1]

        def heads(y: mx.array) -> mx.array:
            return mx.unflatten(y, -1, (module.n_head, module.head_dim))  # (batch, frames, heads, width)

        query, key, value = heads(module.linear_q(x)), heads(module.linear_k(x)), heads(module.linear_v(x))
        position = mx.transpose(heads(self._project(positions)), (0, 2, 3, 1))
        by_position = module.rel_shift(mx.swapaxes(query + module.pos_bias_v, 1, 2) @ position)
        bias = by_position[..., :frames] * module.scale
        if keep is not None:
            bias = mx.where(keep[:, None, None, :], bias, -mx.inf)
        out = mx.fast.scaled_dot_product_attention(
            mx.swapaxes(query + module.pos_bias_u, 1, 2),
            mx.swapaxes(key, 1, 2),
            mx.swapaxes(value, 1, 2),
            scale=module.scale,
            mask=bias,
        )
        return module.linear_out(mx.flatten(mx.swapaxes(out, 1, 2), start_axis=2))

    def _project(self, positions: mx.array) -> mx.array:
        """Positions of a shorter window are the middle of a longer one's."""
        count = positions.shape[1]
        if count > 2 * self._most_kept:
            return self._module.linear_pos(positions)
        if self._projected is None or self._projected.shape[1] < count:
            self._projected = self._module.linear_pos(positions)
        begin = (self._projected.shape[1] - count) // 2
        return self._projected[:, begin : begin + count]


def _halves(layer: object) -> bool:
    return getattr(layer, "stride", (1, 1)) == (2, 2)


def _within(lengths: mx.array, frames: int) -> mx.array:
    """Which frames count, shape ``(batch, frames)``."""
    return mx.arange(frames)[None] < lengths[:, None]


def _convolve_on_cpu(layer: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """A layer of the subsampling, by products where MLX's own convolution is slow on CPUs."""
    as_it_is = layer
    if not isinstance(layer, Conv2d):
        return as_it_is(x)
    weight, out = layer.weight, layer.bias
    channels, height, width, inputs = weight.shape
    if (height, width) == (1, 1):
        return x @ mx.reshape(weight, (channels, inputs)).T + out
    if inputs != 1 or x.shape[-1] != channels:
        return as_it_is(x)
    # Depthwise, stride 2: nine shifted views of the input, each times its weights.
    _, rows, columns, _ = x.shape
    rows_out, columns_out = (rows - 1) // 2 + 1, (columns - 1) // 2 + 1
    x = mx.pad(x, [(0, 0), (1, 2 * rows_out - rows + 1), (1, 2 * columns_out - columns + 1), (0, 0)])
    x = mx.reshape(x, (x.shape[0], rows_out + 1, 2, columns_out + 1, 2, channels))
    for i in range(3):
        for j in range(3):
            view = x[:, i // 2 : i // 2 + rows_out, i % 2, j // 2 : j // 2 + columns_out, j % 2]
            out = out + view * weight[:, i, j, 0]
    return out


def rational_sigmoid(x: mx.array) -> mx.array:
    """The logistic function to within 1e-7, by multiplications alone.

    MLX computes exponentials on x86 CPUs one number at a time; multiplying is fifty times as fast.

    Source: the rational approximation of tanh in Eigen 3.4 (MPL-2.0), MathFunctionsImpl.h: the coefficients.
    """
    x = mx.clip(0.5 * x, -7.90531110763549805, 7.90531110763549805)
    square = x * x
    numerator = mx.array(_TANH_NUMERATOR[0])
    for coefficient in _TANH_NUMERATOR[1:]:
        numerator = numerator * square + coefficient
    denominator = mx.array(_TANH_DENOMINATOR[0])
    for coefficient in _TANH_DENOMINATOR[1:]:
        denominator = denominator * square + coefficient
    return 0.5 + (0.5 * x) * (numerator / denominator)


_TANH_NUMERATOR = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_DENOMINATOR = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
