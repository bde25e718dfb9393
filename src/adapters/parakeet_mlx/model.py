"""A Parakeet model by parakeet-mlx, as the SpeechModel port."""

import os
from functools import partial

import structlog

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import StreamContext
from ..inference.checkpoint import Precision, locate
from ..inference.engine import Engine
from ..inference.model import EngineModel
from ..inference.progress import Progress
from . import blas

_log = structlog.get_logger()

_PLANS = {
    "MLX_CUDA_SDPA_CACHE_SIZE": 1 << 10,
    "MLX_CUDA_CONV_CACHE_SIZE": 1 << 13,
    "MLX_CUDA_FFT_CACHE_SIZE": 1 << 10,
    "MLX_CUDA_GRAPH_CACHE_SIZE": 1 << 15,
}
"""How many plans MLX keeps on CUDA, which reads these variables when it starts: enough for every shape of a batch. With
its own numbers it forgets plans that will be needed again, and making one takes most of a second."""


def parakeet_mlx_model(
    *,
    model_id: str,
    precision: Precision,
    offline: bool,
    sample_rate_hz: int,
    batch_size: int | None,
    cache_limit_bytes: int | None,
    most_waiting: int | None,
    most_streams: int,
    context: StreamContext | None = None,
    longest_window_s: float = 30.0,
    metrics: ModelMetrics | None = None,
) -> EngineModel:
    """The model, not loaded yet.

    Args:
        model_id: ``embedded``, a directory, or a Hub id.
        precision: Of the weights.
        offline: Never ask the Hub.
        sample_rate_hz: See `EngineModel`, like all that follow but for `cache_limit_bytes`.
        batch_size: See there.
        cache_limit_bytes: What MLX may keep of freed buffers; by default as much as suits the device.
        most_waiting: See there.
        most_streams: See there.
        context: See there.
        longest_window_s: See there.
        metrics: See there.
    """
    progress = Progress()
    return EngineModel(
        partial(_load, model_id, progress, precision=precision, offline=offline, cache_limit_bytes=cache_limit_bytes),
        sample_rate_hz=sample_rate_hz,
        batch_size=batch_size,
        most_waiting=most_waiting,
        most_streams=most_streams,
        context=context,
        longest_window_s=longest_window_s,
        metrics=metrics,
        progress=progress,
    )


def _load(
    model_id: str, progress: Progress, *, precision: Precision, offline: bool, cache_limit_bytes: int | None
) -> Engine:
    checkpoint = locate(model_id, offline=offline, progress=progress)
    for name, plans in _PLANS.items():
        os.environ.setdefault(name, str(plans))
    if precision == "fp32":
        # Likewise. Otherwise it rounds the factors of products to 10 bits on CUDA, and a text depends on its company: of 96
        # windows, alone and together, 93 read alike, and all of them without.
        os.environ.setdefault("MLX_ENABLE_TF32", "0")
    chosen = blas.preload()
    if chosen is not None and chosen.slow:
        _log.warning("slow_blas", blas=chosen.name, hint="install the wheel scipy-openblas32, or libopenblas")
    from .loading import load_engine  # noqa: PLC0415 - importing MLX binds its BLAS and, on Metal, its thread

    return load_engine(checkpoint, precision=precision, blas=chosen, cache_limit_bytes=cache_limit_bytes)
