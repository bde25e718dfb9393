"""Processes that score recordings, so that the service's own, with its one interpreter lock, need not."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.msgpack import Decoder

from ...domain.audio import Samples
from ...domain.errors import InferenceError, ModelLoadError, ShuttingDownError
from ...domain.vad import Probabilities
from ..processes.child import Host, Reply
from ..processes.connection import ProcessEndedError
from ..processes.messages import decoder_of, nothing
from ..processes.process import ChildProcess, Recipe
from .scoring import SignalState, score
from .silero_network import SileroNetwork

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_ATTEMPTS = 2


class Score(Struct):
    """The next samples of a signal."""

    samples: Samples
    signal: SignalState


class Scored(Struct):
    """Their probabilities, and what is remembered of the signal from now on."""

    probabilities: Probabilities
    signal: SignalState


_results: Decoder[Scored] = decoder_of(Scored)


@asynccontextmanager
async def _scorer(model: Path, _emit: Callable[[object], None]) -> AsyncGenerator[Host]:
    network = SileroNetwork(model)

    async def handle(_number: int, request: Score, reply: Reply) -> None:
        # In the event loop, for a process has nothing else to do; one signal at a time, so that its scores do not depend on
        # what comes beside it.
        await reply(Scored(score(network, request.signal, request.samples), request.signal))

    yield Host(Score, None, lambda: handle)


class ScoringProcesses:
    """So many processes, each of which scores any signal: what is remembered of a signal travels with its samples.

    One that dies or hangs is started again when it is next needed, and what it had is scored once more.
    """

    def __init__(self, count: int, model: Path, *, prepare: Callable[[], None] = nothing) -> None:
        """Remember what to start; `prepare` is called in each process first, and must be picklable."""
        self._recipe = Recipe(partial(_scorer, model), prepare)
        self._slots = [_Slot(self._recipe) for _ in range(count)]
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def serve_here(self) -> bool:
        """Whether they have been started in this event loop, and not been closed."""
        return self._loop is asyncio.get_running_loop()

    @property
    def pids(self) -> list[int]:
        """Those that run."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    async def start(self) -> None:
        """Start them all.

        Raises:
            ModelLoadError: They cannot be started, or not load the model.
        """
        try:
            async with asyncio.TaskGroup() as starting:
                for slot in self._slots:
                    starting.create_task(slot.running())
        except* (ModelLoadError, ProcessEndedError) as errors:
            reason = errors.exceptions[0]
            raise ModelLoadError(f"The voice activity detector's process cannot be started: {reason}") from reason
        self._loop = asyncio.get_running_loop()

    async def aclose(self) -> None:
        """End them all, now; who still waits gets an error."""
        self._loop = None
        await asyncio.gather(*(slot.aclose() for slot in self._slots))

    async def score(self, samples: Samples, signal: SignalState) -> tuple[Probabilities, SignalState]:
        """Score the next samples of a signal; gives their probabilities, and what to remember from now on.

        Raises:
            InferenceError: The detector failed, or its process died twice.
            ShuttingDownError: They were closed meanwhile.
        """
        # The one that has least to do.
        slot = min(self._slots, key=lambda slot: slot.waiting)
        slot.waiting += 1
        failure: Exception | None = None
        try:
            for _ in range(_ATTEMPTS):
                try:
                    process = await slot.running()
                    scored = await process.call(Score(samples, signal), _results)
                except (ModelLoadError, ProcessEndedError) as error:
                    failure = error
                else:
                    return scored.probabilities, scored.signal
        finally:
            slot.waiting -= 1
        raise InferenceError("The voice activity detector's process died, twice.") from failure


class _Slot:
    """One process at a time."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._starting = asyncio.Lock()
        self._closed = False
        self.process: ChildProcess | None = None
        self.waiting = 0

    async def running(self) -> ChildProcess:
        """The process; started again, if it has died."""
        async with self._starting:
            if self._closed:
                raise ShuttingDownError("The service is shutting down.")
            if self.process is not None and self.process.ended.is_set():
                died, self.process = self.process, None
                _log.error("vad_process_died", pid=died.pid, how=await died.end(patience_s=0))
            if self.process is None:
                self.process = await ChildProcess.start(self._recipe)
                _log.info("vad_process_ready", pid=self.process.pid)
            return self.process

    async def aclose(self) -> None:
        """End it, also one that is being started."""
        self._closed = True
        async with self._starting:
            if self.process is not None:
                process, self.process = self.process, None
                await process.end(patience_s=0)
