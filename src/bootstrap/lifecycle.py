"""Starting and stopping the service, whatever entrypoints it has."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

import structlog

from ..adapters.vad.processes import ScoringProcesses
from ..application.ports.speech_model import SpeechModel
from ..application.ports.voice_activity_detector import VoiceActivityDetector
from ..application.service import Service
from ..application.stream_session import StreamSession
from ..domain.errors import InvalidRequestError, ModelLoadError, ServiceError
from .signals import handled_signals

_log = structlog.stdlib.get_logger(__name__)
_MODEL_HINT = "MODEL_ID is a directory, a Hub id, or 'embedded' for the small built-in model."
_SETTINGS = {"left_s": "STREAM_LEFT_CONTEXT", "chunk_s": "STREAM_CHUNK", "right_s": "STREAM_RIGHT_CONTEXT"}

Server: TypeAlias = Callable[[Service], AbstractAsyncContextManager[None]]
"""Makes a context in which it serves: it accepts while that is entered, and stops accepting when it is left."""


class Lifecycle:
    """Loads the detector and the model, checks the settings against the model, and stops everything in order."""

    def __init__(
        self,
        *,
        model: SpeechModel,
        detector: VoiceActivityDetector | None,
        detector_processes: ScoringProcesses | None = None,
        stream_session: StreamSession | None = None,
        on_stopped: Callable[[], None] | None = None,
    ) -> None:
        """Remember what to start.

        Args:
            model: Started first, and closed last.
            detector: Loaded before the model, if there is one.
            detector_processes: Started with the detector, and ended with the model.
            stream_session: Its defaults are held against the loaded model; ``None`` where nothing is streamed.
            on_stopped: Called in a thread once the model is closed, such as to flush traces.
        """
        self._model = model
        self._detector = detector
        self._processes = detector_processes
        self._stream_session = stream_session
        self._on_stopped = on_stopped

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator["asyncio.Task[None]"]:
        """Start in the background while in this context; see `application.service.Lifecycle`."""
        starting = asyncio.create_task(self._start())
        starting.add_done_callback(_report)
        try:
            yield starting
        finally:
            starting.cancel()
            await asyncio.wait((starting,))
            try:
                await self._model.aclose()
            finally:
                if self._processes is not None:
                    await self._processes.aclose()
                if self._on_stopped is not None:
                    await asyncio.to_thread(self._on_stopped)

    async def _start(self) -> None:
        if self._detector is not None:
            await asyncio.to_thread(self._detector.load)
        if self._processes is not None:
            await self._processes.start()
        try:
            await self._model.start()
        except ModelLoadError as error:
            raise ModelLoadError(f"MODEL_ID: {error.message} {_MODEL_HINT}") from error
        if self._detector is not None:
            # Raises where the detector does not take the model's rate: now, and not at every request.
            self._detector.open(sample_rate_hz=self._model.describe().sample_rate_hz)
        if self._stream_session is None:
            return
        try:
            self._stream_session.check()
        except InvalidRequestError as error:
            raise ModelLoadError(error.renamed(_SETTINGS).message) from error


def _report(starting: "asyncio.Task[None]") -> None:
    if starting.cancelled():
        return
    error = starting.exception()
    if error is None:
        _log.info("ready")
        return
    code = error.code if isinstance(error, ServiceError) else None
    expected = isinstance(error, ServiceError)
    _log.critical("the model could not be loaded", code=code, reason=str(error), exc_info=None if expected else error)


def beside(service: Service, servers: Sequence[Server]) -> Service:
    """The same service, with `servers` as part of its lifecycle: to enter it, as HTTP does, runs them, too.

    They accept while the model loads, and are left before it is closed: a drain must have finished by then. Which they
    are is looked at when it is entered.
    """

    @asynccontextmanager
    async def lifecycle() -> AsyncGenerator["asyncio.Task[None]"]:
        async with service.lifecycle() as ready, AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server(service))
            yield ready

    return replace(service, lifecycle=lifecycle)


async def serve_until_signalled(service: Service, *servers: Server) -> None:
    """Run servers until SIGTERM or SIGINT, or until the model cannot be loaded; then drain and stop.

    A second signal ends the grace time.

    Args:
        service: What they serve.
        servers: Entered in this order, and left in the other.

    Raises:
        ModelLoadError: The model cannot be loaded.
    """
    signalled = asyncio.Event()

    def on_signal() -> None:
        if signalled.is_set():
            service.drain.hurry()
        signalled.set()

    with handled_signals(on_signal):
        async with beside(service, servers).lifecycle() as ready:
            waiting = asyncio.create_task(signalled.wait())
            await asyncio.wait((waiting, ready), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await ready
            await waiting
            await service.drain.finish()
