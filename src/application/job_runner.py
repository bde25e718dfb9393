"""What reads jobs in the background, on this server."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ..domain.errors import (
    AudioTooLongError,
    CallerError,
    ModelLoadError,
    RateLimitError,
    RetryLaterError,
    ServiceError,
)
from ..domain.jobs import Job, JobError, JobEvent, JobStatus
from ..domain.transcript import Word
from ..domain.transcript_json import dump_transcript
from .changes import Changes
from .checkpointed_model import CheckpointedModel
from .drain import Drain
from .job_bill import JobBill
from .ports.job_observer import JobObserver
from .ports.job_store import Claim, Ending, JobStore, LeaseLostError
from .ports.quota import UNLIMITED, Quota
from .ports.recording_store import RecordingStore
from .ports.speech_model import Decoding, SpeechModel
from .ports.web_client import WebClient
from .run_unless import run_unless
from .transcribe_file import Progress, TranscribeFile

_LOOK_S = 1.0
"""How often a server that has nothing to do looks for jobs of others."""
_TROUBLE_S = 5.0
"""What a server waits whose store cannot be reached."""
_HOUSEKEEPING_S = 30.0
_MOST_ATTEMPTS = 3
"""Of one job that fails by our fault without getting on."""
_MOST_DEATHS = 20
"""Of one job under which servers die without its getting on."""


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """How jobs are read.

    Attributes:
        workers: Jobs that are read at once.
        windows: Windows of all of them that are with the model at once.
        lease_s: How long a server may say nothing until its jobs are another's.
        retention_s: How long what has ended is kept; 0: until it is deleted.
    """

    workers: int
    windows: int
    lease_s: float
    retention_s: float


@dataclass(frozen=True, slots=True)
class JobRunner:
    """Reads jobs while `run` runs: claims them, keeps what was read of them, and ends them.

    A server that drains puts its jobs back at once, with all that was read of them.
    """

    transcribe_file: TranscribeFile
    store: JobStore
    recordings: RecordingStore
    limits: RunnerLimits
    changes: Changes
    observer: JobObserver
    drain: Drain
    web: WebClient
    quota: Quota = UNLIMITED
    clock: Callable[[], float] = time.time
    _running: dict[str, "asyncio.Task[None]"] = field(default_factory=dict[str, "asyncio.Task[None]"])

    async def run(self) -> None:
        """Work until the service drains."""
        places = asyncio.Semaphore(self.limits.windows)
        await run_unless(self.drain.wait_begun(), self._work(places))

    async def _work(self, places: asyncio.Semaphore) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.limits.workers):
                group.create_task(self._forever("reading jobs", lambda: self._read_next(places)))
            group.create_task(self._forever("renewing leases", self._renew))
            group.create_task(self._forever("deleting old jobs", self._keep_house))

    async def _forever(self, doing: str, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - the outermost handler of work that nobody waits for
                self.observer.failed_unexpectedly(doing, error)
                await asyncio.sleep(_TROUBLE_S)

    async def _renew(self) -> None:
        await asyncio.sleep(self.limits.lease_s / 3)
        # Only what is being read: a job that could not be put back, on a full disk, is anybody's when its lease ends.
        held = dict(self._running)
        ours = await self.store.renew(self.clock(), held)
        for job_id, task in held.items():
            # One that is being ended meanwhile is nobody's any more.
            if job_id not in ours and job_id in self._running:
                task.cancel()

    async def _keep_house(self) -> None:
        if self.limits.retention_s:
            await self.store.delete_ended(before=self.clock() - self.limits.retention_s)
        counts = await self.store.counts()
        self.observer.counted(
            {status.value: number for status, number in counts.jobs.items()},
            {status.value: number for status, number in counts.webhooks.items()},
        )
        await asyncio.sleep(_HOUSEKEEPING_S)

    async def _read_next(self, places: asyncio.Semaphore) -> None:
        try:
            self.transcribe_file.model.describe()
        except (RetryLaterError, ModelLoadError):
            # One that cannot be loaded ends the service, which says so itself.
            await self.changes.wait(_LOOK_S)
            return
        claim = await self.store.claim(self.clock())
        if claim is None:
            await self.changes.wait(_LOOK_S)
            return
        job_id = claim.job.id
        if job_id in self._running:
            return  # This process slept for longer than the lease; the claim has renewed it, and the reader goes on.
        reading = asyncio.create_task(self._read(claim, places))
        self._running[job_id] = reading
        try:
            await asyncio.wait((reading,))
            if reading.cancelled():
                return  # it is no longer ours
            reading.result()
        except asyncio.CancelledError:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._put_back_at_stop(claim.job)
            raise
        finally:
            self._running.pop(job_id, None)

    async def _put_back_at_stop(self, job: Job) -> None:
        try:
            await self.store.release(job.id, ready_at=0.0, counts=False)
        except ServiceError as error:
            # The stop goes on: the job is another's when its lease ends, or when this service starts again.
            self.observer.failed_unexpectedly("putting a job back", error, job_id=job.id)
        else:
            self.observer.job_put_back(job, reason="the service stops")

    async def _read(self, claim: Claim, places: asyncio.Semaphore) -> None:
        job = claim.job
        bill = JobBill()
        try:
            await self._end(job, await self._transcribe(claim, places, bill), audio_s=bill.audio_s)
        except LeaseLostError:
            return
        except CallerError as error:
            await self._end(job, self._failure(error))
        except RetryLaterError as error:
            await self.store.release(job.id, ready_at=self.clock() + error.retry_after_s, counts=False)
            self.observer.job_put_back(job, reason=error.code)
        except Exception as error:  # noqa: BLE001 - the outermost handler: a job must not vanish in a log
            await self._try_again(claim, error)

    async def _try_again(self, claim: Claim, error: Exception) -> None:
        self.observer.failed_unexpectedly("reading a job", error, job_id=claim.job.id)
        if claim.attempts < _MOST_ATTEMPTS:
            await self.store.release(claim.job.id, ready_at=self.clock() + _TROUBLE_S * claim.attempts, counts=True)
        else:
            await self._end(claim.job, self._failure(error if isinstance(error, ServiceError) else None))

    async def _transcribe(self, claim: Claim, places: asyncio.Semaphore, bill: JobBill) -> Ending:
        job = claim.job
        if claim.attempts > _MOST_DEATHS:
            return self._failure(None)
        description = self.transcribe_file.model.describe()
        await self._fetch(job)
        duration_s = job.duration_s
        if duration_s is None:
            # How far it is can be told only of what is known whole, and decoding costs little beside reading.
            duration_s = await self._duration(job)
        name = f"{description.id} ({description.engine}, {description.precision})"
        known = await self.store.begin(job.id, model=name, duration_s=duration_s)
        self.observer.job_began(job, attempt=claim.attempts, known_windows=len(known))
        self.changes.announce()

        def checkpointed(channel: int) -> SpeechModel:
            return CheckpointedModel(
                self.transcribe_file.model,
                job.id,
                known,
                channel=channel,
                store=self.store,
                places=places,
                observer=self.observer,
            )

        transcribe = replace(
            self.transcribe_file,
            model_of=checkpointed,
            limits=replace(self.transcribe_file.limits, timeout_s=math.inf),
            quota=bill,
        )
        request = job.request
        news: asyncio.Queue[Progress] = asyncio.Queue()
        keeping = asyncio.create_task(self._keep_progress(job, duration_s, news))
        source = self.recordings.open(job.id)
        reading = asyncio.create_task(
            transcribe(
                source,
                caller=job.owner,
                decoding=Decoding(beam_size=request.beam_size, phrases=request.phrases),
                detection=request.detection,
                track=request.track,
                separate=request.separate,
                on_progress=news.put_nowait,
            )
        )
        try:
            await asyncio.wait((reading, keeping), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                keeping.result()
            transcript = await reading
            # All that was told is kept before the end is.
            await run_unless(_ended(keeping), news.join())
        finally:
            for task in (reading, keeping):
                task.cancel()
            await asyncio.gather(reading, keeping, return_exceptions=True)
            await source.aclose()
        result = await asyncio.to_thread(dump_transcript, transcript)
        return Ending(JobStatus.COMPLETED, self.clock(), result=result)

    async def _keep_progress(self, job: Job, duration_s: float, news: "asyncio.Queue[Progress]") -> None:
        number = 0
        done_s = 0.0
        while True:
            one = await news.get()
            number += 1
            # Channels take turns, and one may be behind another.
            done_s = max(done_s, one.done_s)
            data = {
                "done_s": round(done_s, 3),
                "duration_s": round(duration_s, 3),
                "words": [_timed(word) for word in one.finalized],
                "draft": " ".join(word.text for word in one.draft),
                **({} if one.channel is None else {"channel": one.channel}),
            }
            await self.store.keep_progress(job.id, JobEvent(number, "job.progress", data), done_s=done_s)
            self.changes.announce()
            news.task_done()

    async def _fetch(self, job: Job) -> None:
        url = job.request.file_url
        if url is None or await self.recordings.has(job.id):
            return
        async with self.web.fetch(url) as pieces:
            await self.recordings.keep(job.id, pieces)

    async def _duration(self, job: Job) -> float:
        """The recording's length in seconds.

        Raises:
            AudioTooLongError: It is longer than recordings may be.
            ServiceError: It cannot be decoded.
        """
        rate_hz = self.transcribe_file.model.describe().sample_rate_hz
        limit_s = self.transcribe_file.limits.longest_s
        samples = 0
        request = job.request
        async with (
            aclosing(self.recordings.open(job.id)) as source,
            self.transcribe_file.decoder.open(
                source, sample_rate_hz=rate_hz, track=request.track, separate=request.separate
            ) as decoded,
        ):
            async for block in decoded.blocks:
                samples += len(block)
                if samples > limit_s * rate_hz:
                    raise AudioTooLongError(limit_s=limit_s, duration_s=samples / rate_hz)
        return samples / rate_hz

    def _failure(self, error: ServiceError | None) -> Ending:
        told = (
            JobError("internal_error", "Internal error. The service's log has the details under the job's id.")
            if error is None
            else JobError(error.code, error.message)
        )
        return Ending(JobStatus.FAILED, self.clock(), error=told)

    async def _end(self, job: Job, ending: Ending, *, audio_s: float = 0.0) -> None:
        # From here on its lease is not renewed: that it is gone must not be taken for a loss.
        self._running.pop(job.id, None)
        try:
            ended = await self.store.finish(job.id, ending)
        except LeaseLostError:
            return
        await self.recordings.remove(job.id)
        if ending.status is JobStatus.COMPLETED and job.caller is not None:
            # If this exceeds its limit, its next request is refused: this one has been served.
            with suppress(RateLimitError):
                await self.quota.charge(job.caller, audio_s)
        self.observer.job_ended(ended)
        self.changes.announce()


def _timed(word: Word) -> dict[str, object]:
    return {"text": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3)}


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait((task,))
