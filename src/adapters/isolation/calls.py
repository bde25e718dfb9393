"""The parent's end of the socket: many calls at once, and how they end with the child."""

import asyncio
import itertools
from asyncio import CancelledError, Future, StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress

import structlog

from ...application.ports.metrics import ModelMetrics
from .wire import Answer, BrokenFrameError, Metric, Request, answers, error_of, frame, receive

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class ProcessEndedError(Exception):
    """The child is gone, and with it the answer to this call."""


class Calls:
    """Sends requests, hands each answer to its caller, and passes on what the child counts."""

    def __init__(
        self, reader: StreamReader, writer: StreamWriter, *, metrics: ModelMetrics, on_end: Callable[[], None]
    ) -> None:
        """Begin to listen; `on_end` is called once the child is gone, before any caller learns of it."""
        self._reader = reader
        self._writer = writer
        self._metrics = metrics
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Answer]] = {}
        self._turn = asyncio.Lock()
        self.ended = False
        """Whether the child is gone."""
        self._listening = asyncio.create_task(self._listen())

    async def call(self, request: Request) -> Answer:
        """Ask, and wait for the answer; on cancellation the child stops working on it.

        Raises:
            ProcessEndedError: The child ended before it answered.
            ServiceError: As the child's model raised it.
        """
        if self.ended:
            raise ProcessEndedError
        number = request.number = next(self._numbers)
        answer: Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        # The child's log lines name the request, as those of a model in this process do.
        request.log = {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}
        sent = False
        try:
            # At most one frame is buffered on our side, however many wait; their samples are with them anyway.
            async with self._turn:
                # Of a broken connection the listener tells, and it tells everyone.
                with suppress(ConnectionError):
                    await self._writer.drain()
                if not self.ended:
                    sent = True
                    self._writer.write(frame(request))
            return await answer
        except CancelledError:
            if sent:
                self.tell(Request("cancel", number))
            raise
        finally:
            del self._waiting[number]

    def tell(self, request: Request) -> None:
        """Send a request that has no answer."""
        if not self.ended:
            self._writer.write(frame(request))

    async def wait_ended(self, *, within_s: float | None = None) -> bool:
        """Wait until the child has closed its end, or for `within_s`; tells whether it has."""
        await asyncio.wait((self._listening,), timeout=within_s)
        return self.ended

    async def aclose(self) -> None:
        """Close our end; every caller that still waits learns that the child is gone."""
        self._end()
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        try:
            while (message := await receive(self._reader, answers)) is not None:
                if isinstance(message, Metric):
                    getattr(self._metrics, message.name)(**message.values)
                else:
                    self._hand_over(message)
        except (BrokenFrameError, TypeError) as error:
            _log.error("model_process_broken", reason=repr(error))
        finally:
            self._end()

    def _hand_over(self, answer: Answer) -> None:
        waiting = self._waiting.get(answer.number)
        # A call that was cancelled meanwhile does not wait any more.
        if waiting is None or waiting.done():
            return
        if answer.error is None:
            waiting.set_result(answer)
        else:
            _fail(waiting, error_of(*answer.error))

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._on_end()
        for waiting in self._waiting.values():
            if not waiting.done():
                _fail(waiting, ProcessEndedError())


def _fail(waiting: Future[Answer], error: Exception) -> None:
    waiting.set_exception(error)
    # Asked for here, for a caller that is cancelled at this moment will not ask, and asyncio would complain of that.
    waiting.exception()
