"""The calls to workers: what they bring, and what they are answered with."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import structlog

from ...application.ports.metrics import ClusterMetrics
from ...domain.errors import InferenceError
from ..inference.job_queue import Urgency
from .dispatch import Dispatch, Place, Queued
from .workers import Outcome, Window, WorkerLostError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_GATHER = 0.3
"""Of the time that a batch takes, how much windows wait for others that go with them."""
_LONGEST_GATHER_S = 0.05


class Calls:
    """Calls workers with what they are to run, and has a call with each that has something."""

    def __init__(
        self,
        dispatch: Dispatch,
        metrics: ClusterMetrics,
        *,
        gather_s: float,
        clock: Callable[[], float],
        keep: Callable[[Coroutine[object, object, None]], None],
        on_loss: Callable[[Place], None],
        on_leave: Callable[[Place], Awaitable[None]],
    ) -> None:
        """Begin without a call.

        Args:
            dispatch: Says which worker gets what.
            metrics: Counts jobs.
            gather_s: See `PoolRules`.
            clock: Seconds since any moment.
            keep: Runs a task that nobody awaits.
            on_loss: Told of a worker that is dead.
            on_leave: Told of one that is to leave, and has nothing left.
        """
        self._dispatch = dispatch
        self._metrics = metrics
        self._gather_s = gather_s
        self._clock = clock
        self._keep = keep
        self._on_loss = on_loss
        self._on_leave = on_leave
        self.mean_s = 0.5
        """For each job of a recording; a first guess."""
        self._batch_s = 0.0  # from one answer of a worker to the next
        self._handing: asyncio.TimerHandle | None = None
        self._closed = False

    def close(self) -> None:
        """Hand out nothing more; what was handed out is still heard of."""
        self._closed = True
        if self._handing is not None:
            self._handing.cancel()

    def hand_out_soon(self, urgency: Urgency) -> None:
        """Hand out what waits: at once where that saves time, else together with what comes soon."""
        if urgency is Urgency.FINAL or self._dispatch.has_idle:
            # Once the loop has handed over all that it has now: what arrives together runs together.
            asyncio.get_running_loop().call_soon(self.hand_out)
        elif self._handing is None:
            # Workers need it when their batches end, and each call costs this process more than a window does.
            wait_s = min(max(self._batch_s * _GATHER, self._gather_s), _LONGEST_GATHER_S)
            self._handing = asyncio.get_running_loop().call_later(wait_s, self.hand_out)

    def hand_out(self) -> None:
        """Hand out what waits."""
        if self._handing is not None:
            self._handing.cancel()
            self._handing = None
        if self._closed:
            return
        for place, windows in self._dispatch.hand_out():
            self._call(place, windows)

    def _call(self, place: Place, windows: Sequence[Queued]) -> None:
        now = self._clock()
        if not place.calls:
            place.since = now
        for queued in windows:
            self._metrics.window_began(live=queued.urgency.is_live, waited_s=now - queued.arrived)
        place.calls += 1
        place.called += 1
        self._keep(self._run(place, windows, place.called))

    async def _run(self, place: Place, windows: Sequence[Queued], number: int) -> None:
        try:
            outcomes = await place.worker.run([Window(one.number, one.job, one.urgency) for one in windows])
        except WorkerLostError:
            self._on_loss(place)
            return
        except Exception:  # noqa: BLE001 - nobody awaits this
            # A defect of ours: what the worker still has is not known. What waits must go on all the same.
            _log.exception("unexpected_error_of_worker", worker=place.number, windows=len(place.given))
            _fail(place)
            outcomes = ()
        finally:
            place.calls -= 1
        if not windows and not outcomes and number == place.called and place.given:
            # It was asked for nothing else, and does not know of them.
            _log.error("windows_lost", worker=place.number, windows=len(place.given))
            _fail(place)
        self._accept(place, outcomes)
        self.hand_out()
        if place.given and not place.calls:
            # What it still has must find somebody who waits.
            self._call(place, ())
        elif place.leaving and not place.given:
            await self._on_leave(place)

    def _accept(self, place: Place, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Tell those who wait."""
        read = [(queued, outcome) for number, outcome in outcomes if (queued := place.take(number)) is not None]
        if not read:
            return
        now = self._clock()
        took_s, place.since = now - place.since, now
        self._batch_s += 0.1 * (took_s - self._batch_s)
        if not any(queued.urgency.is_live for queued, _ in read):
            self.mean_s += 0.1 * (took_s / len(read) - self.mean_s)
        audio_s = sum(queued.seconds for queued, _ in read)
        self._metrics.batch_read(size=len(read), audio_s=audio_s, took_s=took_s)
        self._metrics.worker_answered(worker=place.number, audio_s=audio_s)
        for queued, outcome in read:
            if queued.future.done():
                continue  # the caller has left
            if isinstance(outcome, Exception):
                queued.future.set_exception(outcome)
            else:
                queued.future.set_result(outcome)


def _fail(place: Place) -> None:
    """Nobody shall wait for windows of which nothing will be heard."""
    for queued in tuple(place.given.values()):
        place.take(queued.number)
        if not queued.future.done():
            queued.future.set_exception(InferenceError("The model failed on this audio."))
