"""The application under uvicorn in a thread of this process: a real server and real sockets, ready in milliseconds."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from parakeet_service.adapters.decoders.ffmpeg import FfmpegDecoder, find_ffmpeg
from parakeet_service.adapters.decoders.wave import WaveDecoder
from parakeet_service.adapters.rate_limits import RateLimits
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.drain import Drain
from parakeet_service.application.ports.speech_model import StreamContext
from parakeet_service.application.service import Service
from parakeet_service.application.stream_session import StreamSession
from parakeet_service.application.transcribe_file import FileLimits, TranscribeFile
from parakeet_service.bootstrap.lifecycle import Lifecycle
from parakeet_service.entrypoints.http.app import create_app
from tests.fakes import FakeWebClient, LoudnessVad
from tests.scripted_model import ScriptedModel
from tests.unit.entrypoints.world import a_settings

_LIMITS: dict[str, float] = {
    "longest_unchunked_s": 30,
    "longest_s": 600,
    # Short, so that a short recording has several windows.
    "window_s": 2,
    "overlap_s": 0.5,
    "timeout_s": 600,
}


def make_app(
    model: ScriptedModel, *, loaded: bool = True, limits: dict[str, float] | None = None, **settings: object
) -> FastAPI:
    """The application with our real decoders, on a model that needs no computing."""
    resampler = SoxrResampler()
    metrics = PrometheusMetrics()
    stream_session = StreamSession(
        model=model,
        resampler=resampler,
        context=StreamContext(left_s=1, chunk_s=0.5, right_s=0.5),
        detector=LoudnessVad(),
    )

    @asynccontextmanager
    async def never_loaded() -> AsyncGenerator["asyncio.Task[None]"]:
        yield asyncio.create_task(asyncio.sleep(0))

    def on_fatal() -> None:
        raise AssertionError("the model cannot fail to load")

    given = a_settings(**settings)
    quota = RateLimits(requests=given.rate_limit, audio_s=given.audio_rate_limit)
    service = Service(
        transcribe_file=TranscribeFile(
            model=model,
            decoder=WaveDecoder(resampler, FfmpegDecoder(find_ffmpeg())),
            limits=FileLimits(**{**_LIMITS, **(limits or {})}, windows_ahead=2, blocks_heard=1),
            quota=quota,
            metrics=metrics,
        ),
        stream_session=stream_session,
        web=FakeWebClient(),
        model=model,
        quota=quota,
        metrics=metrics,
        drain=Drain(grace_s=30),
        lifecycle=Lifecycle(model=model, detector=None) if loaded else never_loaded,
    )
    return create_app(
        settings=given, service=service, metrics=metrics, exposition=metrics.exposition, on_fatal=on_fatal
    )


class Served:
    """A running server."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._loop = loop
        self.requests = 0

    def call(self, what: Callable[[], Any]) -> None:
        """Do something in the server's loop, soon."""
        self._loop.call_soon_threadsafe(what)


@contextmanager
def served(app: FastAPI) -> Generator[Served]:
    """Serve `app` at a free port of the loopback interface until the end of the context."""
    ready = threading.Event()
    running: list[Served] = []

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            running[0].requests += 1
        await app(scope, receive, send)

    # Bounded as the real server's end is, which sets its bound where it hears signals.
    config = uvicorn.Config(
        counted, host="127.0.0.1", port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=30
    )
    server = uvicorn.Server(config)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve())
        while not (server.started or serving.done()):
            await asyncio.sleep(0.001)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            running.append(Served(port, asyncio.get_running_loop()))
        ready.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        ready.wait()
        yield running[0]
    finally:
        server.should_exit = True
        thread.join()
