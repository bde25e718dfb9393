"""The use-case behind jobs: take a recording now, read it in the background, and tell how it stands."""

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from dataclasses import dataclass

from ..domain.errors import InvalidRequestError, JobConflictError
from ..domain.jobs import Job, JobEvent, JobRequest, JobStatus
from ..domain.transcript import Transcript
from ..domain.transcript_json import load_transcript
from .changes import Changes
from .ports.job_observer import JobObserver
from .ports.job_store import Admission, JobStore, NewJob
from .ports.recording_store import RecordingStore, StoredRecording
from .ports.web_client import WebClient

_LOOK_S = 1.0
"""How often jobs are looked at that other servers may be reading."""
_FINAL_EVENT = 1_000_000_000
"""Number of a job's last event: behind all others."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        owner: Whose the jobs are; the same over restarts, whatever the order of the keys.
        quota: Whom the quota charges; ``None`` charges nobody.
    """

    owner: str
    quota: str | None = None


@dataclass(frozen=True, slots=True)
class TranscriptionJobs:
    """Jobs as their owners see them; `JobRunner` is what reads them.

    Attributes:
        store: Keeps them.
        recordings: Keeps their recordings until they have been read.
        admission: How many there may be.
        changes: Wakes those who wait for news.
        observer: Hears what happens.
        web: Opens the URLs that callers name.
        tells: Whether webhooks are sent: without a secret none can be signed.
        clock: Unix time, in seconds.
    """

    store: JobStore
    recordings: RecordingStore
    admission: Admission
    changes: Changes
    observer: JobObserver
    web: WebClient
    tells: bool = False
    clock: Callable[[], float] = time.time

    async def submit(
        self,
        caller: Caller,
        request: JobRequest,
        source: AsyncIterable[bytes] | None,
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Take a job. When this returns, it is stored, and survives whatever happens to this process.

        Args:
            caller: Who asks.
            request: What is asked for.
            source: The recording; ``None`` if `request` has a URL.
            idempotency_key: Makes a repeated request give the job of the first one.

        Raises:
            InvalidRequestError: This service sends no webhooks.
            UrlNotAllowedError: A URL of the request is never opened.
            IdempotencyConflictError: The key has made another job.
            OverloadedError, RateLimitError, StorageFullError: Later, it may be taken.
        """
        self._check_urls(request)
        job = Job(
            id=f"job_{secrets.token_hex(16)}",
            owner=caller.owner,
            caller=caller.quota,
            request=request,
            status=JobStatus.QUEUED,
            created_at=self.clock(),
        )
        stored = StoredRecording(0, "")
        try:
            if source is not None:
                stored = await self.recordings.keep(job.id, source)
            new = NewJob(job, stored.size_bytes, idempotency_key, _fingerprint(request, stored))
            taken = await self.store.add(new, self.admission)
        except BaseException:
            await asyncio.shield(self.recordings.remove(job.id))
            raise
        if taken.id != job.id:
            await self.recordings.remove(job.id)
        else:
            self.observer.job_submitted(taken)
            self.changes.announce()
        return taken

    async def find(self, caller: Caller, job_id: str, *, wait_s: float = 0.0) -> Job:
        """A job; one that has not ended is waited for, for so long.

        Raises:
            JobNotFoundError: The caller has none of that id.
        """
        until = self.clock() + wait_s
        while True:
            job = await self.store.find(caller.owner, job_id)
            left_s = until - self.clock()
            if job.status.is_final or left_s <= 0:
                return job
            await self.changes.wait(min(left_s, _LOOK_S))

    async def list(
        self, caller: Caller, *, status: JobStatus | None = None, limit: int = 20, after: str | None = None
    ) -> Sequence[Job]:
        """The caller's jobs, the newest first; `after` is the last one of the page before.

        Raises:
            JobNotFoundError: There is no job `after`.
        """
        return await self.store.jobs_of(caller.owner, status=status, limit=limit, after=after)

    async def result(self, caller: Caller, job_id: str) -> tuple[Job, Transcript]:
        """A completed job and its transcript.

        Raises:
            JobNotFoundError: The caller has none of that id.
            JobConflictError: It is not completed.
        """
        job = await self.store.find(caller.owner, job_id)
        text = await self.store.result(caller.owner, job_id)
        if text is None:
            raise JobConflictError(f"The job has no result: it is {job.status}.")
        return job, await asyncio.to_thread(load_transcript, text)

    async def events(self, caller: Caller, job_id: str, *, after: int = 0) -> AsyncGenerator[JobEvent | None]:
        """The news behind the event of that number, as it comes, up to the end; ``None`` where there is none for long.

        Raises:
            JobNotFoundError: The caller has none of that id, or no longer has it.
        """
        while True:
            # In this order: the last words are there before the end is.
            job = await self.store.find(caller.owner, job_id)
            news = await self.store.events(job_id, after=after)
            for event in news:
                yield event
                after = event.number
            if job.status.is_final:
                if after < _FINAL_EVENT:
                    yield JobEvent(_FINAL_EVENT, f"job.{job.status}", job.as_json())
                return
            if not news:
                yield None
            await self.changes.wait(_LOOK_S)

    async def cancel_or_delete(self, caller: Caller, job_id: str) -> Job | None:
        """Cancel a job that has not ended, and give it; delete one that has, with all that is known of it.

        Raises:
            JobNotFoundError: The caller has none of that id.
        """
        job = await self.store.find(caller.owner, job_id)
        if job.status.is_final:
            await self.store.delete(caller.owner, job_id)
            await self.recordings.remove(job_id)
            return None
        try:
            job = await self.store.cancel(caller.owner, job_id, self.clock())
        except JobConflictError:
            # It ended meanwhile.
            return await self.store.find(caller.owner, job_id)
        await self.recordings.remove(job_id)
        self.observer.job_ended(job)
        self.changes.announce()
        return job

    async def send_webhook_again(self, caller: Caller, job_id: str) -> Job:
        """Send the webhook of a job once more, under the same id, whatever became of it before.

        Raises:
            JobNotFoundError: The caller has none of that id.
            JobConflictError: It has not ended, or has no webhook.
        """
        job = await self.store.deliver_again(caller.owner, job_id, self.clock())
        self.changes.announce()
        return job

    def _check_urls(self, request: JobRequest) -> None:
        if request.webhook_url is not None and not self.tells:
            raise InvalidRequestError("This service sends no webhooks: WEBHOOK_SECRET is not set.", param="webhook_url")
        for url in (request.file_url, request.webhook_url):
            if url is not None:
                self.web.check(url)


def _fingerprint(request: JobRequest, stored: StoredRecording) -> str:
    fields = json.dumps(request.as_json(), sort_keys=True)
    return hashlib.sha256(f"{fields}\n{stored.sha256}".encode()).hexdigest()
