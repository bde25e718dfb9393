"""Which worker runs what next: one queue before all workers, and what each has been given. No I/O."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..inference.job_queue import JobQueue, QueuedJob, Urgency
from ..inference.jobs import DecodeResult, EncoderJob
from .workers import Worker

_AHEAD = 2
"""Batches that a worker holds: one runs while the next is on its way."""
_LIVE_AHEAD = 4
"""The same, where further batches of live windows may be added: the worker runs them between the steps of others."""

Queued = QueuedJob[EncoderJob, DecodeResult]
Queue = JobQueue[EncoderJob, DecodeResult]


@dataclass(eq=False, slots=True)
class Place:
    """A worker that is up, and what it has been given.

    Attributes:
        number: Its place, which its successor takes over.
        worker: Runs what it is given.
        machine: Where it is.
        batches: Given to it, not answered.
        seconds: Audio in them.
        reserved: It gets nothing new; once idle it runs one suspect.
        leaving: It gets nothing new; once idle it is stopped.
        turn: When it was given its last batch, in batches of this front.
    """

    number: int
    worker: Worker
    machine: str = ""
    batches: list[Sequence[Queued]] = field(default_factory=list)
    reserved: bool = False
    leaving: bool = False
    turn: int = 0

    @property
    def seconds(self) -> float:
        """Audio that it has been given and not answered."""
        return sum(queued.seconds for batch in self.batches for queued in batch)


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
    """Hands out what waits, to the worker that has least to do.

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

    def next(self) -> tuple[Place, Sequence[Queued]] | None:
        """The next batch and its worker, taken out of the queue; ``None`` if nothing can be handed out now."""
        found = self._next_suspect() or self._next_of(_AHEAD) or self._next_of(_LIVE_AHEAD, live=True)
        if found is not None:
            found[0].turn = next(self._turns)
        return found

    def _next_suspect(self) -> tuple[Place, Sequence[Queued]] | None:
        self.suspects = [queued for queued in self.suspects if not queued.future.done()]
        staying = [place for place in self.places if not place.leaving]
        if not self.suspects or not staying:
            for place in self.places:
                # Until the last suspect is done, too, nothing runs beside it.
                place.reserved = place.reserved and bool(place.batches)
            return None
        reserved = next((place for place in staying if place.reserved), None)
        place = reserved or min(staying, key=lambda place: place.seconds)
        place.reserved = True
        if place.batches:
            return None
        suspect = min(self.suspects, key=lambda queued: queued.due)
        self.suspects.remove(suspect)
        return place, [suspect]

    def _next_of(self, ahead: int, *, live: bool = False) -> tuple[Place, Sequence[Queued]] | None:
        while len(self._queue):
            free = [
                place
                for place in self.places
                if not place.reserved and not place.leaving and len(place.batches) < ahead
            ]
            if not free:
                return None
            if live:
                batch = self._queue.more_urgent_batch(self._planner, Urgency.SHORT)
            else:
                # A burst is shared by those that are idle; a batch that is full is not worth more than that.
                idle = sum(not place.batches for place in free) or 1
                most = min(self.batch_size, math.ceil(len(self._queue) / idle))
                batch = self._queue.take_batch(self._planner, most=most)
            if batch:
                # Among equals by turns: other fronts may share the workers, and all would begin with the same one.
                return min(free, key=lambda place: (place.seconds, place.turn, place.number)), batch
            if live:
                return None
        return None
