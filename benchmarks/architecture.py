"""The architecture of parakeet-tdt-0.6b-v2 with random weights: as fast or slow as the model, without its download."""

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType] - its stub has no types
from parakeet_mlx import ParakeetTDT
from parakeet_mlx.utils import from_config

_TOKENS = 1024
_WIDTH = 640
_DURATIONS = [0, 1, 2, 3, 4]


def save_random_0_6b(directory: Path) -> Path:
    """Write ``config.json`` and ``model.safetensors`` (bf16, 1.2 GB), unless they are there, and give the directory."""
    if (directory / "model.safetensors").is_file():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    config = _config()
    mx.random.seed(0)
    model = cast("ParakeetTDT", from_config(config))
    # Every step emits a token, and each takes two frames: the decoder makes as many steps as it does for speech.
    bias = mx.zeros(_TOKENS + 1 + len(_DURATIONS))
    bias[_TOKENS + 1 + _DURATIONS.index(2)] = 10
    model.joint.joint_net[-1].bias = bias
    model.set_dtype(mx.bfloat16)
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(directory / "model.safetensors"), weights)  # pyright: ignore[reportUnknownMemberType]
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def _config() -> dict[str, Any]:
    return {
        "target": "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel",
        "model_defaults": {"tdt_durations": _DURATIONS},
        "preprocessor": {
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": 128,
            "n_fft": 512,
            "dither": 0.0,
        },
        "encoder": {
            "feat_in": 128,
            "n_layers": 24,
            "d_model": 1024,
            "n_heads": 8,
            "ff_expansion_factor": 4,
            "subsampling_factor": 8,
            "self_attention_model": "rel_pos",
            "subsampling": "dw_striding",
            "conv_kernel_size": 9,
            "subsampling_conv_channels": 256,
            "pos_emb_max_len": 5000,
            "use_bias": False,
            "xscaling": False,
        },
        "decoder": {
            "blank_as_pad": True,
            "vocab_size": _TOKENS,
            "prednet": {"pred_hidden": _WIDTH, "pred_rnn_layers": 2},
        },
        "joint": {
            "num_classes": _TOKENS,
            "num_extra_outputs": len(_DURATIONS),
            "vocabulary": [f"▁w{number}" for number in range(_TOKENS)],
            "jointnet": {
                "joint_hidden": _WIDTH,
                "activation": "relu",
                "encoder_hidden": 1024,
                "pred_hidden": _WIDTH,
            },
        },
        "decoding": {"model_type": "tdt", "durations": _DURATIONS, "greedy": {"max_symbols": 10}},
    }
