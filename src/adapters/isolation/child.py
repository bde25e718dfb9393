"""The child process: holds the model and does what the parent asks.

It lives as long as its parent: when the socket ends, however the parent ended, so does it.
"""

import asyncio
import faulthandler
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import structlog
from msgspec import Struct

from ...application.ports.metrics import ModelMetrics
from ...application.ports.speech_model import Decoding, ModelDescription, RecognitionStream, SpeechModel, StreamContext
from ...domain.errors import InferenceError, ModelLoadError, ServiceError
from .wire import BUFFER_BYTES, Answer, Metric, Request, frame, receive, requests, samples_of

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _SentMetrics:
    """The port ModelMetrics by messages to the parent."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._loop = asyncio.get_running_loop()

    def model_loaded(self, description: ModelDescription) -> None:
        """The parent knows by itself."""

    def __getattr__(self, name: Any) -> Callable[..., None]:
        def send(**values: float) -> None:
            # It may be called in any thread, and a writer belongs to its loop; once that is closed nobody counts.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._writer.write, frame(Metric(name, values)))

        return send


class _Host:
    """One model, and the requests under way; an open stream is a request that was answered, and lasts until cancelled."""

    _model: SpeechModel  # once it was made

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, RecognitionStream] = {}
        self._cancelled: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the parent asks for the end, or is gone."""
        while (request := await receive(self._reader, requests)) is not None:
            if request.do == "stop":
                # The current batch still gets its answer.
                await self._model.aclose()
                return
            if request.do != "cancel":
                self._tasks[request.number] = asyncio.create_task(self._answer(request))
            elif (task := self._tasks.get(request.number)) is not None:
                task.cancel()
                self._cancelled.add(task)
                task.add_done_callback(self._cancelled.discard)
        # Nobody is left to answer to, and the current batch may take long.
        os._exit(0)

    async def _answer(self, request: Request) -> None:
        structlog.contextvars.bind_contextvars(**request.log)
        try:
            if request.context is not None:
                await self._hold_stream(request.number, request.context, request.decoding)
            else:
                await self._send(await self._do(request))
        except ServiceError as error:
            await self._send(_failure(request, error))
        except Exception as error:  # noqa: BLE001 - the last handler before the parent, which must learn of it
            _log.exception("unexpected_error_in_model_process")
            await self._send(_failure(request, _translated(request, error)))
        finally:
            del self._tasks[request.number]

    async def _hold_stream(self, number: int, context: StreamContext, decoding: Decoding) -> None:
        if self._cancelled:
            # A stream that was left before this one was opened must not take its place.
            await asyncio.wait(set(self._cancelled))
        async with self._model.open_stream(context, decoding=decoding) as stream:
            self._streams[number] = stream
            try:
                await self._send(Answer(number))
                await asyncio.Event().wait()
            finally:
                del self._streams[number]

    async def _do(self, request: Request) -> Answer:
        answer, samples = Answer(request.number), samples_of(request.samples)
        match request.do:
            case "start":
                self._model = _made(request.recipe, cast("ModelMetrics", _SentMetrics(self._writer)))
                await self._model.start()
                answer.description = self._model.describe()
            case "transcribe":
                answer.tokens = await self._model.transcribe(
                    samples, after_s=request.after_s, decoding=request.decoding
                )
            case "decode":
                answer.hypothesis = await self._streams[request.stream].decode(samples, start_s=request.start_s)
            case "flush":
                answer.hypothesis = await self._streams[request.stream].flush()
            case _:  # A ping: that there is an answer is all that it asks for.
                pass
        return answer

    async def _send(self, message: Struct) -> None:
        self._writer.write(frame(message))
        await self._writer.drain()


def _failure(request: Request, error: ServiceError) -> Answer:
    return Answer(request.number, error=(error.code, error.message, vars(error)))


def _translated(request: Request, error: Exception) -> ServiceError:
    if request.do == "start":
        return ModelLoadError(f"The model could not be loaded: {type(error).__name__}: {error}")
    return InferenceError("The model failed on this audio.")


def _made(recipe: bytes, metrics: ModelMetrics) -> SpeechModel:
    path, log_level, make = pickle.loads(recipe)  # noqa: S301 - from our own parent
    # As multiprocessing does: what the parent could import, the child can.
    sys.path[:] = path
    _log_lines(log_level)
    model: SpeechModel = pickle.loads(make)(metrics=metrics)  # noqa: S301 - likewise
    return model


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=BUFFER_BYTES)
    try:
        await _Host(reader, writer).run()
    finally:
        writer.close()


def _log_lines(level: int) -> None:
    """Log to standard error as JSON lines, which the parent logs as its own."""
    formatter = structlog.stdlib.ProcessorFormatter
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, formatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    rendering: list[structlog.typing.Processor] = [
        formatter.remove_processors_meta,
        structlog.processors.JSONRenderer(default=str),
    ]
    handler.setFormatter(formatter(foreign_pre_chain=shared, processors=rendering))
    logging.basicConfig(handlers=[handler], level=level, force=True)


def main() -> None:
    """Serve the parent at the other end of standard input."""
    # Control-C, and a service manager's SIGTERM, reach every process; the parent finishes what runs, then asks us to go.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # An abort in the device's driver says by itself nothing about where it was.
    faulthandler.enable(all_threads=False)
    with socket.socket(fileno=os.dup(0)) as connection:
        # What reads standard input must not read our messages.
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        asyncio.run(_serve(connection))
    # Not the usual way out: the interpreter's end waits for threads, and unloads a device that some drivers crash on.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
