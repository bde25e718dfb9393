"""The parent's end of the socket: many calls under way at once, and how they end with the child."""

import asyncio
import itertools
from asyncio import CancelledError, Future, StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from ...domain.audio import NO_SAMPLES, Samples
from .wire import BrokenFrameError, Message, bytes_of, error_of, frame, receive

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class ProcessEndedError(Exception):
    """The child is gone, and with it the answer to this call."""


class Calls:
    """Sends calls and hands each answer to the one who waits for it."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, on_end: Callable[[], None]) -> None:
        """Begin to listen; `on_end` is called once the child is gone, before any call hears of it."""
        self._reader = reader
        self._writer = writer
        self._on_end = on_end
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        self._turn = asyncio.Lock()
        self._ended = False
        self._listening = asyncio.create_task(self._listen())

    @property
    def ended(self) -> bool:
        """Whether the child is gone."""
        return self._ended

    async def call(self, do: str, samples: Samples = NO_SAMPLES, *, number: int | None = None, **fields: object) -> Any:
        """Ask, and wait for the answer; on cancellation the child stops working on it.

        Args:
            do: What to do.
            samples: What to do it with.
            number: From `next_number`, where the caller must know it.
            fields: What else the child needs to know; JSON.

        Raises:
            ProcessEndedError: The child ended before it answered.
            ServiceError: As the child's model raised it.
        """
        if self._ended:
            raise ProcessEndedError
        number = self.next_number() if number is None else number
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        # The child's log lines name the request, as those of a model in this process do.
        context = {name: str(value) for name, value in structlog.contextvars.get_contextvars().items()}
        sent = False
        try:
            # At most one frame is buffered on our side, however many wait; their samples are with them anyway.
            async with self._turn:
                # Of a broken connection the listener tells, and it tells everyone.
                with suppress(ConnectionError):
                    await self._writer.drain()
                if not self._ended:
                    sent = True
                    self._writer.write(frame({"id": number, "do": do, "log": context, **fields}, bytes_of(samples)))
            return await answer
        except CancelledError:
            if sent:
                self.cancel(number)
            raise
        finally:
            del self._waiting[number]

    def next_number(self) -> int:
        """What names a call, and the stream that it opens."""
        return next(self._numbers)

    def cancel(self, number: int) -> None:
        """Tell the child to stop working on a call, or to leave a stream."""
        self._tell("cancel", number)

    def stop(self) -> None:
        """Ask the child to finish and go."""
        self._tell("stop", self.next_number())

    def _tell(self, do: str, number: int) -> None:
        if not self._ended:
            self._writer.write(frame({"id": number, "do": do}))

    async def wait_ended(self, *, within_s: float | None = None) -> None:
        """Return once the child has closed its end, or after `within_s`."""
        await asyncio.wait((self._listening,), timeout=within_s)

    async def aclose(self) -> None:
        """Close our end; whoever still waits hears that the child is gone."""
        self._end()
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _listen(self) -> None:
        try:
            while (received := await receive(self._reader)) is not None:
                self._hand_over(received[0])
        except (BrokenFrameError, KeyError, TypeError, ValueError) as error:
            _log.error("model_process_broken", reason=repr(error))
        finally:
            self._end()

    def _hand_over(self, message: Message) -> None:
        answer = self._waiting.get(message["id"])
        # Who was cancelled meanwhile does not wait any more.
        if answer is None or answer.done():
            return
        if "error" in message:
            _fail(answer, error_of(message["error"]))
        else:
            answer.set_result(message["result"])

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._on_end()
        for answer in self._waiting.values():
            if not answer.done():
                _fail(answer, ProcessEndedError())


def _fail(answer: Future[Any], error: Exception) -> None:
    answer.set_exception(error)
    # Asked for here, for a caller that is cancelled at this moment will not ask, and asyncio would complain of that.
    answer.exception()
