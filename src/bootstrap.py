"""The composition root: which adapter serves which port, and nothing else knows."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dependency_injector import containers, providers
from fastapi import FastAPI

from .adapters.ffmpeg_decoder import FfmpegDecoder, find_ffmpeg
from .adapters.parakeet_mlx.model import ParakeetMlxModel
from .adapters.pydub_decoder import PydubDecoder
from .adapters.soxr_resampler import SoxrResampler
from .adapters.wave_decoder import WaveDecoder
from .application.ports.audio_decoder import AudioDecoder
from .application.ports.resampler import Resampler
from .application.ports.speech_model import SpeechModel, StreamContext
from .application.stream_session import StreamSession
from .application.transcribe_file import FileLimits, TranscribeFile
from .entrypoints.http.app import create_app
from .observability import configure_logging
from .settings import Settings


class Container(containers.DeclarativeContainer):
    """Every object of the service; the annotations let the type checkers hold adapters to their ports."""

    settings: providers.Provider[Settings] = providers.Dependency(instance_of=Settings)

    ffmpeg = providers.ThreadSafeSingleton(find_ffmpeg)
    resampler: providers.Provider[Resampler] = providers.ThreadSafeSingleton(SoxrResampler)
    compressed: providers.Provider[AudioDecoder] = providers.Selector(
        settings.provided.audio_decoder,
        ffmpeg=providers.ThreadSafeSingleton(FfmpegDecoder, ffmpeg),
        pydub=providers.ThreadSafeSingleton(PydubDecoder, ffmpeg),
    )
    decoder: providers.Provider[AudioDecoder] = providers.ThreadSafeSingleton(WaveDecoder, resampler, compressed)
    parakeet = providers.ThreadSafeSingleton(
        ParakeetMlxModel,
        model_id=settings.provided.model_id,
        precision=settings.provided.model_precision,
        offline=settings.provided.offline,
        sample_rate_hz=settings.provided.target_sr,
        most_waiting=settings.provided.max_queue,
        most_streams=settings.provided.max_streams,
    )
    model: providers.Provider[SpeechModel] = parakeet
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
    )
    stream_session: providers.Provider[StreamSession] = providers.Factory(
        StreamSession,
        model=model,
        resampler=resampler,
        context=providers.Factory(
            StreamContext,
            left_s=settings.provided.stream_left_context,
            chunk_s=settings.provided.stream_chunk,
            right_s=settings.provided.stream_right_context,
        ),
    )
