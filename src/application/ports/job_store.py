"""The port behind which jobs are kept, and handed out to the servers that read them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...domain.jobs import Job, JobError, JobEvent, JobStatus, WebhookStatus
from ...domain.transcript import Token


class LeaseLostError(Exception):
    """The job is no longer this server's: it was cancelled or deleted, or another server has taken it over."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a new job must fit into.

    Attributes:
        most_unfinished: Jobs of everybody that have not ended.
        most_of_owner: Those of one owner.
        most_bytes: Recordings of all of them together.
    """

    most_unfinished: int
    most_of_owner: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be stored.

    Attributes:
        job: As it is now: queued.
        recording_bytes: How large its recording is.
        idempotency_key: By which the caller knows the request again.
        fingerprint: Of the request and its recording: what must be equal where the key is.
    """

    job: Job
    recording_bytes: int = 0
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, order=True)
class WindowKey:
    """A window of a recording.

    Attributes:
        start_ms: Where it begins.
        samples: How many there are in it.
        channel: Whose they are, counted from 0; 0 where all channels are mixed.
    """

    start_ms: int
    samples: int
    channel: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this server is to read.

    Attributes:
        job: The job, running.
        attempts: How often it was begun since it last got on, this time included.
    """

    job: Job
    attempts: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends.

    Attributes:
        status: One that is final.
        at: When, Unix time.
        result: The transcript in the domain's JSON form, of a completed one.
        error: Why, of a failed one.
    """

    status: JobStatus
    at: float
    result: str | None = None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is due.

    Attributes:
        id: Of the message; the same at every attempt.
        url: Where to.
        job: The job, as it ended.
        created_at: When it ended, Unix time.
        attempts: How often it was tried before.
        claimed_until: When somebody else may have it, Unix time; tells this claim from every other.
    """

    id: str
    url: str
    job: Job
    created_at: float
    attempts: int
    claimed_until: float


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs and webhooks there are, by status."""

    jobs: Mapping[JobStatus, int] = field(default_factory=dict[JobStatus, int])
    webhooks: Mapping[WebhookStatus, int] = field(default_factory=dict[WebhookStatus, int])


class JobStore(Protocol):
    """Keeps jobs over restarts, and sees to it that each is read by one server at a time.

    Every method is atomic: a process that dies in it has done all of it, or nothing. What has returned survives the
    death of the process, and of the machine. May be called concurrently; several servers may share what is stored.
    All raise `StorageFullError` where there is no room left, and `JobStorageError` where the store cannot be reached.
    """

    async def open(self) -> None:
        """Make ready; called once. Jobs of a server that is known to be dead may be claimed again."""
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...

    async def add(self, new: NewJob, admission: Admission) -> Job:
        """Store a job, or give the one that its idempotency key has made already.

        Raises:
            IdempotencyConflictError: That was of another fingerprint.
            OverloadedError, RateLimitError, StorageFullError: It does not fit into `admission`.
        """
        ...

    async def find(self, owner: str, job_id: str) -> Job:
        """A job.

        Raises:
            JobNotFoundError: The owner has none of that id.
        """
        ...

    async def jobs_of(self, owner: str, *, status: JobStatus | None, limit: int, after: str | None) -> Sequence[Job]:
        """An owner's jobs, the newest first, those older than the job `after`.

        Raises:
            JobNotFoundError: The owner has no job `after`.
        """
        ...

    async def result(self, owner: str, job_id: str) -> str | None:
        """The transcript of a completed job in the domain's JSON form; ``None`` of one that is not.

        Raises:
            JobNotFoundError: The owner has none of that id.
        """
        ...

    async def events(self, job_id: str, *, after: int) -> Sequence[JobEvent]:
        """The progress of a job behind the event of that number, in order."""
        ...

    async def claim(self, now: float) -> Claim | None:
        """Take the job whose turn it is: of the owner with the fewest running jobs the oldest; ``None`` if none waits.

        A job whose server has not renewed its lease waits, too.
        """
        ...

    async def renew(self, now: float, job_ids: Collection[str]) -> frozenset[str]:
        """Keep those of these jobs that are still this server's for one more lease, and give their ids."""
        ...

    async def begin(
        self, job_id: str, *, model: str, duration_s: float | None
    ) -> Mapping[WindowKey, tuple[Token, ...]]:
        """Note what reads the job, and give the windows that the same model has read; others are forgotten.

        Raises:
            LeaseLostError: It is no longer ours.
        """
        ...

    async def keep_window(self, job_id: str, key: WindowKey, tokens: Sequence[Token]) -> None:
        """Keep what a window holds.

        Raises:
            LeaseLostError: It is no longer ours.
        """
        ...

    async def keep_progress(self, job_id: str, event: JobEvent, *, done_s: float) -> None:
        """Keep an event, unless there is one of its number, and how far the job is.

        Raises:
            LeaseLostError: It is no longer ours.
        """
        ...

    async def release(self, job_id: str, *, ready_at: float, counts: bool) -> None:
        """Put a job of ours back into the queue.

        Args:
            job_id: One that is not ours is left alone.
            ready_at: Not to be claimed before, Unix time.
            counts: Whether this was an attempt.
        """
        ...

    async def finish(self, job_id: str, ending: Ending) -> Job:
        """End a job of ours; its windows are forgotten, and its webhook is due from now on.

        Raises:
            LeaseLostError: It is no longer ours.
        """
        ...

    async def cancel(self, owner: str, job_id: str, now: float) -> Job:
        """End a job that has not ended.

        Raises:
            JobNotFoundError: The owner has none of that id.
            JobConflictError: It has ended.
        """
        ...

    async def delete(self, owner: str, job_id: str) -> None:
        """Delete a job that has ended, with all that is known of it.

        Raises:
            JobNotFoundError: The owner has none of that id.
            JobConflictError: It has not ended.
        """
        ...

    async def delete_ended(self, *, before: float) -> int:
        """Delete what ended before that time, give the room back, and tell how many jobs that were."""
        ...

    async def unfinished(self) -> frozenset[str]:
        """The ids of all jobs that have not ended."""
        ...

    async def counts(self) -> JobCounts:
        """How many there are."""
        ...

    async def claim_delivery(self, now: float) -> Delivery | None:
        """A webhook that is due; nobody else gets it for one lease."""
        ...

    async def delivered(self, delivery: Delivery) -> None:
        """The receiver has taken it; not noted where it has been claimed, or asked for, again meanwhile."""
        ...

    async def delivery_failed(self, delivery: Delivery, *, reason: str, next_at: float | None) -> None:
        """It has not; try again at that time, or never. Noted as `delivered` is."""
        ...

    async def deliver_again(self, owner: str, job_id: str, now: float) -> Job:
        """Have the webhook of a job sent again, from the beginning.

        Raises:
            JobNotFoundError: The owner has none of that id.
            JobConflictError: It has no webhook, or has not ended.
        """
        ...
