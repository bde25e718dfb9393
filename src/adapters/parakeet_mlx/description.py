"""What is told of a loaded model."""

import re
from collections.abc import Sequence

import mlx.core as mx
from parakeet_mlx import ParakeetRNNT, ParakeetTDT
from parakeet_mlx.parakeet import BaseParakeet

from ...application.ports.speech_model import ModelDescription
from ..inference.checkpoint import Checkpoint, Precision
from .blas import Blas


def describe(
    model: BaseParakeet,
    checkpoint: Checkpoint,
    precision: Precision,
    dtype: mx.Dtype,
    blas: Blas | None,
    *,
    on_gpu: bool,
) -> ModelDescription:
    """Say what `model` is; `dtype` is the format in which it computes."""
    own = checkpoint.config.get("parakeet_service", {})
    position_limit_s = model.encoder_config.pos_emb_max_len * model.time_ratio
    backend = "Metal" if mx.metal.is_available() else "CUDA"
    return ModelDescription(
        id=checkpoint.model_id,
        architecture=type(model).__name__.removeprefix("Parakeet").lower(),
        languages=tuple(own.get("languages", _languages(model.vocabulary))),
        precision=precision,
        compute="bfloat16" if dtype == mx.bfloat16 else "float32",
        device=f"gpu ({backend})" if on_gpu else "cpu",
        blas=blas.name if blas is not None and not on_gpu else None,
        sample_rate_hz=model.preprocessor_config.sample_rate,
        max_window_s=float(own.get("max_window_s", position_limit_s)),
        searches=isinstance(model, ParakeetTDT | ParakeetRNNT),
        note=own.get("note"),
    )


def _languages(vocabulary: Sequence[str]) -> tuple[str, ...]:
    """Multilingual checkpoints name their languages by control tokens such as ``<|de|>``; the others are English."""
    named = {match[1] for piece in vocabulary if (match := re.fullmatch(r"<\|([a-z]{2})\|>", piece))}
    return tuple(sorted(named)) or ("en",)
