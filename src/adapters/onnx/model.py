"""A Parakeet model on ONNX Runtime, as the SpeechModel port."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import StreamContext
from ...domain.errors import ModelLoadError
from ..inference.checkpoint import Download, Precision, locate
from ..inference.cores import usable_cores
from ..inference.engine import Engine
from ..inference.model import EngineModel
from .cache import default_cache
from .sessions import CPU

_log = structlog.get_logger()

_TOLD_EVERY_S = 3.0


def onnx_model(
    *,
    model_id: str,
    precision: Precision,
    offline: bool,
    sample_rate_hz: int,
    batch_size: int | None,
    most_waiting: int | None,
    most_streams: int,
    cache: Path | None = None,
    providers: Sequence[str] = (CPU,),
    context: StreamContext | None = None,
    longest_window_s: float = 30.0,
    metrics: ModelMetrics | None = None,
) -> EngineModel:
    """The model, not loaded yet.

    Args:
        model_id: ``embedded``, a directory, or a Hub id.
        precision: Of the weights; int4 is refused when the model is loaded.
        offline: Never ask the Hub.
        sample_rate_hz: See `EngineModel`, like those that are not named here.
        batch_size: See there.
        most_waiting: See there.
        most_streams: See there.
        cache: Directory in which built graphs are kept; by default where this system keeps such things.
        providers: ONNX Runtime's names of what may run the encoder, the preferred first.
        context: See there.
        longest_window_s: See there.
        metrics: See there.
    """
    download = Download()
    return EngineModel(
        partial(
            _load,
            model_id,
            download,
            precision=precision,
            offline=offline,
            cache=cache,
            providers=tuple(providers),
        ),
        sample_rate_hz=sample_rate_hz,
        batch_size=batch_size,
        most_waiting=most_waiting,
        most_streams=most_streams,
        context=context,
        longest_window_s=longest_window_s,
        metrics=metrics,
        download=download,
    )


def _load(
    model_id: str,
    download: Download,
    *,
    precision: Precision,
    offline: bool,
    cache: Path | None,
    providers: Sequence[str],
) -> Engine:
    if precision == "int4":
        raise ModelLoadError("The ONNX engine has no int4; it has int8, bf16 and fp32.")
    # Imported here: `onnx` takes a third of a second, which who does not load a model need not wait for.
    from .loading import load_engine  # noqa: PLC0415

    return load_engine(
        locate(model_id, offline=offline, download=download),
        precision=precision,
        cache=cache or default_cache(),
        # The event loop and the detector need one, too.
        threads=max(1, usable_cores() - 1),
        providers=providers,
        on_progress=_Progress(model_id),
    )


class _Progress:
    """Logs the building of a model's graphs: that it began, and every few seconds how far it is."""

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id
        self._next_s = 0.0

    def __call__(self, share: float) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _TOLD_EVERY_S
            _log.info("building_graphs", model=self._model_id, done=f"{share:.0%}")
