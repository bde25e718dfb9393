"""Which worker runs what next: one queue before all workers, and what each has been given. No I/O."""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.job_queue import JobQueue, QueuedJob, Urgency
from ..inference.jobs import DecodeResult, EncoderJob
from .workers import Worker

_AHEAD = 2
"""Largest batches that a worker holds: one runs while the next waits for it."""
_LIVE_AHEAD = 4
"""The same, where further live windows may be added: the worker runs them between the steps of others."""
_CALL_S = 240.0
"""Audio that one call brings: the worker begins with the first call while it still receives the others."""

Queued = QueuedJob[EncoderJob, DecodeResult]
Queue = JobQueue[EncoderJob, DecodeResult]


@dataclass(eq=False, slots=True)
class Place:
    """A worker that is up, and what it has been given.

    Attributes:
        number: Its place, which its successor takes over.
        worker: Runs what it is given.
        machine: Where it is.
        given: Windows that it was given and has not answered, by their numbers.
        seconds: Audio in them.
        calls: To it, not answered.
        called: How often it was called.
        since: When it answered last, or was given something after it had nothing.
        reserved: It gets nothing new; once idle it runs one suspect.
        leaving: It gets nothing new; once idle it is stopped.
        turn: When it was given something last, in turns of this front.
    """

    number: int
    worker: Worker
    machine: str = ""
    given: dict[int, Queued] = field(default_factory=dict[int, Queued])
    seconds: float = 0.0
    calls: int = 0
    called: int = 0
    since: float = 0.0
    reserved: bool = False
    leaving: bool = False
    turn: int = 0

    def give(self, queued: Queued) -> None:
        """It has this window now."""
        self.given[queued.number] = queued
        self.seconds += queued.seconds

    def take(self, number: int) -> Queued | None:
        """The window, which it has answered."""
        queued = self.given.pop(number, None)
        if queued is not None:
            # Where there is nothing, no rounding of former sums is left either.
            self.seconds = self.seconds - queued.seconds if self.given else 0.0
        return queued


class Planner:
    """Batches for workers whose engine is elsewhere: a worker's own scheduler cuts them to its engine's taste."""

    def __init__(self, sample_rate_hz: int) -> None:
        """Jobs are at this rate."""
        self._sample_rate_hz = sample_rate_hz

    def company(self, jobs: Sequence[EncoderJob], most: int) -> Sequence[int]:
        """See `BatchPlanner`: beam searches go alone."""
        if jobs[0].searched:
            return [0]
        return [at for at, job in enumerate(jobs) if not job.searched][:most]

    def seconds(self, job: EncoderJob) -> float:
        """See `BatchPlanner`."""
        return len(job.samples) / self._sample_rate_hz


class Dispatch:
    """Hands out what waits, each window to the worker that has least to do.

    A job whose worker died is a suspect: from then on it runs alone on a worker that has nothing else, so that one
    that kills workers is known, and takes no other job with it.
    """

    def __init__(self, queue: Queue, planner: Planner, *, batch_size: int) -> None:
        """Begin without workers."""
        self._queue = queue
        self._planner = planner
        self.batch_size = batch_size
        self.places: list[Place] = []
        self.suspects: list[Queued] = []
        self._turns = itertools.count(1)

    @property
    def has_idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return any(not place.given and not place.leaving for place in self.places)

    def hand_out(self) -> Sequence[tuple[Place, Sequence[Queued]]]:
        """Calls to be made now; their windows are taken out of the queue, and given."""
        handed: list[tuple[Place, Queued]] = []
        while (suspected := self._next_suspect()) is not None:
            handed.append(suspected)
        handed += self._share(_AHEAD)
        handed += self._share(_LIVE_AHEAD, live=True)
        return _calls(handed)

    def _next_suspect(self) -> tuple[Place, Queued] | None:
        self.suspects = [queued for queued in self.suspects if not queued.future.done()]
        staying = [place for place in self.places if not place.leaving]
        if not self.suspects or not staying:
            for place in self.places:
                # Until the last suspect is done, too, nothing runs beside it.
                place.reserved = place.reserved and bool(place.given)
            return None
        reserved = next((place for place in staying if place.reserved), None)
        place = reserved or min(staying, key=lambda place: place.seconds)
        place.reserved = True
        if place.given:
            return None
        suspect = min(self.suspects, key=lambda queued: queued.due)
        self.suspects.remove(suspect)
        self._give(place, suspect)
        return place, suspect

    def _share(self, ahead: int, *, live: bool = False) -> list[tuple[Place, Queued]]:
        """Give workers what waits, until they hold as much as so many of the largest batches."""
        most = ahead * self.batch_size
        # Among equals by turns: other fronts may share the workers, and all would begin with the same one.
        free = [
            (place.seconds, place.turn, place.number, place)
            for place in self.places
            if not place.reserved and not place.leaving and len(place.given) < most
        ]
        heapq.heapify(free)
        handed: list[tuple[Place, Queued]] = []
        while free and (waiting := len(self._queue)):
            room = sum(most - len(place.given) for *_, place in free)
            batch = (
                self._queue.more_urgent_batch(self._planner, Urgency.SHORT)
                if live
                else self._queue.take_batch(self._planner, most=room)
            )
            if len(self._queue) == waiting:
                # Nothing more is urgent enough; a batch that is empty may be one whose callers have left.
                break
            for queued in batch:
                place = free[0][-1]
                self._give(place, queued)
                handed.append((place, queued))
                if len(place.given) < most:
                    heapq.heapreplace(free, (place.seconds, place.turn, place.number, place))
                elif len(free) > 1:
                    # The last one takes the rest of what was taken out of the queue.
                    heapq.heappop(free)
            free = [entry for entry in free if len(entry[-1].given) < most]
        return handed

    def _give(self, place: Place, queued: Queued) -> None:
        place.give(queued)
        place.turn = next(self._turns)


def _calls(handed: Sequence[tuple[Place, Queued]]) -> Sequence[tuple[Place, Sequence[Queued]]]:
    """What was handed out, in one call for each place, or several of bounded size."""
    calls: list[tuple[Place, list[Queued]]] = []
    begun: dict[int, tuple[list[Queued], float]] = {}
    for place, queued in handed:
        call, seconds = begun.get(place.number, (None, 0.0))
        if call is None or seconds + queued.seconds > _CALL_S:
            call, seconds = list[Queued](), 0.0
            calls.append((place, call))
        call.append(queued)
        begun[place.number] = call, seconds + queued.seconds
    return calls
