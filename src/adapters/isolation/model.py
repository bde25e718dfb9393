"""The port SpeechModel by a child process that holds the model, and is started again if it dies."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial

import structlog
from dacite import Config, from_dict

from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, SpeechModel, StreamContext
from ...domain.audio import NO_SAMPLES, Samples
from ...domain.errors import InferenceError, ModelLoadError, ModelNotReadyError, ServiceError, ShuttingDownError
from ...domain.hypothesis import Hypothesis
from ...domain.transcript import Token
from .calls import ProcessEndedError
from .process import ModelProcess
from .wire import hypothesis_of, tokens_of

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 30.0


class IsolatedModel:
    """Any `SpeechModel` in a process of its own: what kills that process costs a restart, not the service.

    After a crash the windows that were under way are read once more, one at a time and nothing beside them, so that
    one that kills the process a second time is known and fails alone. Live streams fail, for their state is gone.
    Until the model is ready again new work is turned away; windows of recordings that were let in wait.
    """

    def __init__(
        self,
        make: Callable[[], SpeechModel],
        *,
        most_restarts: int = 10,
        first_pause_s: float = 0.5,
        patience_s: float = 15.0,
    ) -> None:
        """Remember what to make; `start` makes it.

        Args:
            make: Makes the model, in the child; must be picklable, such as a `functools.partial` of a class.
            most_restarts: How often in a row, without one answer in between, the process is started again before
                the model is given up.
            first_pause_s: The first restart in a row comes at once, the second after this time, each further one
                after twice the time, up to half a minute.
            patience_s: How long the window at work may take at the end.
        """
        self._make = make
        self._most_restarts = most_restarts
        self._first_pause_s = first_pause_s
        self._patience_s = patience_s
        self._process: ModelProcess | None = None
        self._description: ModelDescription | None = None
        self._failure: ModelLoadError | None = None
        self._supervising: asyncio.Task[None] | None = None
        self._closed = False
        self._settled = asyncio.Event()
        """Set while it is known whether the model serves; not while the process is started again."""
        self._load_s = 0.0
        self._back_s = 0.0  # when it should serve again, on the monotonic clock
        self._answers = 0  # of the process that runs
        self._suspects = 0
        self._unsuspicious = asyncio.Event()
        """Set while no window is being read for the second time."""
        self._unsuspicious.set()
        self._alone = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process that holds the model, if there is one now."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process and have it load the model.

        Raises:
            ModelLoadError: It cannot be found or loaded, or the process died of it; so says `describe` from then on.
        """
        try:
            await self._bring_up()
        except ModelLoadError as error:
            self._failure = error
            raise
        except _StillbornError as error:
            self._failure = ModelLoadError(f"The model's process died while it was loading: {error}.")
            raise self._failure from error
        self._supervising = asyncio.create_task(self._supervise())

    async def aclose(self) -> None:
        """Let the window at work finish, drop the others, and end the process."""
        self._closed = True
        self._description = None
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.wait((self._supervising,))
        self._settled.set()
        process, self._process = self._process, None
        if process is not None:
            await process.end(patience_s=self._patience_s)

    def describe(self) -> ModelDescription:
        """See the port; while the process is started again the model is not ready."""
        if self._failure is not None:
            raise self._failure
        if self._description is None:
            raise self._not_ready()
        return self._description

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port; waits while the process is started again.

        Raises:
            ShuttingDownError: The model was closed meanwhile.
        """
        if self._supervising is None:
            self.describe()
        process = await self._serving()
        try:
            return await self._read(process, samples, after_s, decoding)
        except ProcessEndedError:
            self._suspects += 1
            self._unsuspicious.clear()
        try:
            async with self._alone:
                process = await self._serving(suspect=True)
                return await self._read(process, samples, after_s, decoding)
        except ProcessEndedError as error:
            _log.error("window_given_up", samples=len(samples))
            raise InferenceError("The model's process died of this audio, twice.") from error
        finally:
            self._suspects -= 1
            if not self._suspects:
                self._unsuspicious.set()

    @asynccontextmanager
    async def open_stream(self, context: StreamContext) -> AsyncGenerator["IsolatedRecognitionStream"]:
        """See the port."""
        self.describe()
        process = self._process
        if process is None:
            raise self._not_ready()
        number = process.calls.next_number()
        try:
            await process.calls.call("open", number=number, context=asdict(context))
        except ProcessEndedError as error:
            raise self._not_ready() from error
        try:
            yield IsolatedRecognitionStream(partial(self._step, process, number))
        finally:
            process.calls.cancel(number)

    async def _read(
        self, process: ModelProcess, samples: Samples, after_s: float, decoding: Decoding
    ) -> tuple[Token, ...]:
        rows = await process.calls.call("transcribe", samples, after_s=after_s, decoding=asdict(decoding))
        self._answers += 1
        return tokens_of(rows)

    async def _step(
        self, process: ModelProcess, number: int, do: str, samples: Samples, start_s: float | None
    ) -> Hypothesis | None:
        try:
            news = await process.calls.call(do, samples, stream=number, start_s=start_s)
        except ProcessEndedError as error:
            if self._closed:
                raise _closed() from error
            raise InferenceError("The model's process died, and the stream's state with it.") from error
        self._answers += 1
        return None if news is None else hypothesis_of(news)

    async def _serving(self, *, suspect: bool = False) -> ModelProcess:
        """The process once it serves; while there are suspects, only they are served."""
        while not (self._settled.is_set() and (suspect or self._unsuspicious.is_set())):
            await self._settled.wait()
            if not suspect:
                await self._unsuspicious.wait()
        if self._closed:
            raise _closed()
        self.describe()
        if self._process is None:
            raise self._not_ready()
        return self._process

    def _not_ready(self) -> ServiceError:
        if self._closed:
            return ModelNotReadyError("The model has been unloaded.")
        if self._supervising is None:
            return ModelNotReadyError("The model is still loading.", retry_after_s=5)
        wait_s = max(self._back_s - time.monotonic(), 1.0)
        return ModelNotReadyError("The model's process died and is being started again.", retry_after_s=wait_s)

    async def _bring_up(self) -> None:
        """Start a process and have it load the model; leaves nothing behind if that fails.

        Raises:
            ModelLoadError: It says that it cannot.
            _StillbornError: It died, or could not even be started.
        """
        began = time.monotonic()
        try:
            process = await ModelProcess.start(self._make, on_end=self._on_end)
        except OSError as error:
            raise _StillbornError(str(error)) from error
        try:
            description = from_dict(ModelDescription, await process.calls.call("start"), Config(cast=[tuple]))
        except ProcessEndedError as error:
            ending = await process.end(patience_s=self._patience_s)
            _log.error("model_process_stillborn", how=str(ending), last_words=ending.last_words)
            raise _StillbornError(str(ending)) from error
        except BaseException:
            await process.end(patience_s=0.0)
            raise
        self._load_s = time.monotonic() - began
        self._process, self._answers = process, 0
        # It may have died since it answered: then the supervisor finds out.
        if not process.calls.ended:
            self._description = description
            self._settled.set()
        _log.info("model_process_ready", pid=process.pid, load_s=round(self._load_s, 2))

    def _on_end(self) -> None:
        """From this moment, before any call hears of the end, the model is not ready."""
        self._description = None
        self._back_s = time.monotonic() + self._load_s
        if not self._closed:
            self._settled.clear()

    async def _supervise(self) -> None:
        try:
            await self._keep_up()
        except Exception as error:  # noqa: BLE001 - see below
            # The last handler of a task that nobody awaits; without it, whoever waits would wait for ever.
            _log.exception("model_supervision_failed")
            self._give_up(ModelLoadError(f"The model's process cannot be started again: {error}"))

    async def _keep_up(self) -> None:
        in_a_row = 0
        while self._failure is None and self._process is not None:
            process = self._process
            await process.calls.wait_ended()
            ending = await process.end(patience_s=self._patience_s)
            in_a_row = 1 if self._answers else in_a_row + 1
            _log.error(
                "model_process_died", pid=process.pid, how=str(ending), in_a_row=in_a_row, last_words=ending.last_words
            )
            self._process = None
            in_a_row = await self._start_again(in_a_row)

    async def _start_again(self, in_a_row: int) -> int:
        """Until it works or is given up; gives the number of deaths in a row."""
        while in_a_row <= self._most_restarts:
            pause_s = 0.0 if in_a_row == 1 else min(self._first_pause_s * 2.0 ** (in_a_row - 2), _LONGEST_PAUSE_S)
            self._back_s = time.monotonic() + pause_s + self._load_s
            _log.warning("model_process_restarts", pause_s=pause_s, in_a_row=in_a_row)
            await asyncio.sleep(pause_s)
            try:
                await self._bring_up()
            except _StillbornError:
                in_a_row += 1
            except ModelLoadError as error:
                self._give_up(error)
                return in_a_row
            else:
                return in_a_row
        self._give_up(ModelLoadError(f"The model's process died {in_a_row} times in a row and was given up."))
        return in_a_row

    def _give_up(self, error: ModelLoadError) -> None:
        self._failure = error
        _log.critical("model_given_up", reason=error.message)
        self._settled.set()


class IsolatedRecognitionStream:
    """The port RecognitionStream: one stream of the child's model."""

    def __init__(self, step: Callable[[str, Samples, float | None], Awaitable[Hypothesis | None]]) -> None:
        """Begin with silence; `step` asks the child."""
        self._step = step

    async def decode(self, samples: Samples, *, start_s: float | None = None) -> Hypothesis | None:
        """See the port."""
        return await self._step("decode", samples, start_s)

    async def flush(self) -> Hypothesis:
        """See the port."""
        hypothesis = await self._step("flush", NO_SAMPLES, None)
        if hypothesis is None:
            raise InferenceError("The model's process gave no answer.")
        return hypothesis


class _StillbornError(Exception):
    """The process ended before the model was loaded; the message says how."""


def _closed() -> ShuttingDownError:
    return ShuttingDownError("The service is shutting down.")
