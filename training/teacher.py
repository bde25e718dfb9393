"""The encoder of Whisper as a teacher, whose features of 20 ms a student can be made to predict.

Source: the shapes and the arithmetic of the features are those of OpenAI's Whisper (MIT), Radford et al. 2022, "Robust
Speech Recognition via Large-Scale Weak Supervision". The weights are read from CTranslate2's ``model.bin``.
"""

import argparse
import math
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from .features import HOP, RATE, mel_points

FRAME = 2 * HOP
"""Samples to a frame of the encoder."""
LONGEST = 30 * RATE
"""Samples that the encoder has positions for."""
_POINTS = 400
_HEAD = 64
"""Width of an attention head, in Whisper of every size."""
_VERSION = 6
_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By CTranslate2's number."""
_KEPT = ("weight", "bias", "gamma", "beta", "encodings")
_RENAMED = (
    ("self_attention/layer_norm", "attention_norm"),
    ("self_attention/linear_0", "attention_in"),
    ("self_attention/linear_1", "attention_out"),
    ("ffn/layer_norm", "feed_forward_norm"),
    ("ffn/linear_0", "feed_forward_in"),
    ("ffn/linear_1", "feed_forward_out"),
    ("position_encodings/encodings", "positions"),
    ("layer_norm", "norm"),
    ("layer_", "layers."),
    ("gamma", "weight"),
    ("beta", "bias"),
    ("/", "."),
)


class _Block(nn.Module):
    """One Transformer block, normalised before each part."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward_in = nn.Linear(width, inner)
        self.feed_forward_out = nn.Linear(inner, width)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """The same shape, ``(batch, frames, width)``; frames attend to those of `keep`, ``(batch, frames)``."""
        q, k, v = self.attention_in(self.attention_norm(x)).unflatten(2, (3, -1, _HEAD)).permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None])
        x = x + self.attention_out(heard.transpose(1, 2).flatten(2))
        return x + self.feed_forward_out(functional.gelu(self.feed_forward_in(self.feed_forward_norm(x))))


class _Encoder(nn.Module):
    """Log-mel features to frames of 20 ms."""

    positions: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        """Of the sizes that the weights have."""
        super().__init__()
        width, mels, kernel = weights["conv1.weight"].shape
        inner = len(weights["layers.0.feed_forward_in.bias"])
        self.conv1 = nn.Conv1d(mels, width, kernel, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel, stride=2, padding=1)
        self.register_buffer("positions", torch.empty(weights["positions"].shape))
        layers = sum(name.endswith(".attention_in.bias") for name in weights)
        self.layers = nn.ModuleList([_Block(width, inner) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.load_state_dict({name: value.float() for name, value in weights.items()})

    def forward(self, mel: Tensor, keep: Tensor, layer: int) -> Tensor:
        """Frames of shape ``(batch, frames, width)`` from ``(batch, mels, 2 * frames)``; see `Teacher`."""
        # What lies behind an item is zero wherever it is convolved, as if the item were alone.
        inside = keep.repeat_interleave(2, dim=1)[:, None]
        x = functional.gelu(self.conv1(mel * inside)) * inside
        x = functional.gelu(self.conv2(x)).transpose(1, 2) + self.positions[: keep.shape[1]]
        for block in self.layers[:layer]:
            x = block(x, keep)
        return self.norm(x) if layer == len(self.layers) else x


class Teacher:
    """Whisper's encoder, which is not trained."""

    def __init__(self, path: Path, device: torch.device, *, layer: int | None = None, margin_s: float = 1.0) -> None:
        """Read the weights that ``python -m training.teacher`` wrote.

        Args:
            path: The safetensors file.
            device: Where it runs; on CUDA in bfloat16, elsewhere in float32.
            layer: The features are what so many blocks give; by default all, and the last normalisation.
            margin_s: Silence behind each item that it attends to. Whisper was trained with as much as fills 30 s, which
                `30` gives; the less, the faster.

        Raises:
            ValueError: There are fewer layers.
        """
        self._encoder = _Encoder(load_file(path)).to(device).eval().requires_grad_(requires_grad=False)
        layers = len(self._encoder.layers)
        self._layer = layers if layer is None else layer
        if not 0 <= self._layer <= layers:
            raise ValueError(f"{path} has {layers} layers, not {layer}")
        self._margin = round(margin_s * RATE)
        self._device = device
        self._window = torch.hann_window(_POINTS, device=device)
        self._filters = _filters(self._encoder.conv1.in_channels).to(device)

    @property
    def width(self) -> int:
        """Numbers to a frame."""
        return self._encoder.conv1.out_channels

    @torch.no_grad()
    def __call__(self, signal: Tensor, lengths: Tensor) -> Tensor:
        """Features of float samples.

        Args:
            signal: ``(batch, samples)`` within -1 to 1, 16 kHz, on the device, zeros behind the end of each item.
            lengths: Samples of each item, at least one.

        Returns:
            ``(batch, frames, width)`` in float32, a frame for each 320 samples begun; what lies behind the end of an
            item is of no use.

        Raises:
            ValueError: It is longer than 30 s.
        """
        samples = signal.shape[1]
        if samples > LONGEST:
            raise ValueError(f"{samples} samples, and Whisper hears at most {LONGEST}")
        frames = math.ceil(min(samples + self._margin, LONGEST) / FRAME)
        ends = (lengths.to(self._device, non_blocking=True) + self._margin + FRAME - 1) // FRAME
        keep = torch.arange(frames, device=self._device) < ends[:, None]
        with torch.autocast(self._device.type, enabled=False):
            mel = self._mel(functional.pad(signal.float(), (0, frames * FRAME - samples)))
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda")
        # Not cuDNN's kernel, which is prepared for each shape anew.
        with half, sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            features = self._encoder(mel, keep, self._layer)
        return features[:, : math.ceil(samples / FRAME)].float()

    def _mel(self, signal: Tensor) -> Tensor:
        """``(batch, mels, samples / 160)``: decimal logarithms, of each item the loudest 80 dB."""
        spectrum = torch.stft(signal, _POINTS, HOP, window=self._window, return_complex=True)[..., :-1]
        mel = (self._filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4


def _filters(mels: int) -> Tensor:
    """``(mels, 201)``: triangles of the same area."""
    points = torch.tensor(mel_points(mels))[:, None]
    low, middle, high = points[:-2], points[1:-1], points[2:]
    frequencies = torch.linspace(0, RATE / 2, _POINTS // 2 + 1, dtype=points.dtype)
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()


def _number(file: BinaryIO, kind: str) -> int:
    size = struct.calcsize(kind)
    found: tuple[int] = struct.unpack(f"<{kind}", _bytes(file, size))
    return found[0]


def _bytes(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise ValueError("the file ends too early")
    return found


def _string(file: BinaryIO) -> str:
    return _bytes(file, _number(file, "H")).rstrip(b"\0").decode()


def read_model(path: Path) -> dict[str, Tensor]:
    """The variables of a model in CTranslate2's format, under its names, as they are stored; aliases included.

    Raises:
        ValueError: It is no Whisper in the version of the format that is known, or is cut off.
    """
    with path.open("rb") as file:
        if (version := _number(file, "I")) != _VERSION:
            raise ValueError(f"{path}: CTranslate2's format {version}, not {_VERSION}")
        if (name := _string(file)) != "WhisperSpec":
            raise ValueError(f"{path}: a {name}, not a WhisperSpec")
        _number(file, "I")  # revision of what the names mean, of the decoder's most of all
        found: dict[str, Tensor] = {}
        for _ in range(_number(file, "I")):
            name = _string(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            kind = _TYPES[_number(file, "B")]
            found[name] = torch.frombuffer(bytearray(_bytes(file, _number(file, "I"))), dtype=kind).view(shape)
        for _ in range(_number(file, "I")):
            alias = _string(file)
            found[alias] = found[_string(file)]
    return found


def encoder_weights(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights in float16, under the names that `Teacher` has for them.

    Integers are divided by their scales, of which there is one for each row or one for all.

    Raises:
        ValueError: The heads are not as wide as Whisper's.
    """
    made: dict[str, Tensor] = {}
    for own, value in variables.items():
        name = own.removeprefix("encoder/")
        if name == own or name.endswith("_scale") or name.split("/")[-1] not in _KEPT:
            continue
        if f"{own}_scale" in variables:
            scale = variables[f"{own}_scale"].float()
            value = value.float() / scale.view(-1, *[1] * (value.ndim - 1))  # noqa: PLW2901
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        made[name] = value.to(torch.float16)
    width, heads = len(made["norm.bias"]), int(variables["encoder/num_heads"])
    if width != heads * _HEAD:
        raise ValueError(f"{heads} heads of a width of {width}: not of {_HEAD} each")
    return made


def main() -> None:
    """``python -m training.teacher``: the encoder of Whisper, out of a model that CTranslate2 loads."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path, help="model.bin of a directory that faster-whisper loads")
    parser.add_argument("--out", type=Path, required=True, help="a file for safetensors")
    arguments = parser.parse_args()
    weights = encoder_weights(read_model(arguments.model))
    arguments.out.write_bytes(save(weights))
    print(f"{sum(value.numel() for value in weights.values()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
