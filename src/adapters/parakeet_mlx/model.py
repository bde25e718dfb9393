"""A Parakeet model by parakeet-mlx, as the SpeechModel port."""

from functools import partial

import structlog

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import StreamContext
from ..inference.checkpoint import Precision, locate
from ..inference.engine import Engine
from ..inference.model import EngineModel
from . import blas

_log = structlog.get_logger()


def parakeet_mlx_model(
    *,
    model_id: str,
    precision: Precision,
    offline: bool,
    sample_rate_hz: int,
    batch_size: int,
    cache_limit_bytes: int,
    most_waiting: int,
    most_streams: int,
    context: StreamContext | None = None,
    metrics: ModelMetrics | None = None,
) -> EngineModel:
    """The model, not loaded yet.

    Args:
        model_id: ``embedded``, a directory, or a Hub id.
        precision: Of the weights.
        offline: Never ask the Hub.
        sample_rate_hz: See `EngineModel`, like all that follow but for `cache_limit_bytes`.
        batch_size: See there.
        cache_limit_bytes: What MLX may keep of freed buffers.
        most_waiting: See there.
        most_streams: See there.
        context: See there.
        metrics: See there.
    """
    return EngineModel(
        partial(_load, model_id, precision=precision, offline=offline, cache_limit_bytes=cache_limit_bytes),
        sample_rate_hz=sample_rate_hz,
        batch_size=batch_size,
        most_waiting=most_waiting,
        most_streams=most_streams,
        context=context,
        metrics=metrics,
    )


def _load(model_id: str, *, precision: Precision, offline: bool, cache_limit_bytes: int) -> Engine:
    checkpoint = locate(model_id, offline=offline)
    chosen = blas.preload()
    if chosen is not None and chosen.slow:
        _log.warning("slow_blas", blas=chosen.name, hint="install the wheel scipy-openblas32, or libopenblas")
    from .loading import load_engine  # noqa: PLC0415 - importing MLX binds its BLAS and, on Metal, its thread

    return load_engine(checkpoint, precision=precision, blas=chosen, cache_limit_bytes=cache_limit_bytes)
