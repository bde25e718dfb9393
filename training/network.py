"""FastConformer encoder, prediction network and joint network, under the names that parakeet-mlx gives them.

Source: the shapes are those of parakeet-mlx 0.7.0 (Apache-2.0), conformer.py and rnnt.py; Rekesh et al. 2023,
"Fast Conformer"; Xu et al. 2023, "Efficient Sequence Transduction by Jointly Predicting Tokens and Durations".
"""

import copy
import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SUBSAMPLING = 8
"""Feature frames to a frame of the encoder."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network."""

    mels: int = 80
    width: int = 256
    layers: int = 12
    heads: int = 4
    expansion: int = 4
    kernel: int = 9
    channels: int = 128
    vocabulary: int = 512
    durations: tuple[int, ...] = (0, 1, 2, 3, 4)
    dropout: float = 0.1
    taught: int = 512
    """Numbers in a frame of the teacher's."""


def encoded_length(frames: Tensor) -> Tensor:
    """How many encoder frames so many feature frames give: a third power of halving, rounded up."""
    for _ in range(3):
        frames = (frames - 1) // 2 + 1
    return frames


class Subsampling(nn.Module):
    """Three strided convolutions: 80 ms a frame."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        wide = shape.channels

        def depthwise() -> nn.Conv2d:
            return nn.Conv2d(wide, wide, 3, stride=2, padding=1, groups=wide)

        self.conv = nn.ModuleList(
            [
                nn.Conv2d(1, wide, 3, stride=2, padding=1),
                nn.ReLU(),
                depthwise(),
                nn.Conv2d(wide, wide, 1),
                nn.ReLU(),
                depthwise(),
                nn.Conv2d(wide, wide, 1),
                nn.ReLU(),
            ]
        )
        self.out = nn.Linear(wide * math.ceil(shape.mels / SUBSAMPLING), shape.width)

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Frames of shape ``(batch, frames / 8, width)`` from ``(batch, frames, mels)``."""
        x = mel.unsqueeze(1)
        for layer in self.conv:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                if layer.stride[0] == 2:
                    lengths = (lengths - 1) // 2 + 1
                # Also after pointwise layers: their bias would be read by the next one beyond the end.
                keep = torch.arange(x.shape[2], device=x.device)[None] < lengths[:, None]
                x = x * keep[:, None, :, None]
        return self.out(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.linear1 = nn.Linear(shape.width, shape.width * shape.expansion, bias=False)
        self.linear2 = nn.Linear(shape.width * shape.expansion, shape.width, bias=False)
        self.dropout = shape.dropout

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return self.linear2(functional.dropout(functional.silu(self.linear1(x)), self.dropout, self.training))


class Attention(nn.Module):
    """Attention with relative positions (Dai et al. 2019)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, shape.dropout
        self.linear_q = nn.Linear(shape.width, shape.width, bias=False)
        self.linear_k = nn.Linear(shape.width, shape.width, bias=False)
        self.linear_v = nn.Linear(shape.width, shape.width, bias=False)
        self.linear_out = nn.Linear(shape.width, shape.width, bias=False)
        self.linear_pos = nn.Linear(shape.width, shape.width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.zeros(shape.heads, shape.width // shape.heads))
        self.pos_bias_v = nn.Parameter(torch.zeros(shape.heads, shape.width // shape.heads))

    def forward(self, x: Tensor, positions: Tensor, keep: Tensor) -> Tensor:
        """Attend over the frames that are to be kept.

        Args:
            x: ``(batch, frames, width)``.
            positions: ``(2 * frames - 1, width)``, the distance falling from ``frames - 1``.
            keep: ``(batch, frames)``, false where there is only padding.
        """
        batch, frames, width = x.shape
        split = (batch, frames, self.heads, width // self.heads)
        q = self.linear_q(x).view(split)
        k = self.linear_k(x).view(split).transpose(1, 2)
        v = self.linear_v(x).view(split).transpose(1, 2)
        p = self.linear_pos(positions).view(-1, self.heads, split[3]).permute(1, 2, 0)
        content = (q + self.pos_bias_u.to(q.dtype)).transpose(1, 2)
        distance = (q + self.pos_bias_v.to(q.dtype)).transpose(1, 2) @ p
        # Row i holds the distances frames-1 ... 1-frames; its own begin at column frames-1-i.
        shifted = functional.pad(distance, (1, 0)).view(batch, self.heads, 2 * frames, frames)[:, :, 1:]
        scores = content @ k.mT + shifted.reshape(batch, self.heads, frames, 2 * frames - 1)[..., :frames]
        # Written out: the fused kernel's gradient for a mask is one more thing that can be wrong.
        scores = scores.float() / math.sqrt(split[3])
        weights = scores.masked_fill(~keep[:, None, None], float("-inf")).softmax(-1).to(v.dtype)
        out = functional.dropout(weights, self.dropout, self.training) @ v
        return self.linear_out(out.transpose(1, 2).reshape(batch, frames, width))


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics are those of speech alone, however much padding a batch has."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """The same shape, ``(batch, width, frames)``; `keep` is ``(batch, frames)``."""
        wide = x.float()
        mean, variance = self.running_mean, self.running_var
        if self.training:
            inside, number = keep[:, None], keep.sum()
            mean = (wide * inside).sum((0, 2)) / number
            variance = ((wide - mean[:, None]).square() * inside).sum((0, 2)) / number
            with torch.no_grad():
                self.running_mean.lerp_(mean, 0.1)
                self.running_var.lerp_(variance, 0.1)
        scale = self.weight * torch.rsqrt(variance + 1e-5)
        return ((wide - mean[:, None]) * scale[:, None] + self.bias[:, None]).to(x.dtype)


class Convolution(nn.Module):
    """Gated pointwise, depthwise, batch normalisation, pointwise."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(
            width, width, shape.kernel, padding=(shape.kernel - 1) // 2, groups=width, bias=False
        )
        self.batch_norm = MaskedBatchNorm(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """The same shape; padding is zero before it is convolved."""
        # The pointwise layers as products: faster than convolutions of width one.
        x = functional.glu(functional.linear(x, self.pointwise_conv1.weight[:, :, 0]), dim=2)
        x = (x * keep[:, :, None]).transpose(1, 2)
        x = functional.silu(self.batch_norm(self.depthwise_conv(x), keep))
        return functional.linear(x.transpose(1, 2), self.pointwise_conv2.weight[:, :, 0])


class Block(nn.Module):
    """One Conformer block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(shape.width)
        self.feed_forward1 = FeedForward(shape)
        self.norm_self_att = nn.LayerNorm(shape.width)
        self.self_attn = Attention(shape)
        self.norm_conv = nn.LayerNorm(shape.width)
        self.conv = Convolution(shape)
        self.norm_feed_forward2 = nn.LayerNorm(shape.width)
        self.feed_forward2 = FeedForward(shape)
        self.norm_out = nn.LayerNorm(shape.width)
        self.dropout = shape.dropout

    def forward(self, x: Tensor, positions: Tensor, keep: Tensor) -> Tensor:
        """The same shape."""

        def drop(y: Tensor) -> Tensor:
            return functional.dropout(y, self.dropout, self.training)

        x = x + 0.5 * drop(self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + drop(self.self_attn(self.norm_self_att(x), positions, keep))
        x = x + drop(self.conv(self.norm_conv(x), keep))
        x = x + 0.5 * drop(self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)


class Blocks(nn.ModuleList):
    """Conformer blocks, one behind the other."""

    def forward(self, x: Tensor, positions: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """What the last one gives, and what lies two thirds of the way up, each of the same shape; see `Attention`."""
        middle = x
        for number, block in enumerate(self, 1):
            x = block(x, positions, keep)
            if number == len(self) * 2 // 3:
                middle = x
        return x, middle


class Encoded(NamedTuple):
    """What an encoder has made of a batch."""

    frames: Tensor
    """``(batch, frames, width)``."""
    lengths: Tensor
    """Frames of each item."""
    middle: Tensor
    """The same frames before the upper third of the blocks: sounds and words rather than pieces of the vocabulary."""


class Encoder(nn.Module):
    """Features to frames of 80 ms."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.width, self.dropout = shape.width, shape.dropout
        self.pre_encode = Subsampling(shape)
        self.layers = Blocks([Block(shape) for _ in range(shape.layers)])
        self._captured: dict[int, tuple[int, Blocks]] = {}

    def capture(self, sizes: dict[int, int]) -> None:
        """Record what the blocks do in training as CUDA graphs: thousands of small kernels are then launched as two.

        To be called with autocast as in training, without its cache, and before anything else runs on the GPU.

        Args:
            sizes: Most frames of a batch of so many items. Batches of other numbers or of more frames go as ever.
        """
        kept = {name: value.clone() for name, value in self.layers.named_buffers()}
        device = self.pre_encode.out.weight.device
        pool = torch.cuda.graph_pool_handle()
        # The largest first: the others find room in its memory.
        for items, frames in sorted(sizes.items(), key=lambda size: -size[0] * size[1]):
            x = torch.randn(items, frames, self.width, device=device, dtype=torch.bfloat16, requires_grad=True)
            keep = torch.ones(items, frames, device=device, dtype=torch.bool)
            # A copy has the same weights; its forward is replaced.
            blocks = copy.copy(self.layers).train()
            arguments = (x, self._positions(frames, device), keep)
            torch.cuda.make_graphed_callables(blocks, arguments, pool=pool)
            self._captured[items] = frames, blocks
        # Capturing has trained the running means on noise.
        for name, value in self.layers.named_buffers():
            value.copy_(kept[name])

    def forward(self, mel: Tensor, lengths: Tensor) -> Encoded:
        """Encode features.

        Args:
            mel: ``(batch, frames, mels)``, zeros behind the end of each item.
            lengths: Frames of each item.

        Returns:
            An eighth as many frames.
        """
        x = functional.dropout(self.pre_encode(mel, lengths), self.dropout, self.training)
        lengths = encoded_length(lengths)
        frames = x.shape[1]
        blocks = self.layers
        most, captured = self._captured.get(len(x), (0, blocks))
        if self.training and frames <= most:
            blocks = captured
            x = functional.pad(x, (0, 0, 0, most - frames))
        keep = torch.arange(x.shape[1], device=x.device)[None] < lengths[:, None]
        top, middle = blocks(x, self._positions(x.shape[1], x.device), keep)
        return Encoded(top[:, :frames], lengths, middle[:, :frames])

    def _positions(self, frames: int, device: torch.device) -> Tensor:
        distance = torch.arange(frames - 1, -frames, -1, device=device, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, self.width, 2, device=device) * (-math.log(10_000.0) / self.width))
        return torch.stack([torch.sin(distance * rate), torch.cos(distance * rate)], dim=2).flatten(1)


class Prediction(nn.Module):
    """What was written so far: embedding and LSTM; the blank, which comes first, is zeros."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed = nn.Embedding(shape.vocabulary + 1, shape.width, padding_idx=shape.vocabulary)
        self.dec_rnn = nn.LSTM(shape.width, shape.width, batch_first=True)
        self.blank, self.dropout = shape.vocabulary, shape.dropout

    def forward(self, labels: Tensor) -> Tensor:
        """``(batch, labels + 1, width)`` for labels of shape ``(batch, labels)``, of any value behind their end."""
        x = self.embed(functional.pad(labels, (1, 0), value=self.blank))
        x = functional.dropout(x, self.dropout, self.training)
        return functional.dropout(self.dec_rnn(x)[0], self.dropout, self.training)


class Joint(nn.Module):
    """Scores of tokens, blank and durations for every pair of frame and label."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.enc = nn.Linear(shape.width, shape.width)
        self.pred = nn.Linear(shape.width, shape.width)
        self.joint_net = nn.Linear(shape.width, shape.vocabulary + 1 + len(shape.durations))

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """``(batch, frames, labels + 1, vocabulary + 1 + durations)``, not normalised."""
        return self.joint_net(functional.relu(self.enc(encoded)[:, :, None] + self.pred(predicted)[:, None]))


class Transducer(nn.Module):
    """The whole model, with two heads that only training uses: CTC's, and the one that tells what a teacher hears."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Prediction(shape)
        self.joint = Joint(shape)
        self.ctc = nn.Linear(shape.width, shape.vocabulary + 1)
        self.pupil = nn.Linear(shape.width, shape.taught)


@torch.no_grad()
def greedy(model: Transducer, encoded: Tensor, *, most: int = 10) -> list[tuple[int, int]]:
    """Tokens of one item and the frames that they begin at, as parakeet-mlx decodes.

    Args:
        model: The model, in evaluation mode.
        encoded: ``(frames, width)``.
        most: Most tokens at one frame.
    """
    blank, durations = model.shape.vocabulary, model.shape.durations
    device = encoded.device
    found: list[tuple[int, int]] = []
    frame, here, state = 0, 0, None
    predicted, after = model.decoder.dec_rnn(torch.zeros(1, 1, model.shape.width, device=device), state)
    while frame < len(encoded):
        scores = model.joint(encoded[None, frame : frame + 1], predicted)[0, 0, 0]
        token = int(scores[: blank + 1].argmax())
        step = durations[int(scores[blank + 1 :].argmax())]
        if token != blank:
            found.append((token, frame))
            state = after
            predicted, after = model.decoder.dec_rnn(model.decoder.embed(torch.tensor([[token]], device=device)), state)
        here = here + 1 if step == 0 else 0
        if step == 0 and (here >= most or token == blank):
            step, here = 1, 0
        frame += step
    return found
