"""The port SpeechModel by a child process that holds the model, and is started again if it dies or hangs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import Enum, auto
from functools import partial
from typing import TypeVar

import structlog
from msgspec import Raw
from msgspec.msgpack import Decoder
from msgspec.structs import replace

from ...application.ports.metrics import ClusterMetrics, NullMetrics
from ...application.ports.speech_model import GREEDY, Decoding, ModelDescription, StreamContext
from ...domain.audio import Samples
from ...domain.errors import InferenceError, ModelLoadError, ModelNotReadyError, ServiceError, ShuttingDownError
from ...domain.transcript import Token
from ..processes.connection import Connection, ProcessEndedError
from ..processes.messages import decoded, decoder_of, nothing
from ..processes.process import ChildProcess, Recipe
from .host import BeAlone, Decode, Describe, Flush, MakeModel, Metric, OpenStream, Transcribe, model_host
from .stream import IsolatedRecognitionStream

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_descriptions: Decoder[ModelDescription] = decoder_of(ModelDescription)
_metrics: Decoder[Metric] = decoder_of(Metric)
_tokens: Decoder[tuple[Token, ...]] = decoder_of(tuple[Token, ...])
_Step = TypeVar("_Step")

_LOOK_EVERY_S = 1.0
"""How often a model with workers is asked how many are up."""


class _State(Enum):
    LOADING = auto()
    READY = auto()
    RESTARTING = auto()
    FAILED = auto()
    CLOSED = auto()


class IsolatedModel:
    """Any `SpeechModel` in another process: what kills that process costs a restart, not the service.

    It is a child of this one, or of another that shares it: then it is found by its path.

    After a crash the windows that were under way are transcribed once more, one at a time and nothing beside them, so
    that one that kills the process a second time is known and fails alone. Live streams fail, for their state is gone.
    Until the model is ready again new work is turned away; windows of recordings that were let in wait.
    """

    _process: Connection  # once there is one
    _description: ModelDescription | ModelNotReadyError
    _rate_hz: int

    def __init__(
        self,
        make: MakeModel | None,
        *,
        path: str | None = None,
        metrics: ClusterMetrics | None = None,
        prepare: Callable[[], None] = nothing,
        pauses_s: Sequence[float] = (0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30),
        patience_s: float = 15.0,
        ping_every_s: float = 20.0,
    ) -> None:
        """Remember what to make; `start` makes it.

        Args:
            make: Makes the model, in the process; ``None``: the one that listens at `path` has it.
            path: Where the process listens for others that share it.
            metrics: Told what the model counts; only by a process of ours.
            prepare: See `Recipe`.
            pauses_s: Before each restart in a row, without one answer in between; after these it is given up.
            patience_s: How long the current batch may take at the end.
            ping_every_s: See `Recipe`.
        """
        self._begin = (
            partial(Connection.open, path or "")
            if make is None
            else partial(
                ChildProcess.start,
                Recipe(partial(model_host, make), prepare, ping_every_s, listen=path),
                on_event=self._count,
            )
        )
        self._pauses_s = pauses_s
        self._patience_s = patience_s
        self._metrics = metrics or NullMetrics()
        self._state = _State.LOADING
        self._refusal: ServiceError | None = ModelNotReadyError("The model is being loaded.", retry_after_s=5)
        self._changed = asyncio.Event()  # set, and replaced, when anything changes that a window may wait for
        self._load_s = 0.0
        self._suspects = 0  # windows that were under way when the process died
        self._alone = asyncio.Lock()
        self._supervising: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process that holds the model, if it serves now."""
        return self._process.pid if self._state is _State.READY else None

    async def start(self) -> None:
        """See the port; that the process dies of it is a `ModelLoadError`, too."""
        try:
            await self._start_process()
        except (ModelLoadError, ProcessEndedError) as error:
            raise self._give_up(error) from error
        self._supervising = asyncio.create_task(self._supervise())
        # A task that is cancelled before it has begun ends nothing.
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Let the current batch finish, cancel what waits, and end the process."""
        supervising, self._supervising = self._supervising, None
        self._enter(_State.CLOSED, ModelNotReadyError("The model has been unloaded."))
        if supervising is not None:
            supervising.cancel()
            # It ends the process, also if this is cancelled meanwhile.
            await asyncio.wait((supervising,))

    def describe(self) -> ModelDescription:
        """See the port; while the process is started again the model is not ready."""
        self._serving()
        if isinstance(self._description, ModelNotReadyError):
            raise self._description.with_traceback(None)
        return self._description

    async def transcribe(
        self, samples: Samples, *, after_s: float = 0.0, decoding: Decoding = GREEDY
    ) -> tuple[Token, ...]:
        """See the port; waits while the process is started again.

        Raises:
            ShuttingDownError: The model was closed meanwhile.
        """
        request = Transcribe(samples, after_s, decoding)
        process = await self._serving_soon()
        try:
            return await process.call(request, _tokens)
        except ProcessEndedError:
            self._suspects += 1
        try:
            return await self._read_alone(request)
        except ProcessEndedError as error:
            _log.error("window_given_up", samples=len(samples))
            raise InferenceError("The model's process died of this audio, twice.") from error
        finally:
            self._suspects -= 1
            self._notify()

    async def _read_alone(self, request: Transcribe) -> tuple[Token, ...]:
        """Read a suspect.

        Raises:
            ProcessEndedError: The process died of it.
        """
        async with self._alone:
            while True:
                process = await self._serving_soon(suspect=True)
                async with AsyncExitStack() as turn:
                    try:
                        await turn.enter_async_context(process.held(BeAlone()))
                    except ProcessEndedError:
                        # Of a suspect of another process that shares the model.
                        continue
                    return await process.call(replace(request, alone=True), _tokens)

    @asynccontextmanager
    async def open_stream(
        self, context: StreamContext, *, decoding: Decoding = GREEDY
    ) -> AsyncGenerator["IsolatedRecognitionStream"]:
        """See the port."""
        try:
            async with self._serving().held(OpenStream(context, decoding)) as number:
                hop = max(round(context.chunk_s * self._rate_hz), 1)
                yield IsolatedRecognitionStream(
                    partial(self.step, self._process), number, hop=hop, rate_hz=self._rate_hz
                )
        except ProcessEndedError as error:
            raise self._refusal or InferenceError("The model's process died.") from error

    async def step(self, process: Connection, request: Decode | Flush, results: Decoder[_Step]) -> _Step:
        """One step of a live stream that `process` holds; fails if that has ended."""
        try:
            return await process.call(request, results)
        except ProcessEndedError as error:
            if self._state is _State.CLOSED:
                raise ShuttingDownError("The service is shutting down.") from error
            raise InferenceError("The model's process died, and the stream's state with it.") from error

    def _serving(self) -> Connection:
        if self._refusal is not None:
            raise self._refusal.with_traceback(None)
        return self._process

    async def _serving_soon(self, *, suspect: bool = False) -> Connection:
        """The process once it serves; while there are suspects, only they are served."""
        while self._state is _State.RESTARTING or (self._state is _State.READY and self._suspects and not suspect):
            await self._changed.wait()
        if self._state is _State.CLOSED:
            raise ShuttingDownError("The service is shutting down.")
        return self._serving()

    def _enter(self, state: _State, refusal: ServiceError | None) -> None:
        # Nothing follows the end.
        if self._state is not _State.CLOSED:
            self._state, self._refusal = state, refusal
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _give_up(self, error: Exception) -> ServiceError:
        if not isinstance(error, ModelLoadError):
            error = ModelLoadError(f"The model's process cannot be started: {error}.")
        self._enter(_State.FAILED, error)
        return error

    async def _start_process(self) -> None:
        """Start a process that has loaded the model.

        Raises:
            ModelLoadError: The model says that it cannot be loaded.
            ProcessEndedError: The process died, or could not even be started; the message says how.
        """
        began = time.monotonic()
        self._process = await self._begin(on_end=self._on_end)
        self._description = description = decoded(self._process.greeting, _descriptions)
        self._rate_hz = description.sample_rate_hz
        self._load_s = time.monotonic() - began
        _log.info("model_process_ready", **self._whose(), load_s=round(self._load_s, 2))
        # It may have died since it answered: then the supervisor finds out.
        if not self._process.ended.is_set():
            self._metrics.model_loaded(description)
            self._enter(_State.READY, None)

    def _whose(self) -> dict[str, int]:
        """For a line of the log: the process, where it is known."""
        return {} if self._process.pid is None else {"pid": self._process.pid}

    def _count(self, event: Raw) -> None:
        metric = decoded(event, _metrics)
        getattr(self._metrics, metric.name)(**metric.values)

    def _on_end(self) -> None:
        """From this moment, before any caller learns of the end, the model is not ready."""
        self._metrics.queue_changed(depth=0)
        self._metrics.streams_changed(open_now=0)
        if self._state is _State.READY:
            message = "The model's process died and is being started again."
            self._enter(_State.RESTARTING, ModelNotReadyError(message, retry_after_s=max(self._load_s, 1.0)))

    async def _supervise(self) -> None:
        deaths = 0  # in a row
        try:
            while True:
                await self._watch(self._process)
                how = await self._process.end(patience_s=0)
                deaths = deaths + 1 if self._process.answers <= 1 else 1
                _log.error("model_process_died", **self._whose(), how=how, in_a_row=deaths)
                deaths = await self._restart(deaths)
        except Exception as error:  # noqa: BLE001 - the last handler of a task that nobody awaits
            # A defect of ours is logged with its trace.
            unknown = not isinstance(error, ModelLoadError)
            _log.critical("model_given_up", reason=self._give_up(error).message, exc_info=unknown)
        finally:
            await self._process.end(patience_s=self._patience_s)

    async def _watch(self, process: Connection) -> None:
        """Keep up with what the process says of the model, where that changes, until it ends."""
        has_workers = isinstance(self._description, ModelDescription) and self._description.workers_up is not None
        while not process.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S if has_workers else None):
                    await process.ended.wait()
                    return
            with suppress(ProcessEndedError):
                try:
                    self._description = await process.call(Describe(), _descriptions)
                except ModelNotReadyError as error:
                    self._description = error

    async def _restart(self, deaths: int) -> int:
        """Start a process until one serves; gives the number of deaths in a row.

        Raises:
            ModelLoadError: The model cannot be loaded any more, or its process died too often.
        """
        for death, pause_s in enumerate(self._pauses_s[deaths - 1 :], start=deaths):
            _log.warning("model_process_restarts", pause_s=pause_s, in_a_row=death)
            await asyncio.sleep(pause_s)
            try:
                await self._start_process()
            except ProcessEndedError as error:
                _log.error("model_process_stillborn", reason=str(error))
            else:
                return death
        raise ModelLoadError(f"The model's process died {len(self._pauses_s)} times in a row; it was given up.")
