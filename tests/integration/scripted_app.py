"""An application on the scripted model, for a uvicorn process: ``uvicorn --factory tests.integration.scripted_app:make``."""

import asyncio
import os
import signal

from fastapi import FastAPI

from parakeet_service.adapters.rate_limits import RateLimits
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.drain import Drain
from parakeet_service.application.ports.speech_model import StreamContext
from parakeet_service.application.service import Service
from parakeet_service.application.stream_session import StreamSession
from parakeet_service.application.transcribe_file import FileLimits, TranscribeFile
from parakeet_service.bootstrap.lifecycle import Lifecycle
from parakeet_service.config.logs import configure_logging
from parakeet_service.config.settings import Settings
from parakeet_service.domain.errors import ModelLoadError
from parakeet_service.entrypoints.http.app import create_app
from tests.fakes import FakeDecoder, FakeWebClient, GatedModel
from tests.scripted_model import ScriptedModel

LONG_WORD = "w" * 20_000


class MissingModel(ScriptedModel):
    async def start(self) -> None:
        raise ModelLoadError("There is no such model.")


def make() -> FastAPI:
    """SERVER_MODEL is ``scripted``, ``gated`` (reads no recording before SIGUSR1), ``wordy`` or ``missing``."""
    configure_logging(level=Settings().log_level, log_format="json")
    kind = os.environ["SERVER_MODEL"]
    gated = GatedModel()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, gated.gate.set)
    model: ScriptedModel = {
        "scripted": ScriptedModel(),
        "gated": gated,
        "wordy": ScriptedModel(script=[LONG_WORD], words_per_s=5),
        "missing": MissingModel(),
    }[kind]
    decoder = FakeDecoder()
    limits = FileLimits(longest_unchunked_s=30, longest_s=600, window_s=60, overlap_s=2, timeout_s=600, windows_ahead=2)
    metrics = PrometheusMetrics()
    settings = Settings()
    quota = RateLimits(requests=settings.rate_limit, audio_s=settings.audio_rate_limit)
    service = Service(
        transcribe_file=TranscribeFile(model=model, decoder=decoder, limits=limits, quota=quota, metrics=metrics),
        stream_session=StreamSession(
            model=model, resampler=SoxrResampler(), context=StreamContext(left_s=1, chunk_s=0.5, right_s=0.5)
        ),
        web=FakeWebClient(),
        model=model,
        quota=quota,
        metrics=metrics,
        drain=Drain(grace_s=float(os.environ["SERVER_GRACE_S"])),
        lifecycle=Lifecycle(model=model, detector=None),
    )
    app = create_app(
        settings=settings,
        service=service,
        metrics=metrics,
        exposition=metrics.exposition,
        on_fatal=lambda: os.kill(os.getpid(), signal.SIGTERM),
        send_timeout_s=float(os.environ["SERVER_SEND_TIMEOUT_S"]),
    )

    async def counts() -> dict[str, int]:
        return {
            "streams": model.open_streams,
            "decoders": decoder.open_now,
            "decoders_opened": decoder.opened,
            "cancelled": gated.cancelled,
        }

    app.add_api_route("/counts", counts)
    return app
