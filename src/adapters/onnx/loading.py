"""From a checkpoint on disk to networks that run; the graphs are built the first time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...domain.errors import ModelLoadError
from .architecture import Architecture, architecture_of
from .build import BUILDER_VERSION, ENCODER, JOINT, PREDICTION, Precision, build
from .cache import cached
from .fingerprint import fingerprint
from .networks import EncoderNetwork, TransducerNetworks
from .saturation import saturates
from .sessions import CPU, check_providers, open_session


@dataclass(frozen=True, slots=True)
class Networks:
    """A loaded model. `transducer` is ``None`` for CTC."""

    architecture: Architecture
    encoder: EncoderNetwork
    transducer: TransducerNetworks | None


def load(
    model_id: str,
    config: Mapping[str, Any],
    weights: Path,
    *,
    precision: Precision,
    cache: Path,
    threads: int,
    providers: Sequence[str] = (CPU,),
    on_progress: Callable[[float], None] = lambda _: None,
) -> Networks:
    """Load a model, and build its graphs first if the cache does not have them.

    Args:
        model_id: What the user calls it, for messages.
        config: The contents of its ``config.json``.
        weights: Its ``model.safetensors``.
        precision: Of the weights.
        cache: Directory in which built graphs are kept.
        threads: How many run the encoder.
        providers: See `open_session`; they run the encoder.
        on_progress: Is told how much has been built, from 0 to 1; never, if nothing is.

    Raises:
        ModelLoadError: The model is not one that this engine runs, or the cache cannot be written.
    """
    check_providers(providers)
    architecture = architecture_of(model_id, config)
    top = 127 if precision == "int8" and saturates() else 255

    def fill(directory: Path) -> None:
        build(directory, architecture, weights, precision=precision, top=top, on_progress=on_progress)

    try:
        key = fingerprint(config, weights, cache, BUILDER_VERSION, precision, top)
    except OSError as error:
        raise ModelLoadError(f"{weights} cannot be read, or {cache} not written: {error}") from error
    directory = cached(cache, key, fill)
    encoder = EncoderNetwork(
        open_session(directory / ENCODER, threads=threads, providers=providers),
        stages=architecture.encoder.stages,
        width=architecture.encoder.d_model,
    )
    if architecture.transducer is None:
        return Networks(architecture, encoder, None)
    # Steps of a few rows: to wake a second thread takes longer than it saves.
    prediction, joint = (open_session(directory / name, threads=1) for name in (PREDICTION, JOINT))
    return Networks(architecture, encoder, TransducerNetworks(prediction, joint))
