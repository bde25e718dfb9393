"""The FastConformer encoder over batches of unequal lengths: each item reads as it does alone.

The modules and their weights are parakeet-mlx's, which pads without a mask: there a padded item sees its padding in
the subsampling, in the attention and in the convolutions.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
from parakeet_mlx.attention import RelPositionMultiHeadAttention
from parakeet_mlx.conformer import Conformer, ConformerBlock, Convolution, DwStridingSubsampling, FeedForward

Sigmoid = Callable[[mx.array], mx.array]


class Encoder:
    """Runs a ``Conformer`` of parakeet-mlx with masks; for a batch of one it computes what that computes.

    Source: parakeet-mlx 0.7.0 (Apache-2.0), conformer.py and attention.py; the masks are those of NVIDIA NeMo.
    """

    def __init__(self, conformer: Conformer, *, sigmoid: Sigmoid) -> None:
        """Take the modules of `conformer`.

        Raises:
            ValueError: Its subsampling or its attention is of another kind than Parakeet's.
        """
        subsampling = conformer.pre_encode
        if not isinstance(subsampling, DwStridingSubsampling):
            raise ValueError(f"subsampling by {type(subsampling).__name__} is not supported")  # noqa: TRY004 - a checkpoint's fault
        if conformer.args.self_attention_model != "rel_pos":
            raise ValueError(f"attention {conformer.args.self_attention_model!r} is not supported")
        self._subsampling = subsampling
        self._positions = conformer.pos_enc
        self._layers = conformer.layers
        self._sigmoid = sigmoid

    def __call__(self, features: mx.array, lengths: Sequence[int]) -> tuple[mx.array, list[int]]:
        """Encode a batch.

        Args:
            features: Shape ``(batch, frames, mels)``; frames behind an item's length may hold anything finite.
            lengths: Frames of each item that count.

        Returns:
            Encoded frames, shape ``(batch, frames, width)``, and how many of each item count.
        """
        x, counts = self._subsample(features, list(lengths))
        x, positions = self._positions(x)
        padded = len(set(counts)) > 1 or counts[0] < x.shape[1]
        keep = _within(counts, x.shape[1]) if padded else None
        for layer in self._layers:
            x = self._block(layer, x, positions, keep)
        return x, counts

    def _subsample(self, x: mx.array, lengths: list[int]) -> tuple[mx.array, list[int]]:
        x = x[..., None]  # (batch, frames, mels, channels)
        for layer in self._subsampling.conv:
            strided = getattr(layer, "stride", (1, 1)) == (2, 2)
            if strided:
                if any(length < x.shape[1] for length in lengths):
                    x = mx.where(_within(lengths, x.shape[1])[:, :, None, None], x, 0)
                lengths = [(length - 1) // 2 + 1 for length in lengths]
            x = layer(x)
        x = mx.flatten(mx.swapaxes(x, 2, 3), start_axis=2)
        return self._subsampling.out(x), lengths

    def _block(self, block: ConformerBlock, x: mx.array, positions: mx.array, keep: mx.array | None) -> mx.array:
        x = x + 0.5 * self._feed_forward(block.feed_forward1, block.norm_feed_forward1(x))
        x = x + _attend(block.self_attn, block.norm_self_att(x), positions, keep)
        x = x + self._convolve(block.conv, block.norm_conv(x), keep)
        x = x + 0.5 * self._feed_forward(block.feed_forward2, block.norm_feed_forward2(x))
        return block.norm_out(x)

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


def _attend(module: RelPositionMultiHeadAttention, x: mx.array, positions: mx.array, keep: mx.array | None) -> mx.array:
    frames = x.shape[1]

    def heads(y: mx.array) -> mx.array:
        return mx.unflatten(y, -1, (module.n_head, module.head_dim))  # (batch, frames, heads, width)

    query, key, value = heads(module.linear_q(x)), heads(module.linear_k(x)), heads(module.linear_v(x))
    position = mx.transpose(heads(module.linear_pos(positions)), (0, 2, 3, 1))
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


def _within(lengths: Sequence[int], frames: int) -> mx.array:
    """Which frames count, shape ``(batch, frames)``."""
    return mx.arange(frames)[None] < mx.array(list(lengths))[:, None]


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
