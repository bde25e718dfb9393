"""From the state of training to the two files that parakeet-mlx loads, and back."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from .network import Shape

_RENAMED = (
    ("decoder.dec_rnn.weight_ih_l0", "decoder.prediction.dec_rnn.lstm.0.Wx"),
    ("decoder.dec_rnn.weight_hh_l0", "decoder.prediction.dec_rnn.lstm.0.Wh"),
    ("decoder.embed.weight", "decoder.prediction.embed.weight"),
    ("joint.joint_net.", "joint.joint_net.2."),
)


def to_mlx(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under parakeet-mlx's names, in its order of axes, in float16.

    Kernels go from (out, in, places ...) to (out, places ..., in); the two biases of the LSTM become one; the heads
    that only training uses stay behind.
    """
    made: dict[str, Tensor] = {}
    for own, tensor in state.items():
        name, value = own, tensor
        if name.startswith(("ctc.", "pupil.")):
            continue
        if name == "decoder.dec_rnn.bias_ih_l0":
            name, value = "decoder.prediction.dec_rnn.lstm.0.bias", value + state["decoder.dec_rnn.bias_hh_l0"]
        elif name == "decoder.dec_rnn.bias_hh_l0":
            continue
        for ours, theirs in _RENAMED:
            name = name.replace(ours, theirs)
        if ".conv" in name and value.ndim >= 3:
            value = value.movedim(1, -1)
        made[name] = value.to(torch.float16).contiguous()
    return made


def from_mlx(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `to_mlx` made, as a state to begin training with; without training's own heads."""
    state: dict[str, Tensor] = {}
    for own, tensor in weights.items():
        name, value = own, tensor.float()
        for ours, theirs in _RENAMED:
            name = name.replace(theirs, ours)
        if ".conv" in name and value.ndim >= 3:
            value = value.movedim(-1, 1).contiguous()
        if name == "decoder.prediction.dec_rnn.lstm.0.bias":
            state["decoder.dec_rnn.bias_ih_l0"] = value
            state["decoder.dec_rnn.bias_hh_l0"] = torch.zeros_like(value)
        else:
            state[name] = value
    return state


def configuration(shape: Shape, vocabulary: list[str], service: dict[str, Any]) -> dict[str, Any]:
    """`config.json` as parakeet-mlx reads it; `service` is the section that is ours.

    Args:
        shape: Of the network.
        vocabulary: Its sub-words, without the blank.
        service: ``longest_window_s`` and what else the service is to know.
    """
    durations = list(shape.durations)
    return {
        "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
        "model_defaults": {"tdt_durations": durations},
        "preprocessor": {
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": shape.mels,
            "n_fft": 512,
            "dither": 0.0,
        },
        "encoder": {
            "feat_in": shape.mels,
            "n_layers": shape.layers,
            "d_model": shape.width,
            "n_heads": shape.heads,
            "ff_expansion_factor": shape.expansion,
            "subsampling_factor": 8,
            "self_attention_model": "rel_pos",
            "subsampling": "dw_striding",
            "conv_kernel_size": shape.kernel,
            "subsampling_conv_channels": shape.channels,
            "pos_emb_max_len": 5000,
            "use_bias": False,
            "xscaling": False,
        },
        "decoder": {
            "blank_as_pad": True,
            "vocab_size": shape.vocabulary,
            "prednet": {"pred_hidden": shape.width, "pred_rnn_layers": 1},
        },
        "joint": {
            "num_classes": shape.vocabulary,
            "vocabulary": vocabulary,
            "num_extra_outputs": len(durations),
            "jointnet": {
                "joint_hidden": shape.width,
                "activation": "relu",
                "encoder_hidden": shape.width,
                "pred_hidden": shape.width,
            },
        },
        "decoding": {"model_type": "tdt", "durations": durations, "greedy": {"max_symbols": 10}},
        "parakeet_service": service,
    }


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    return load_file(path)


def main() -> None:
    """``python -m training.convert``: a checkpoint of training to a directory for MODEL_ID."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="+", help="one, or several that are to be averaged")
    parser.add_argument("--like", type=Path, help="config.json whose section parakeet_service is taken over")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    loaded = [torch.load(path, map_location="cpu", weights_only=True) for path in arguments.checkpoint]
    names = loaded[0]["average"].keys()
    state = {name: sum(item["average"][name].float() for item in loaded) / len(loaded) for name in names}
    service = json.loads(arguments.like.read_text(encoding="utf-8"))["parakeet_service"] if arguments.like else {}
    shape = Shape(**{**loaded[0]["shape"], "durations": tuple(loaded[0]["shape"]["durations"])})
    arguments.out.mkdir(parents=True, exist_ok=True)
    config = configuration(shape, loaded[0]["vocabulary"], service)
    text = json.dumps(config, indent=1, ensure_ascii=False) + "\n"
    (arguments.out / "config.json").write_text(text, encoding="utf-8")
    # Not by `save_file`: what that writes no one but its owner may read.
    (arguments.out / "model.safetensors").write_bytes(save(to_mlx(state)))


if __name__ == "__main__":
    main()
