from collections.abc import Callable

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from parakeet_mlx.attention import RelPositionalEncoding, RelPositionMultiHeadAttention

Layer = Callable[[mx.array], mx.array]

class ConformerArgs:
    feat_in: int
    self_attention_model: str
    subsampling_factor: int
    pos_emb_max_len: int

class FeedForward(Module):
    linear1: Linear
    linear2: Linear

class Convolution(Module):
    padding: int
    pointwise_conv1: Layer
    depthwise_conv: Layer
    batch_norm: Layer
    pointwise_conv2: Layer

class ConformerBlock(Module):
    norm_feed_forward1: Layer
    feed_forward1: FeedForward
    norm_self_att: Layer
    self_attn: RelPositionMultiHeadAttention
    norm_conv: Layer
    conv: Convolution
    norm_feed_forward2: Layer
    feed_forward2: FeedForward
    norm_out: Layer

class DwStridingSubsampling(Module):
    conv: list[Layer]
    out: Linear

class Conformer(Module):
    args: ConformerArgs
    pos_enc: RelPositionalEncoding
    pre_encode: Module
    layers: list[ConformerBlock]
    def __call__(self, x: mx.array, lengths: mx.array | None = None) -> tuple[mx.array, mx.array]: ...
