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
from dataclasses import asdict

import structlog
from dacite import Config, from_dict

from ...application.ports.speech_model import Decoding, RecognitionStream, SpeechModel, StreamContext
from ...domain.errors import InferenceError, ModelLoadError, ServiceError
from .wire import BUFFER_BYTES, Message, frame, object_of, receive, rows_of, samples_of, state_of

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_TUPLES = Config(cast=[tuple])


class _Host:
    """One model, and the calls that are under way; a live stream is a call that answers, and goes on until cancelled."""

    def __init__(self, model: SpeechModel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._model = model
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._streams: dict[int, RecognitionStream] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the parent asks for the end, or is gone."""
        while (received := await receive(self._reader)) is not None:
            message, payload = received
            number = message["id"]
            match message["do"]:
                case "cancel":
                    self._cancel(number)
                case "stop":
                    # The window at work still gets its answer.
                    await self._model.aclose()
                    return
                case _:
                    self._calls[number] = asyncio.create_task(self._answer(number, message, payload))
        # Nobody is left to answer to, and the window at work may take long.
        os._exit(0)

    def _cancel(self, number: int) -> None:
        task = self._calls.get(number)
        if task is not None:
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _answer(self, number: int, message: Message, payload: bytes) -> None:
        structlog.contextvars.bind_contextvars(**message["log"])
        try:
            if message["do"] == "open":
                await self._hold(number, StreamContext(**message["context"]))
            else:
                await self._reply(number, await self._do(message, payload))
        except ServiceError as error:
            await self._reply(number, None, error)
        except Exception as error:  # noqa: BLE001 - see below
            # The last handler before the parent: whatever it was, the caller must hear of it.
            _log.exception("unexpected_error_in_model_process")
            await self._reply(number, None, _translated(message["do"], error))
        finally:
            del self._calls[number]

    async def _hold(self, number: int, context: StreamContext) -> None:
        if self._leaving:
            # A stream that was left before this one was opened must not take its place.
            await asyncio.wait(set(self._leaving))
        async with self._model.open_stream(context) as stream:
            self._streams[number] = stream
            try:
                await self._reply(number, None)
                await asyncio.Event().wait()
            finally:
                del self._streams[number]

    async def _do(self, message: Message, payload: bytes) -> object:
        match message["do"]:
            case "start":
                await self._model.start()
                return asdict(self._model.describe())
            case "transcribe":
                decoding = from_dict(Decoding, message["decoding"], _TUPLES)
                tokens = await self._model.transcribe(
                    samples_of(payload), after_s=message["after_s"], decoding=decoding
                )
                return rows_of(tokens)
            case "decode":
                stream = self._streams[message["stream"]]
                return object_of(await stream.decode(samples_of(payload), start_s=message["start_s"]))
            case "flush":
                return object_of(await self._streams[message["stream"]].flush())
            case unknown:
                raise ValueError(f"unknown request {unknown!r}")

    async def _reply(self, number: int, result: object, error: ServiceError | None = None) -> None:
        reply = {"id": number, "result": result} if error is None else {"id": number, "error": state_of(error)}
        self._writer.write(frame(reply))
        await self._writer.drain()


def _translated(asked: str, error: Exception) -> ServiceError:
    if asked == "start":
        return ModelLoadError(f"The model could not be loaded: {type(error).__name__}: {error}")
    return InferenceError("The model failed on this audio.")


async def _serve(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=BUFFER_BYTES)
    first = await receive(reader)
    if first is None:
        return
    introduction, recipe = first
    # As multiprocessing does: what the parent could import, the child can.
    sys.path[:] = introduction["path"]
    _log_lines(introduction["level"])
    make = pickle.loads(recipe)  # noqa: S301 - from our own parent
    try:
        await _Host(make(), reader, writer).run()
    finally:
        writer.close()


def _log_lines(level: int) -> None:
    """Log as JSON lines to standard error, where the parent reads them and logs them as its own."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[remove, structlog.processors.JSONRenderer(default=str)]
        )
    )
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
