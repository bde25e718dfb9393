"""Small checkpoints with random weights, and stretches of speech."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType] - its stub has no types
from parakeet_mlx.parakeet import BaseParakeet
from parakeet_mlx.utils import from_config

from parakeet_service.adapters.inference.checkpoint import Checkpoint, ModelCard, locate
from parakeet_service.domain.audio import Samples

RATE_HZ = 16000


def clip_of(random: np.random.Generator, speech: Samples, *, shortest_s: float, longest_s: float) -> Samples:
    """A stretch of speech that begins and ends anywhere."""
    length = int(random.integers(int(shortest_s * RATE_HZ), int(longest_s * RATE_HZ)))
    start = int(random.integers(0, len(speech) - length))
    return speech[start : start + length]


def small_config(**encoder: object) -> dict[str, Any]:
    """The embedded model's, with two layers."""
    config = deepcopy(locate("embedded", offline=True).config)
    config["encoder"] |= {"n_layers": 2, "d_model": 64, "subsampling_conv_channels": 32, **encoder}
    config["joint"]["jointnet"]["encoder_hidden"] = 64
    return config


def random_model(config: dict[str, Any]) -> BaseParakeet:
    """A model with random weights, in all of it, the normalisations included."""
    mx.random.seed(3)
    model = from_config(deepcopy(config))
    random = np.random.default_rng(8)
    weights = cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))
    lively: list[tuple[str, mx.array]] = []
    for name, weight in weights:
        if name.endswith("running_var"):
            numbers = random.uniform(0.5, 2, weight.shape)
        elif ".norm_" in name or "batch_norm" in name:
            numbers = (1.0 if name.endswith("weight") else 0.0) + random.normal(0, 0.2, weight.shape)
        elif name.endswith("bias") or "pos_bias" in name:
            numbers = random.normal(0, 0.2, weight.shape)
        else:
            continue
        lively.append((name, mx.array(numbers.astype(np.float32))))
    model.load_weights(lively, strict=False)
    return model


def save(model: BaseParakeet, config: dict[str, Any], directory: Path) -> Checkpoint:
    """Write a model as a checkpoint."""
    weights: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(directory / "model.safetensors"), weights)  # pyright: ignore[reportUnknownMemberType]
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Checkpoint(str(directory), config, ModelCard(), directory / "model.safetensors")
