"""Which adapter serves which port: typed factories, and the container that calls them."""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dependency_injector import containers, providers

from ..adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from ..adapters.decoders.pydub import PydubDecoder
from ..adapters.decoders.wave import WaveDecoder
from ..adapters.inference.cores import one_thread_for_numpy
from ..adapters.isolation.host import MakeModel
from ..adapters.isolation.model import IsolatedModel
from ..adapters.onnx.model import onnx_model
from ..adapters.parakeet_mlx.model import parakeet_mlx_model
from ..adapters.rate_limits import RateLimits
from ..adapters.ray.cluster import Cluster
from ..adapters.ray.model import ray_model
from ..adapters.soxr_resampler import SoxrResampler
from ..adapters.telemetry.prometheus import PrometheusMetrics
from ..adapters.vad.processes import ScoringProcesses
from ..adapters.vad.silero import SileroVad
from ..application.drain import Drain
from ..application.ports.audio_decoder import AudioDecoder
from ..application.ports.metrics import ClusterMetrics, TranscriptionMetrics
from ..application.ports.quota import Quota
from ..application.ports.resampler import Resampler
from ..application.ports.speech_model import SpeechModel, StreamContext
from ..application.ports.voice_activity_detector import VoiceActivityDetector
from ..application.ports.web_client import WebClient
from ..application.service import Service
from ..application.stream_session import StreamSession
from ..application.transcribe_file import FileLimits, TranscribeFile
from ..assets import SILERO_VAD
from ..config.logs import LogFormat, configure_logging
from ..config.settings import Settings
from ..entrypoints.wyoming.connection import Terms
from ..entrypoints.wyoming.server import WyomingServer
from .engines import blocks_heard, chosen_engine, vad_processes
from .garbage import collect_seldom
from .lifecycle import Lifecycle
from .web import web_client

if TYPE_CHECKING:
    from ..adapters.telemetry.opentelemetry import Tracing

_NO_BOUND = 1_000_000
"""Windows that may wait in a worker: the queue before all workers has the bound."""
_MODEL = "model.sock"
_BATCH_ENDS_S, _RAY_ENDS_S = 15.0, 60.0
"""How long the model's process may take to end: the batch that runs, and a Ray of its own with its workers."""
_FOR_EVER = (0.0, *(0.5 for _ in range(100_000)))
"""Whoever owns the model gives it up, and ends all."""
GRACE_S = 30.0
"""How long work in progress may take once a shutdown has begun."""


def quota(settings: Settings) -> Quota:
    """Rate limits, where they are set."""
    return RateLimits(
        requests=settings.rate_limit,
        audio_s=settings.audio_rate_limit,
        storage=settings.rate_limit_storage.get_secret_value(),
    )


def compressed_decoder(settings: Settings, resampler: Resampler) -> AudioDecoder:
    """What decodes everything but WAV."""
    ffmpeg = find_ffmpeg()
    match settings.audio_decoder:
        case "ffmpeg":
            return FfmpegDecoder(ffmpeg)
        case "pydub":
            return PydubDecoder(ffmpeg, resampler)


def audio_decoder(resampler: Resampler, compressed: AudioDecoder, tracing: "Tracing | None") -> AudioDecoder:
    """WAV without ffmpeg, all else with it."""
    decoder = WaveDecoder(resampler, compressed)
    return decoder if tracing is None else tracing.decoder(decoder)


def scoring_processes(settings: Settings) -> ScoringProcesses | None:
    """Where recordings are scored, if not in this process."""
    count = vad_processes(settings) if settings.vad == "silero" else 0
    return ScoringProcesses(count, SILERO_VAD, prepare=prepare_child(settings)) if count else None


def prepare_child(settings: Settings) -> Callable[[], None]:
    """What has a child process write its log lines and multiply as this one does; picklable."""
    return partial(
        _prepare_child,
        level=settings.log_level,
        log_format=settings.log_format,
        names_process=settings.http_processes > 1,
    )


def _prepare_child(*, level: str, log_format: LogFormat, names_process: bool) -> None:
    configure_logging(level=level, log_format=log_format, names_process=names_process)
    one_thread_for_numpy()
    collect_seldom()


def voice_activity_detector(settings: Settings, processes: ScoringProcesses | None) -> VoiceActivityDetector | None:
    """What tells speech from silence and noise, unless everything is to be transcribed."""
    match settings.vad:
        case "silero":
            # The model sees to that as well, but it may be in a process of its own.
            one_thread_for_numpy()
            return SileroVad(processes=processes)
        case "none":
            return None


def prometheus(common: Path | None) -> PrometheusMetrics:
    """What is counted, by this process or by all that have this directory in common."""
    return PrometheusMetrics(shared=common)


def speech_model(
    settings: Settings, metrics: ClusterMetrics, tracing: "Tracing | None", common: Path | None
) -> SpeechModel:
    """The recogniser, in this process or in one of its own; not loaded yet."""
    model = _speech_model(settings, metrics, None if common is None else str(common / _MODEL))
    return model if tracing is None else tracing.model(model)


def shared_model(metrics: ClusterMetrics, tracing: "Tracing | None", common: Path) -> SpeechModel:
    """The recogniser that another process of the service has."""
    model = IsolatedModel(None, path=str(common / _MODEL), metrics=metrics, pauses_s=_FOR_EVER)
    return model if tracing is None else tracing.model(model)


def _speech_model(settings: Settings, metrics: ClusterMetrics, path: str | None) -> SpeechModel:
    chosen = chosen_engine(settings)
    match chosen.name:
        case "mlx":
            make_any = partial(parakeet_mlx_model, cache_limit_bytes=settings.mlx_cache_limit)
        case "onnx":
            make_any = partial(onnx_model, cache=settings.cache_dir, providers=settings.onnx_providers)
    make = partial(
        make_any,
        model_id=settings.model_id,
        precision=chosen.precision,
        offline=settings.offline,
        sample_rate_hz=settings.target_sr,
        batch_size=settings.batch_size,
        most_waiting=settings.max_queue,
        most_streams=settings.max_streams,
        context=stream_context(settings),
        longest_window_s=max(settings.chunk_duration, settings.max_audio_duration),
    )
    on_ray = partial(
        ray_model,
        partial(make, most_waiting=_NO_BOUND),
        cluster(settings, on_gpus=chosen.on_gpu),
        sample_rate_hz=settings.target_sr,
        batch_size=settings.batch_size,
        most_waiting=settings.max_queue,
        most_streams=settings.max_streams,
    )
    home: MakeModel = on_ray if settings.cluster == "ray" else make
    if settings.isolation == "process" or path is not None:
        patience_s = _RAY_ENDS_S if settings.cluster == "ray" else _BATCH_ENDS_S
        return IsolatedModel(home, path=path, metrics=metrics, prepare=prepare_child(settings), patience_s=patience_s)
    return home(metrics=metrics)


def cluster(settings: Settings, *, on_gpus: bool) -> Cluster:
    """Where the workers are."""
    token = settings.cluster_token
    return Cluster(
        address=settings.ray_address,
        token=None if token is None else token.get_secret_value(),
        workers=settings.cluster_workers,
        on_gpus=on_gpus,
    )


def stream_context(settings: Settings) -> StreamContext:
    """How live streams are cut into windows, unless a client asks otherwise."""
    return StreamContext(
        left_s=settings.stream_left_context,
        chunk_s=settings.stream_chunk,
        right_s=settings.stream_right_context,
    )


def transcribe_file(
    settings: Settings,
    model: SpeechModel,
    decoder: AudioDecoder,
    detector: VoiceActivityDetector | None,
    quota: Quota,
    metrics: TranscriptionMetrics,
) -> TranscribeFile:
    """The use-case for recordings."""
    limits = FileLimits(
        longest_unchunked_s=settings.max_audio_duration,
        longest_s=settings.max_file_duration,
        window_s=settings.chunk_duration,
        overlap_s=settings.chunk_overlap,
        timeout_s=settings.processing_timeout,
        windows_ahead=settings.batch_size,
        blocks_heard=blocks_heard(),
    )
    return TranscribeFile(model, decoder, limits, detector, quota, metrics)


def stream_session(
    settings: Settings, model: SpeechModel, resampler: Resampler, detector: VoiceActivityDetector | None
) -> StreamSession:
    """The use-case for live audio."""
    return StreamSession(
        model=model,
        resampler=resampler,
        context=stream_context(settings),
        detector=detector,
        longest_window_s=settings.chunk_duration,
    )


def lifecycle(
    model: SpeechModel,
    detector: VoiceActivityDetector | None,
    processes: ScoringProcesses | None,
    stream_session: StreamSession,
    tracing: "Tracing | None",
) -> Lifecycle:
    """What starts and stops the service."""
    return Lifecycle(
        model=model,
        detector=detector,
        detector_processes=processes,
        stream_session=stream_session,
        on_stopped=None if tracing is None else tracing.close,
    )


def wyoming_server(settings: Settings) -> WyomingServer:
    """What Home Assistant talks to.

    Raises:
        FaultError: It cannot listen.
    """
    listens = settings.wyoming_silence > 0 and settings.vad != "none"
    return WyomingServer(
        host=settings.wyoming_host,
        port=settings.wyoming_port,
        socket_path=Path(settings.wyoming_socket) if settings.wyoming_socket else None,
        terms=Terms(
            silence_s=settings.wyoming_silence if listens else None,
            longest_audio_s=settings.max_file_duration,
            longest_idle_s=settings.stream_idle,
        ),
        most_connections=settings.wyoming_connections,
        model_id=settings.model_id,
        has_api_keys=bool(settings.api_keys),
        announce_as=f"parakeet-service-{socket.gethostname()}" if settings.wyoming_zeroconf else None,
    )


class Container(containers.DeclarativeContainer):
    """Every object of the service; the annotations let the type checkers hold adapters to their ports."""

    settings: providers.Provider[Settings] = providers.Dependency(instance_of=Settings)
    tracing: "providers.Provider[Tracing | None]" = providers.Object(None)
    common: providers.Provider[Path | None] = providers.Object(None)

    resampler: providers.Provider[Resampler] = providers.ThreadSafeSingleton(SoxrResampler)
    metrics: providers.Provider[PrometheusMetrics] = providers.ThreadSafeSingleton(prometheus, common)
    quota: providers.Provider[Quota] = providers.ThreadSafeSingleton(quota, settings)
    compressed: providers.Provider[AudioDecoder] = providers.ThreadSafeSingleton(
        compressed_decoder, settings, resampler
    )
    decoder: providers.Provider[AudioDecoder] = providers.ThreadSafeSingleton(
        audio_decoder, resampler, compressed, tracing
    )
    model: providers.Provider[SpeechModel] = providers.ThreadSafeSingleton(
        speech_model, settings, metrics, tracing, common
    )
    detector_processes: providers.Provider[ScoringProcesses | None] = providers.ThreadSafeSingleton(
        scoring_processes, settings
    )
    detector: providers.Provider[VoiceActivityDetector | None] = providers.ThreadSafeSingleton(
        voice_activity_detector, settings, detector_processes
    )
    transcribe_file: providers.Provider[TranscribeFile] = providers.ThreadSafeSingleton(
        transcribe_file, settings, model, decoder, detector, quota, metrics
    )
    stream_session: providers.Provider[StreamSession] = providers.ThreadSafeSingleton(
        stream_session, settings, model, resampler, detector
    )
    web: providers.Provider[WebClient] = providers.ThreadSafeSingleton(web_client, settings)
    drain: providers.Provider[Drain] = providers.ThreadSafeSingleton(Drain, grace_s=GRACE_S)
    lifecycle: providers.Provider[Lifecycle] = providers.ThreadSafeSingleton(
        lifecycle, model, detector, detector_processes, stream_session, tracing
    )
    service: providers.Provider[Service] = providers.ThreadSafeSingleton(
        Service,
        transcribe_file=transcribe_file,
        stream_session=stream_session,
        web=web,
        model=model,
        quota=quota,
        metrics=metrics,
        drain=drain,
        lifecycle=lifecycle,
    )
