import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear

class RelPositionMultiHeadAttention(Module):
    n_head: int
    head_dim: int
    scale: float
    linear_q: Linear
    linear_k: Linear
    linear_v: Linear
    linear_pos: Linear
    linear_out: Linear
    pos_bias_u: mx.array
    pos_bias_v: mx.array
    def rel_shift(self, x: mx.array) -> mx.array: ...

class RelPositionalEncoding(Module):
    def __call__(self, x: mx.array, offset: int = 0) -> tuple[mx.array, mx.array]: ...
