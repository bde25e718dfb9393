"""The composition root: which adapter serves which port, and nothing else knows."""

import asyncio
import math
import os
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from dependency_injector import containers, providers
from fastapi import FastAPI

from ..adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from ..adapters.decoders.pydub import PydubDecoder
from ..adapters.decoders.wave import WaveDecoder
from ..adapters.inference.model import EngineModel
from ..adapters.isolation.model import IsolatedModel
from ..adapters.parakeet_mlx.model import parakeet_mlx_model
from ..adapters.soxr_resampler import SoxrResampler
from ..adapters.telemetry.prometheus import PrometheusMetrics
from ..adapters.vad.silero import SileroVad
from ..application.ports.audio_decoder import AudioDecoder
from ..application.ports.resampler import Resampler
from ..application.ports.speech_model import SpeechModel, StreamContext
from ..application.ports.voice_activity_detector import VoiceActivityDetector
from ..application.stream_session import StreamSession
from ..application.transcribe_file import FileLimits, TranscribeFile
from ..config.flags import add_flags, load_settings
from ..config.logs import configure_logging
from ..config.settings import Settings
from ..domain.errors import InvalidRequestError, ModelLoadError
from ..entrypoints import cli
from ..entrypoints.cli.service import Service
from ..entrypoints.http.app import create_app
from .diagnosis import changed, facts_about

if TYPE_CHECKING:
    from ..adapters.telemetry.opentelemetry import Tracing

_log = structlog.stdlib.get_logger(__name__)
_TRACES_WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Container(containers.DeclarativeContainer):
    """Every object of the service; the annotations let the type checkers hold adapters to their ports."""

    settings: providers.Provider[Settings] = providers.Dependency(instance_of=Settings)

    ffmpeg = providers.ThreadSafeSingleton(find_ffmpeg)
    resampler: providers.Provider[Resampler] = providers.ThreadSafeSingleton(SoxrResampler)
    compressed: providers.Provider[AudioDecoder] = providers.Selector(
        settings.provided.audio_decoder,
        ffmpeg=providers.ThreadSafeSingleton(FfmpegDecoder, ffmpeg),
        pydub=providers.ThreadSafeSingleton(PydubDecoder, ffmpeg, resampler),
    )
    decoder: providers.Provider[AudioDecoder] = providers.ThreadSafeSingleton(WaveDecoder, resampler, compressed)
    metrics: providers.Provider[PrometheusMetrics] = providers.ThreadSafeSingleton(PrometheusMetrics)
    context: providers.Provider[StreamContext] = providers.Factory(
        StreamContext,
        left_s=settings.provided.stream_left_context,
        chunk_s=settings.provided.stream_chunk,
        right_s=settings.provided.stream_right_context,
    )
    _of_the_model: Mapping[str, Any] = {
        "model_id": settings.provided.model_id,
        "precision": settings.provided.model_precision,
        "offline": settings.provided.offline,
        "sample_rate_hz": settings.provided.target_sr,
        "batch_size": settings.provided.batch_size,
        "cache_limit_bytes": settings.provided.mlx_cache_limit,
        "most_waiting": settings.provided.max_queue,
        "most_streams": settings.provided.max_streams,
        "context": context,
    }
    model: providers.Provider[SpeechModel] = providers.Selector(
        settings.provided.isolation,
        none=providers.ThreadSafeSingleton(parakeet_mlx_model, metrics=metrics, **_of_the_model),
        process=providers.ThreadSafeSingleton(
            IsolatedModel,
            providers.Factory(partial[EngineModel], parakeet_mlx_model, **_of_the_model),
            metrics=metrics,
        ),
    )
    detector: providers.Provider[VoiceActivityDetector | None] = providers.Selector(
        settings.provided.vad,
        silero=providers.ThreadSafeSingleton(SileroVad),
        none=providers.Object(None),
    )
    transcribe_file: providers.Provider[TranscribeFile] = providers.Factory(
        TranscribeFile,
        model=model,
        decoder=decoder,
        limits=providers.Factory(
            FileLimits,
            longest_unchunked_s=settings.provided.max_audio_duration,
            longest_s=settings.provided.max_file_duration,
            window_s=settings.provided.chunk_duration,
            overlap_s=settings.provided.chunk_overlap,
            timeout_s=settings.provided.processing_timeout,
            windows_ahead=settings.provided.batch_size,
        ),
        detector=detector,
    )
    stream_session: providers.Provider[StreamSession] = providers.Factory(
        StreamSession,
        model=model,
        resampler=resampler,
        context=context,
        detector=detector,
        longest_window_s=settings.provided.chunk_duration,
    )


def build_app(settings: Settings | None = None) -> FastAPI:
    """The web application; without `settings`, under those of the environment."""
    settings = settings or load_settings()
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    return _app(_container(settings), settings, on_fatal=lambda: os.kill(os.getpid(), signal.SIGTERM))


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command of ``parakeet-service`` and give its exit code."""
    return cli.main(arguments, configure=_configure)


def _configure(parser: ArgumentParser) -> Callable[[Namespace], Service]:
    read = add_flags(parser)
    return lambda parsed: _service(read(parsed))


def _service(settings: Settings) -> Service:
    configure_logging(level=settings.log_level, log_format=settings.log_format)
    return Service(
        host=settings.host,
        port=settings.port,
        has_api_keys=bool(settings.api_keys),
        changed_settings=changed(settings),
        facts=facts_about(settings),
        build_app=lambda on_fatal: _app(_container(settings), settings, on_fatal),
        audio_decoder=lambda: _container(settings).decoder(),
        # A person who transcribes a file of their own waits as long as it takes: the limit guards a server.
        open_transcriber=lambda: _transcriber(_container(settings.model_copy(update={"processing_timeout": math.inf}))),
    )


def _container(settings: Settings) -> Container:
    return Container(settings=settings)


def _app(container: Container, settings: Settings, on_fatal: Callable[[], None]) -> FastAPI:
    # Not only the model: without its decoder the service must not start either.
    decoder, model = container.decoder(), container.model()
    tracing = _tracing()
    if tracing is not None:
        container.decoder.override(providers.Object(tracing.decoder(decoder)))  # pyright: ignore[reportUnknownMemberType]
        model = tracing.model(model)
        container.model.override(providers.Object(model))  # pyright: ignore[reportUnknownMemberType]

    async def start() -> None:
        detector = await asyncio.to_thread(container.detector)
        if detector is not None:
            detector.open(sample_rate_hz=settings.target_sr)
        await model.start()
        try:
            container.stream_session().check()
        except InvalidRequestError as error:
            raise ModelLoadError(f"STREAM_LEFT_CONTEXT, STREAM_CHUNK, STREAM_RIGHT_CONTEXT: {error.message}") from error

    async def stop() -> None:
        try:
            await model.aclose()
        finally:
            if tracing is not None:
                await asyncio.to_thread(tracing.close)

    return create_app(
        settings=settings,
        transcribe_file=container.transcribe_file,
        stream_session=container.stream_session,
        model=container.model,
        start=start,
        stop=stop,
        on_fatal=on_fatal,
        http_metrics=container.metrics(),
        exposition=container.metrics().exposition,
        telemetry=None if tracing is None else tracing.of_requests,
    )


def _tracing() -> "Tracing | None":
    """Traces, if OpenTelemetry's variables say where to send them; else nothing of it is even imported."""
    wanted = [name for name in _TRACES_WANTED if os.environ.get(name)]
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if not wanted or off:
        return None
    try:
        from ..adapters.telemetry.opentelemetry import Tracing  # noqa: PLC0415 - an optional extra, a third of a second
    except ModuleNotFoundError as error:
        hint = "pip install 'parakeet-service[tracing]'"
        _log.warning("there will be no traces", because=f"{wanted[0]} is set, but {error.name} is missing", hint=hint)
        return None
    return Tracing.from_environment()


@asynccontextmanager
async def _transcriber(container: Container) -> AsyncGenerator[TranscribeFile]:
    model = container.model()
    try:
        await model.start()
        yield container.transcribe_file()
    finally:
        await model.aclose()
