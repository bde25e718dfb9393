"""Checkpoints that cannot be used are refused in one sentence, when the model is loaded or warmed up."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import pytest

from parakeet_service.adapters.inference.checkpoint import locate
from parakeet_service.adapters.inference.engine import Engine
from parakeet_service.adapters.inference.model import EngineModel
from parakeet_service.adapters.parakeet_mlx.model import parakeet_mlx_model
from parakeet_service.domain.errors import ModelLoadError

EMBEDDED = locate("embedded", offline=True)


def changed(path: str, value: object) -> dict[str, Any]:
    """The embedded model's configuration with another value; ``...`` takes the value away."""
    config = deepcopy(EMBEDDED.config)
    *parents, name = path.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    if value is ...:
        del section[name]
    else:
        section[name] = value
    return config


async def refusal(directory: Path, config: object, weights: Path = EMBEDDED.weights) -> str:
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if weights.parent != directory:
        (directory / "model.safetensors").symlink_to(weights)
    model = model_in(directory)
    with pytest.raises(ModelLoadError) as refused:
        await model.start()
    with pytest.raises(ModelLoadError):
        model.describe()
    await model.aclose()
    message = refused.value.message
    assert str(directory) in message
    assert "\n" not in message
    return message.partition("can be used: ")[2] or message


def model_in(directory: Path) -> EngineModel:
    return parakeet_mlx_model(
        model_id=str(directory),
        precision="fp32",
        offline=True,
        sample_rate_hz=16000,
        batch_size=1,
        cache_limit_bytes=256 << 20,
        most_waiting=1,
        most_streams=1,
    )


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        # What dacite, parakeet-mlx and MLX refuse to build:
        ("target", "another.Model", "Model is not supported yet!"),
        ("encoder", ..., "missing value"),
        ("encoder.d_model", "wide", "wrong value type"),
        ("encoder.d_model", 0, "division by zero"),
        ("encoder.d_model", -1, "out of range"),
        ("encoder.d_model", 1 << 70, "incompatible function arguments"),
        ("encoder.n_heads", 0, "modulo by zero"),
        ("encoder.subsampling", "another", "haven't been implemented"),
        ("encoder.self_attention_model", "rel_pos_local_attn", "Negative dimensions"),
        ("decoder.vocab_size", 1 << 40, "outside the supported range"),
        ("decoding.model_type", "rnnt", "must be a TDT model"),
        ("model_defaults", [], "no attribute 'get'"),
        # What does not fit the weights:
        ("joint.num_classes", 3, "Expected shape"),
        ("encoder.n_layers", 1, "parameters not in model"),
        # What they take, and we do not:
        ("preprocessor.window_stride", 0, "window_stride of 0"),
        ("preprocessor.window_stride", -1, "window_stride of -1"),
        ("preprocessor.window_stride", float("nan"), "window_stride of nan"),
        ("preprocessor.window_size", 0, "window_size of 0"),
        ("preprocessor.window_size", 1, "window_size of 1"),
        ("preprocessor.window", "another", "unknown window"),
        ("preprocessor.features", 40, "40 features"),
        ("joint.vocabulary", [], "1030 outputs"),
        ("decoding.durations", [], "1030 outputs"),
        ("decoding.durations", [-1, 0, 1, 2, 3], "durations"),
        ("decoding.greedy.max_symbols", "many", "max_symbols"),
        ("decoding.greedy.max_symbols", -1, "max_symbols"),
    ],
)
async def test_refuses_a_configuration_with_a_wrong_value(
    tmp_path: Path, path: str, value: object, reason: str
) -> None:
    assert reason in await refusal(tmp_path, changed(path, value))


@pytest.mark.parametrize("length", [0, 100, 100_000, EMBEDDED.weights.stat().st_size - 10])
async def test_refuses_weights_that_are_cut_short(tmp_path: Path, length: int) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(EMBEDDED.weights.read_bytes()[:length])
    assert await refusal(tmp_path, EMBEDDED.config, weights)


@pytest.mark.parametrize("content", [b"garbage" * 100, (10).to_bytes(8, "little") + b"{]]]]]]]]]"])
async def test_refuses_a_file_that_holds_no_weights(tmp_path: Path, content: bytes) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(content)
    assert await refusal(tmp_path, EMBEDDED.config, weights)


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("encoder.layers.3", "not finite for a test signal"),
        ("decoder.prediction.dec_rnn", "weights of the decoder that are not finite"),
        ("joint.pred", "weights of the joint network that are not finite"),
    ],
)
async def test_refuses_weights_that_are_not_finite(tmp_path: Path, which: str, reason: str) -> None:
    weights = cast("dict[str, mx.array]", mx.load(str(EMBEDDED.weights)))
    spoilt = {
        name: weight * mx.array(float("nan")) if name.startswith(which) else weight for name, weight in weights.items()
    }
    path = tmp_path / "model.safetensors"
    mx.save_safetensors(str(path), spoilt)  # pyright: ignore[reportUnknownMemberType] - its stub has no types
    assert reason in await refusal(tmp_path, EMBEDDED.config, path)


class DefectError(Exception):
    """Ours."""


@pytest.mark.parametrize("error", [RuntimeError, AssertionError, DefectError])
async def test_a_defect_of_an_engine_is_not_taken_for_a_bad_checkpoint(error: type[Exception]) -> None:
    def load() -> Engine:
        raise error

    model = EngineModel(load, sample_rate_hz=16000, batch_size=1, most_waiting=1, most_streams=1)
    with pytest.raises(error):
        await model.start()
    await model.aclose()
