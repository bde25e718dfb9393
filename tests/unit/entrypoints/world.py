"""The application on a scripted model, and clients for it that need no socket."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import numpy as np
from fastapi import FastAPI
from starlette.types import Scope

from parakeet_service.adapters.rate_limits import RateLimits
from parakeet_service.adapters.soxr_resampler import SoxrResampler
from parakeet_service.adapters.telemetry.opentelemetry import Tracing
from parakeet_service.adapters.telemetry.prometheus import PrometheusMetrics
from parakeet_service.application.drain import Drain
from parakeet_service.application.ports.audio_decoder import AudioDecoder
from parakeet_service.application.ports.speech_model import SpeechModel, StreamContext
from parakeet_service.application.ports.voice_activity_detector import VoiceActivityDetector
from parakeet_service.application.service import Service
from parakeet_service.application.stream_session import StreamSession
from parakeet_service.application.transcribe_file import FileLimits, TranscribeFile
from parakeet_service.bootstrap.lifecycle import Lifecycle
from parakeet_service.config.settings import Settings
from parakeet_service.entrypoints.http.app import create_app
from tests.fakes import FakeDecoder, FakeWebClient
from tests.scripted_model import ScriptedModel

Message = dict[str, Any]


def pcm(seconds: float, *, level: int = 8000) -> bytes:
    """So much of raw 16 kHz audio that the fake decoder and `/ws` read, and the scripted model hears."""
    return np.full(round(seconds * 16000), level, "<i2").tobytes()


def call() -> bytes:
    """Two channels: the first one speaks for 0.8 s, and then the other one."""
    hiss = np.random.default_rng(1).integers(-8000, 8000, 12800)
    frames = np.zeros((44800, 2), np.int16)
    frames[:12800, 0] = hiss
    frames[19200:32000, 1] = hiss
    return bytes(frames)


class World:
    """Everything that a test may want to look at."""

    def __init__(
        self,
        *,
        model: ScriptedModel | None = None,
        settings: Settings | None = None,
        timeout_s: float = 120.0,
        send_timeout_s: float = 30.0,
        longest_s: float = 600.0,
        detector: VoiceActivityDetector | None = None,
        live_detector: VoiceActivityDetector | None = None,
        tracing: Tracing | None = None,
        window_s: float = 60.0,
    ) -> None:
        self.model = model or ScriptedModel()
        self.decoder = FakeDecoder()
        self.web = FakeWebClient()
        self.metrics = PrometheusMetrics()
        self.stopped = False
        self.fatal = asyncio.Event()
        limits = FileLimits(
            longest_unchunked_s=5,
            longest_s=longest_s,
            window_s=window_s,
            overlap_s=2,
            timeout_s=timeout_s,
            windows_ahead=2,
        )
        served: SpeechModel = self.model if tracing is None else tracing.model(self.model)
        decoder: AudioDecoder = self.decoder if tracing is None else tracing.decoder(self.decoder)
        settings = settings or a_settings()
        quota = RateLimits(requests=settings.rate_limit, audio_s=settings.audio_rate_limit)
        transcribe_file = TranscribeFile(served, decoder, limits, detector, quota, self.metrics)
        stream_session = StreamSession(
            model=served,
            resampler=SoxrResampler(),
            context=StreamContext(left_s=1, chunk_s=0.5, right_s=0.5),
            detector=live_detector,
        )
        self.service = Service(
            transcribe_file=transcribe_file,
            stream_session=stream_session,
            web=self.web,
            model=self.model,
            quota=quota,
            metrics=self.metrics,
            drain=Drain(grace_s=30),
            lifecycle=Lifecycle(model=self.model, detector=None, on_stopped=self._on_stopped),
        )
        self.app: FastAPI = create_app(
            settings=settings,
            service=self.service,
            metrics=self.metrics,
            exposition=self.metrics.exposition,
            on_fatal=self.fatal.set,
            telemetry=None if tracing is None else tracing.of_requests,
            send_timeout_s=send_timeout_s,
        )

    def _on_stopped(self) -> None:
        self.stopped = True

    def client(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(self.app)
        return httpx2.AsyncClient(transport=transport, base_url="http://service", headers=headers)

    @asynccontextmanager
    async def live(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = "/ws",
        query: str = "",
        subprotocols: Sequence[str] = (),
        denial: bool = True,
        root_path: str = "",
    ) -> AsyncGenerator["LiveClient"]:
        client = LiveClient(
            self.app, f"{path}?{query}", subprotocols, headers or {}, denial=denial, root_path=root_path
        )
        try:
            yield client
        finally:
            await client.leave()


def a_settings(**given: object) -> Settings:
    """The default settings but for those given, whatever the environment says; the host is called ``service``."""
    return Settings.model_validate({**Settings.model_construct().model_dump(), "allowed_hosts": ("service",), **given})


async def started(**given: Any) -> World:
    """A world whose model is ready."""
    world = World(**given)
    await world.model.start()
    return world


class LiveClient:
    """A WebSocket client that speaks ASGI to the application, in the same loop."""

    def __init__(
        self,
        app: FastAPI,
        target: str,
        subprotocols: Sequence[str],
        headers: Mapping[str, str],
        *,
        denial: bool,
        root_path: str,
    ) -> None:
        path, _, query = target.partition("?")
        self._to_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = False
        scope: Scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": root_path,
            "headers": [(name.encode(), value.encode()) for name, value in {"host": "service", **headers}.items()],
            "subprotocols": list(subprotocols),
            "server": ("service", 80),
            "client": ("127.0.0.1", 1),
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        self.task = asyncio.create_task(app(scope, self._give, self._take))

    async def _give(self) -> MutableMapping[str, Any]:
        message = await self._to_app.get()
        self._to_app.task_done()
        return message

    async def _take(self, message: MutableMapping[str, Any]) -> None:
        await self.reads.wait()
        if self.gone:
            raise OSError
        await self._from_app.put(message)

    async def next(self) -> MutableMapping[str, Any]:
        """The application's next ASGI message."""
        return await self._from_app.get()

    async def accepted(self) -> MutableMapping[str, Any]:
        message = await self.next()
        assert message["type"] == "websocket.accept", message
        return message

    async def hear(self) -> Message:
        """The next JSON message."""
        message = await self.next()
        assert message["type"] == "websocket.send", message
        heard: Message = json.loads(message["text"])
        return heard

    async def ready(self) -> Message:
        """Be let in."""
        await self.accepted()
        message = await self.hear()
        assert message["type"] == "ready", message
        return message

    async def hear_until_close(self) -> tuple[list[Message], int]:
        """What is left to hear, and the close code."""
        heard: list[Message] = []
        while True:
            message = await self.next()
            if message["type"] == "websocket.close":
                return heard, message["code"]
            heard.append(json.loads(message["text"]))

    async def say(self, what: bytes | str | Message) -> None:
        if isinstance(what, bytes):
            await self._to_app.put({"type": "websocket.receive", "bytes": what})
        else:
            text = what if isinstance(what, str) else json.dumps(what)
            await self._to_app.put({"type": "websocket.receive", "text": text})

    async def said(self) -> None:
        """Wait until the application has taken what was said."""
        await self._to_app.join()

    async def leave(self) -> None:
        """Vanish, and wait until the application has noticed."""
        self.gone = True
        self.reads.set()
        await self._to_app.put({"type": "websocket.disconnect", "code": 1006})
        await asyncio.wait((self.task,))


async def send_raw(
    app: FastAPI, path: str, incoming: "asyncio.Queue[MutableMapping[str, Any]]", headers: dict[str, str]
) -> list[MutableMapping[str, Any]]:
    """POST with a body whose ASGI messages come from `incoming`; gives the answer's ASGI messages."""
    answer: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        answer.append(message)

    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"service"), *((name.encode(), value.encode()) for name, value in headers.items())],
        "server": ("service", 80),
        "client": ("127.0.0.1", 1),
    }
    await app(scope, incoming.get, send)
    return answer
