"""The service in this process, as the tools ask it."""

import asyncio
import math
from collections.abc import AsyncIterable, Callable
from dataclasses import replace

from starlette.requests import Request

from ...application.drain import Drain
from ...application.ports.speech_model import Decoding, SpeechModel
from ...application.run_unless import run_unless
from ...application.service import Service
from ...application.transcription_jobs import Caller, TranscriptionJobs
from ...domain.errors import InvalidRequestError, ServiceError
from ...domain.jobs import Job, JobRequest, JobStatus
from .transcription import JobOutput, Reading, TranscriptOutput, Writing
from .written import written


class ServiceTranscriber:
    """The service in this process; a call has no time limit of its own."""

    def __init__(
        self,
        service: Service,
        ready: "asyncio.Task[None] | None" = None,
        *,
        caller_of: Callable[[Request], Caller] | None = None,
    ) -> None:
        """Read with `service`.

        Args:
            service: What reads.
            ready: Ends when it has started: calls wait for that. Without it they are refused before.
            caller_of: Whom to charge for a request; without it, nobody.
        """
        limits = replace(service.transcribe_file.limits, timeout_s=math.inf)
        self._transcribe = replace(service.transcribe_file, limits=limits)
        self._drain = service.drain
        self._ready = ready
        self._caller_of = caller_of

    async def __call__(
        self,
        source: AsyncIterable[bytes],
        reading: Reading,
        writing: Writing,
        *,
        request: Request | None,
        on_progress: Callable[[float], None],
    ) -> TranscriptOutput:
        """See `Transcriber`."""
        caller = None if request is None or self._caller_of is None else self._caller_of(request).quota
        with self._drain.work():
            if self._ready is not None:
                # Whoever leaves must not stop the start.
                await asyncio.shield(self._ready)
            transcript = await self._transcribe(
                source,
                caller=caller,
                decoding=_decoding(reading, self._transcribe.model),
                track=reading.track,
                separate=reading.channels == "separate",
                on_progress=lambda news: on_progress(news.done_s),
            )
            return await asyncio.to_thread(written, transcript, writing)

    async def status(self) -> str:
        """See `Transcriber`."""
        try:
            model = self._transcribe.model.describe()
        except ServiceError as error:
            return error.message
        return f"ready: {model.id}"


class ServiceJobs:
    """The jobs of the service in this process."""

    def __init__(
        self, jobs: TranscriptionJobs, model: SpeechModel, drain: Drain, *, caller_of: Callable[[Request], Caller]
    ) -> None:
        """Use `jobs`, which `model` reads; `caller_of` tells who asks."""
        self._jobs = jobs
        self._model = model
        self._drain = drain
        self._caller_of = caller_of

    async def are_on(self) -> bool:
        """See `BackgroundJobs`."""
        return True

    async def start(
        self, source: AsyncIterable[bytes] | str, reading: Reading, *, request: Request | None
    ) -> JobOutput:
        """See `BackgroundJobs`."""
        url = source if isinstance(source, str) else None
        decoding = _decoding(reading, self._model)
        if reading.track is not None and reading.track < 1:
            raise InvalidRequestError("track: tracks are counted from 1.", param="track")
        ask = JobRequest(
            phrases=decoding.phrases, track=reading.track, separate=reading.channels == "separate", file_url=url
        )
        with self._drain.work():
            job = await self._jobs.submit(self._caller(request), ask, None if isinstance(source, str) else source)
        return _output(job)

    async def find(self, job_id: str, writing: Writing, *, wait_s: float, request: Request | None) -> JobOutput:
        """See `BackgroundJobs`."""
        caller = self._caller(request)
        await run_unless(self._drain.wait_begun(), self._jobs.find(caller, job_id, wait_s=wait_s))
        job = await self._jobs.find(caller, job_id)
        if job.status is not JobStatus.COMPLETED:
            return _output(job)
        job, transcript = await self._jobs.result(caller, job_id)
        return _output(job, await asyncio.to_thread(written, transcript, writing))

    def _caller(self, request: Request | None) -> Caller:
        # Jobs have owners, and who is not known is none: this is for HTTP alone.
        assert request is not None  # noqa: S101
        return self._caller_of(request)


def _decoding(reading: Reading, model: SpeechModel) -> Decoding:
    if reading.keywords and not (description := model.describe()).searches:
        raise InvalidRequestError(f"{description.id} does not support keywords.", param="keywords")
    return Decoding(phrases=reading.keywords)


def _output(job: Job, transcript: TranscriptOutput | None = None) -> JobOutput:
    return JobOutput(
        id=job.id,
        status=job.status.value,
        done=round(job.done_s, 3),
        duration=None if job.duration_s is None else round(job.duration_s, 3),
        error=None if job.error is None else job.error.message,
        transcript=transcript,
    )
