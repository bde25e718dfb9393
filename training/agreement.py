"""Whether a converted checkpoint gives in MLX what it gives here: the same features, the same text."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .convert import from_mlx, read_weights
from .features import LogMel
from .network import Shape, Transducer, greedy
from .prepare import decoded
from .vocabulary import Vocabulary

GIVEN, OWN = "parakeet-mlx, given these features", "parakeet-mlx, features of its own"


class Here:
    """The network of this recipe with a checkpoint of parakeet-mlx, in float32 and one pass a file."""

    def __init__(self, directory: Path) -> None:
        """Load it."""
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        encoder = config["encoder"]
        shape = Shape(
            mels=encoder["feat_in"],
            width=encoder["d_model"],
            layers=encoder["n_layers"],
            heads=encoder["n_heads"],
            expansion=encoder["ff_expansion_factor"],
            kernel=encoder["conv_kernel_size"],
            channels=encoder["subsampling_conv_channels"],
            vocabulary=config["decoder"]["vocab_size"],
            durations=tuple(config["model_defaults"]["tdt_durations"]),
        )
        self._model = Transducer(shape)
        self._model.load_state_dict(from_mlx(read_weights(directory / "model.safetensors")), strict=False)
        self._model.eval()
        self._features = LogMel(torch.device("cpu"), shape.mels)
        self._pieces = Vocabulary(directory / "config.json")

    def features(self, file: Path) -> Tensor:
        """Of shape ``(1, frames, mels)``."""
        signal = torch.from_numpy(decoded(file)).float()[None] / 32768
        return self._features(signal, torch.tensor([signal.shape[1]]), magnitude=False)[0]

    def text(self, features: Tensor) -> str:
        """What the network reads."""
        with torch.no_grad():
            encoded, _, _ = self._model.encoder(features, torch.tensor([features.shape[1]]))
            return self._pieces.decode([piece for piece, _ in greedy(self._model, encoded[0])])


def compared(directory: Path, files: list[Path]) -> Iterator[tuple[Path, str, dict[str, str]]]:
    """Each file, what is read here, and what others read.

    The service reads whole files in float32, as this network does. parakeet-mlx reads the features made here, since its
    own have a last frame made of whatever lies behind the audio in memory; and then its own.
    """
    import mlx.core as mx  # noqa: PLC0415 - has its place with the others' models
    from parakeet_mlx import from_pretrained  # noqa: PLC0415

    from .evaluate import service  # noqa: PLC0415

    here = Here(directory)
    upstream: Any = from_pretrained(str(directory), dtype=mx.float32)
    served = service(directory, VAD="none", MODEL_PRECISION="fp32")(files)
    for file, ours in zip(files, served, strict=True):
        features = here.features(file)
        given, own = upstream.generate(mx.array(features.numpy()))[0], upstream.transcribe(file)
        yield file, here.text(features), {"service": ours, GIVEN: str(given.text), OWN: str(own.text)}


def same(one: str, other: str) -> bool:
    """Whether two texts are, but for unknown pieces, which the service leaves out."""
    return one.replace("<unk>", "").split() == other.replace("<unk>", "").split()


def main() -> None:
    """``python -m training.agreement``: compare; fail where a text differs for another reason than features."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("audio", type=Path, nargs="+", help="WAV files of one window each")
    parser.add_argument("--model", type=Path, required=True)
    arguments = parser.parse_args()
    different: dict[str, int] = {}
    for file, here, others in compared(arguments.model, arguments.audio):
        for name, text in others.items():
            differs = not same(here, text)
            different[name] = different.get(name, 0) + differs
            if differs:
                print(f"{file.name}\n  PyTorch: {here}\n  {name}: {text[:500]}")
    for name, count in different.items():
        print(f"{name}: {count} of {len(arguments.audio)} texts differ")
    sys.exit(any(count for name, count in different.items() if name != OWN))


if __name__ == "__main__":
    main()
