"""The port SpeechModel by a child process that holds the model, and is started again if it dies or hangs."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from ...application.ports.metrics import ModelMetrics, NullMetrics
from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from ...domain.audio import Samples
from ...domain.errors import InferenceError, ShuttingDownError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token
from .calls import ProcessEndedError
from .process import ModelProcess
from .supervisor import MakeModel, State, Supervision, Supervisor
from .wire import Answer, Request, payload_of

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class IsolatedModel:
    """Any `SpeechModel` in a process of its own: what kills that process costs a restart, not the service.

    After a crash the windows that were under way are transcribed once more, one at a time and nothing beside them, so
    that one that kills the process a second time is known and fails alone. Live streams fail, for their state is gone.
    Until the model is ready again new work is turned away; windows of recordings that were let in wait.
    """

    def __init__(
        self, make: MakeModel, *, metrics: ModelMetrics | None = None, supervision: Supervision | None = None
    ) -> None:
        """Remember what to make; `start` makes it."""
        self._supervisor = Supervisor(make, metrics or NullMetrics(), supervision or Supervision())
        self._suspects = 0  # windows that were under way when the process died
        self._alone = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process that holds the model, if there is one now."""
        return None if self._supervisor.process is None else self._supervisor.process.pid

    async def start(self) -> None:
        """See the port; that the process dies of it is a `ModelLoadError`, too."""
        await self._supervisor.start()

    async def aclose(self) -> None:
        """Let the current batch finish, cancel what waits, and end the process."""
        await self._supervisor.aclose()

    def describe(self) -> ModelDescription:
        """See the port; while the process is started again the model is not ready."""
        return self._supervisor.serving()[1]

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port; waits while the process is started again.

        Raises:
            ShuttingDownError: The model was closed meanwhile.
        """
        request = Request("transcribe", samples=payload_of(samples), after_s=after_s, decoding=decoding)
        process = await self._serving()
        try:
            return (await self._ask(process, request)).tokens
        except ProcessEndedError:
            self._suspects += 1
        try:
            async with self._alone:
                process = await self._serving(suspect=True)
                return (await self._ask(process, request)).tokens
        except ProcessEndedError as error:
            _log.error("window_given_up", samples=len(samples))
            raise InferenceError("The model's process died of this audio, twice.") from error
        finally:
            self._suspects -= 1
            self._supervisor.notify()

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator["IsolatedRecognitionStream"]:
        """See the port."""
        process, _ = self._supervisor.serving()
        try:
            number = (await process.calls.call(Request("open_stream", context=context, decoding=decoding))).number
        except ProcessEndedError as error:
            raise self._supervisor.not_ready() from error
        try:
            yield IsolatedRecognitionStream(self, process, number)
        finally:
            process.calls.tell(Request("cancel", number))

    async def step(self, process: ModelProcess, request: Request) -> Hypothesis | None:
        """One step of a live stream that `process` holds; fails if that has ended."""
        try:
            return (await self._ask(process, request)).hypothesis
        except ProcessEndedError as error:
            if self._supervisor.state is State.CLOSED:
                raise ShuttingDownError("The service is shutting down.") from error
            raise InferenceError("The model's process died, and the stream's state with it.") from error

    async def _ask(self, process: ModelProcess, request: Request) -> Answer:
        answer = await process.calls.call(request)
        self._supervisor.answers += 1
        return answer

    async def _serving(self, *, suspect: bool = False) -> ModelProcess:
        """The process once it serves; while there are suspects, only they are served."""
        supervisor = self._supervisor
        while supervisor.state is State.RESTARTING or (
            supervisor.state is State.READY and self._suspects and not suspect
        ):
            await supervisor.changed.wait()
        if supervisor.state is State.CLOSED:
            raise ShuttingDownError("The service is shutting down.")
        return supervisor.serving()[0]


class IsolatedRecognitionStream:
    """The port RecognitionStream: one stream of the child's model."""

    def __init__(self, model: IsolatedModel, process: ModelProcess, number: int) -> None:
        """Begin with silence; `process` knows the stream by its `number`."""
        self._model = model
        self._process = process
        self._number = number

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        request = Request("decode", stream=self._number, samples=payload_of(samples), start_s=start_s)
        return await self._model.step(self._process, request)

    async def flush(self) -> Hypothesis:
        """See the port."""
        hypothesis = await self._model.step(self._process, Request("flush", stream=self._number))
        if hypothesis is None:
            raise InferenceError("The model's process gave no answer.")
        return hypothesis
