"""From a checkpoint on disk to an engine; its graphs are built the first time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxruntime import __version__ as runtime_version

from ...application.ports.speech_model import ModelDescription
from ...domain.errors import ModelLoadError
from ..inference.beam_search import SearchDecoder
from ..inference.checkpoint import Checkpoint
from ..inference.progress import Progress
from ..inference.searching import JobSearch
from ..inference.vocabulary import Vocabulary, languages_of
from .architecture import Architecture, architecture_of
from .build import BUILDER_VERSION, ENCODER, JOINT, PREDICTION, Precision, build
from .cache import cached
from .engine import OnnxEngine
from .fingerprint import fingerprint
from .greedy import GreedyDecoder
from .log_mel import LogMel
from .networks import EncoderNetwork, ReadingNetwork, TransducerNetworks
from .providers import CPU
from .saturation import saturates
from .sessions import check_providers, open_session
from .transcription import CtcTranscription, Transcription, TransducerTranscription


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
    progress: Progress | None = None,
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
        progress: Is told how much has been built; nothing, if the cache has all.

    Raises:
        ModelLoadError: The model is not one that this engine runs, or the cache cannot be written.
    """
    check_providers(providers)
    architecture = architecture_of(model_id, config)
    top = 127 if precision == "int8" and saturates() else 255

    told = progress or Progress()

    def fill(directory: Path) -> None:
        told.begin("building", model_id, weights.stat().st_size)
        try:
            build(directory, architecture, weights, precision=precision, top=top, on_read=told.add)
        finally:
            told.end()

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


def load_engine(
    checkpoint: Checkpoint,
    *,
    precision: Precision,
    cache: Path,
    threads: int,
    providers: Sequence[str] = (CPU,),
    progress: Progress | None = None,
) -> OnnxEngine:
    """Load an engine; see `load`.

    Raises:
        ModelLoadError: The model is not one that this engine runs, or the cache cannot be written.
    """
    networks = load(
        checkpoint.model_id,
        checkpoint.config,
        checkpoint.weights,
        precision=precision,
        cache=cache,
        threads=threads,
        providers=providers,
        progress=progress,
    )
    architecture = networks.architecture
    try:
        features = LogMel(architecture.features)
    except ValueError as error:
        raise ModelLoadError(f"{checkpoint.model_id!r} cannot be used: {error}") from error
    vocabulary = Vocabulary(architecture.vocabulary, frame_s=architecture.frame_s)
    transcription = _transcription(networks, vocabulary)
    description = _described(checkpoint, architecture, precision, networks.encoder.providers)
    return OnnxEngine(
        replace(description, searches=transcription.can_search),
        features,
        networks.encoder,
        transcription,
        frame_s=architecture.frame_s,
    )


def _transcription(networks: Networks, vocabulary: Vocabulary) -> Transcription:
    args = networks.architecture.transducer
    if networks.transducer is None or args is None:
        return CtcTranscription(vocabulary)
    greedy = GreedyDecoder(networks.transducer, args, networks.architecture.blank)
    search = SearchDecoder(
        ReadingNetwork(networks.transducer, networks.architecture.blank),
        durations=args.durations,
        most_repeats=args.max_symbols,
        start=greedy.start,
    )
    return TransducerTranscription(greedy, JobSearch(search, vocabulary), vocabulary)


def _described(
    checkpoint: Checkpoint, architecture: Architecture, precision: Precision, providers: Sequence[str]
) -> ModelDescription:
    card = checkpoint.card
    position_limit_s = architecture.encoder.pos_emb_max_len * architecture.frame_s
    on_cpu = providers[0] == CPU
    return ModelDescription(
        id=checkpoint.model_id,
        architecture=architecture.kind,
        languages=languages_of(architecture.vocabulary) if card.languages is None else card.languages,
        precision=precision,
        compute="int8" if precision == "int8" else "float32",
        device="cpu" if on_cpu else f"gpu ({providers[0].removesuffix('ExecutionProvider')})",
        blas=f"ONNX Runtime {runtime_version}" if on_cpu else None,
        sample_rate_hz=architecture.features.sample_rate,
        max_window_s=position_limit_s if card.max_window_s is None else card.max_window_s,
        note=card.note,
        engine="onnx",
    )
