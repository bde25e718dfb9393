"""A Parakeet model on ONNX Runtime, as the SpeechModel port."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import StreamContext
from ...domain.errors import ModelLoadError
from ..inference.checkpoint import Precision, locate
from ..inference.cores import usable_cores
from ..inference.engine import Engine
from ..inference.model import EngineModel
from ..inference.progress import Progress
from .cache import default_cache
from .providers import CPU


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
    progress = Progress()
    return EngineModel(
        partial(
            _load,
            model_id,
            progress,
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
        progress=progress,
    )


def threads_on(cores: int) -> int:
    """How many compute: all but one, which the event loop and the detector need, too; of two, both.

    They wait without spinning, so they keep no core from others. OpenBLAS, whose threads spin, leaves one in any case.
    """
    return max(min(cores, 2), cores - 1)


def _load(
    model_id: str,
    progress: Progress,
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
        locate(model_id, offline=offline, progress=progress),
        precision=precision,
        cache=cache or default_cache(),
        threads=threads_on(usable_cores()),
        providers=providers,
        progress=progress,
    )
