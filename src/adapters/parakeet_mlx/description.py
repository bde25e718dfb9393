"""The description of a loaded model."""

import mlx.core as mx
from parakeet_mlx.parakeet import BaseParakeet

from ...application.ports.speech_model import ModelDescription
from ..inference.checkpoint import Checkpoint, Precision
from ..inference.vocabulary import languages_of
from .blas import Blas

_CPU_BATCH = 4
_GPU_BATCH = 64
_CPU_PAUSE_S = 0.8
_GPU_PAUSE_S = 2.0
"""A GPU reads one window of 10 s in the time of one of 2 s: few long ones are better than many short ones."""


def describe(
    model: BaseParakeet,
    checkpoint: Checkpoint,
    precision: Precision,
    dtype: mx.Dtype,
    blas: Blas | None,
    *,
    on_gpu: bool,
    searches: bool,
) -> ModelDescription:
    """Describe `model`; `dtype` is the format in which it computes."""
    card = checkpoint.card
    position_limit_s = model.encoder_config.pos_emb_max_len * model.time_ratio
    backend = "Metal" if mx.metal.is_available() else "CUDA"
    return ModelDescription(
        id=checkpoint.model_id,
        architecture=type(model).__name__.removeprefix("Parakeet").lower(),
        languages=languages_of(model.vocabulary) if card.languages is None else card.languages,
        precision=precision,
        compute="bfloat16" if dtype == mx.bfloat16 else "float32",
        device=f"gpu ({backend})" if on_gpu else "cpu",
        blas=blas.name if blas is not None and not on_gpu else None,
        sample_rate_hz=model.preprocessor_config.sample_rate,
        max_window_s=position_limit_s if card.max_window_s is None else card.max_window_s,
        searches=searches,
        batch_size=_GPU_BATCH if on_gpu else _CPU_BATCH,
        pause_s=_GPU_PAUSE_S if on_gpu else _CPU_PAUSE_S,
        note=card.note,
        engine="mlx",
    )
