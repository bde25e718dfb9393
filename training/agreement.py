"""Whether a converted checkpoint gives in parakeet-mlx what it gives here: the same features, the same tokens."""

import argparse
import json
import sys
from pathlib import Path

import torch

from .convert import from_mlx, read_weights
from .features import LogMel
from .network import Shape, Transducer, greedy
from .prepare import decoded
from .vocabulary import Vocabulary


def text_here(directory: Path, files: list[Path]) -> list[str]:
    """What the network of this recipe reads with a checkpoint of parakeet-mlx, in float32 and one pass a file."""
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
    model = Transducer(shape)
    model.load_state_dict(from_mlx(read_weights(directory / "model.safetensors")), strict=False)
    model.eval()
    features = LogMel(torch.device("cpu"), shape.mels)
    pieces = Vocabulary(directory / "config.json")
    texts: list[str] = []
    with torch.no_grad():
        for file in files:
            signal = torch.from_numpy(decoded(file)).float()[None] / 32768
            mel, frames = features(signal, torch.tensor([signal.shape[1]]), magnitude=False)
            encoded, _ = model.encoder(mel, frames)
            texts.append(pieces.decode([piece for piece, _ in greedy(model, encoded[0])]))
    return texts


def main() -> None:
    """``python -m training.agreement``: compare, and fail where a text differs."""
    from .evaluate import service, upstream  # noqa: PLC0415 - needs MLX

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("audio", type=Path, nargs="+", help="WAV files")
    parser.add_argument("--model", type=Path, required=True)
    arguments = parser.parse_args()
    here = text_here(arguments.model, arguments.audio)
    different = 0
    for name, read in (("service", service), ("parakeet-mlx", upstream)):
        for file, ours, theirs in zip(arguments.audio, here, read(arguments.model)(arguments.audio), strict=True):
            # The service leaves out what has no letter; parakeet-mlx writes it.
            if ours.replace("<unk>", "").split() != theirs.replace("<unk>", "").split():
                different += 1
                print(f"{file.name}\n  PyTorch: {ours}\n  {name}: {theirs}")
    print(f"{different} of {2 * len(here)} texts differ")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
