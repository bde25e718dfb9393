"""What jobs need, put together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import structlog

from ..adapters.jobs.data_directory import DataDirectory
from ..adapters.jobs.database import Database, postgresql_engine, sqlite_engine
from ..adapters.jobs.observer import JobMetrics, LoggingJobObserver
from ..adapters.jobs.recordings import DatabaseRecordings, FileRecordings
from ..adapters.jobs.store import SqlJobStore
from ..adapters.jobs.webhooks import SignedWebhooks
from ..application.changes import Changes
from ..application.drain import Drain
from ..application.job_runner import JobRunner, RunnerLimits
from ..application.job_webhooks import JobWebhooks
from ..application.ports.job_store import Admission, JobStore
from ..application.ports.quota import Quota
from ..application.ports.recording_store import RecordingStore
from ..application.ports.web_client import WebClient
from ..application.service import Service
from ..application.transcribe_file import TranscribeFile
from ..application.transcription_jobs import TranscriptionJobs
from ..config.settings import Settings
from ..domain.errors import JobStorageError

_log = structlog.stdlib.get_logger(__name__)

_WINDOWS = 4
"""Windows of jobs that are with the model at once: as many as a CPU reads together."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """The use-case, what reads in the background, and what both stand on.

    Where another process of the service reads, there is the use-case alone.
    """

    use_case: TranscriptionJobs
    runner: JobRunner | None
    webhooks: JobWebhooks | None
    directory: DataDirectory | None

    @asynccontextmanager
    async def __call__(self, _service: Service) -> AsyncGenerator[None]:
        """Read jobs while in this context; it is a `Server`."""
        store, recordings = self.use_case.store, self.use_case.recordings
        try:
            await store.open()
            running: list[asyncio.Task[None]] = []
            if self.runner is not None:
                await recordings.remove_all_but(await store.unfinished())
                running.append(asyncio.create_task(self.runner.run()))
            if self.webhooks is not None:
                running.append(asyncio.create_task(self.webhooks.run()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        finally:
            await store.aclose()
            if self.directory is not None:
                self.directory.release()


def jobs(
    settings: Settings,
    transcribe_file: TranscribeFile,
    quota: Quota,
    metrics: JobMetrics,
    drain: Drain,
    web: WebClient,
    *,
    reads: bool = True,
) -> Jobs | None:
    """Jobs, unless they are turned off; `reads` is false where another process of this service reads them.

    Raises:
        JobStorageError: Their place cannot be used; the message says what to do.
    """
    if settings.jobs == "off":
        return None
    directory: DataDirectory | None = None
    url = settings.jobs_database.get_secret_value()
    recordings: RecordingStore
    if url.startswith(("postgresql://", "postgres://")):
        database = Database(postgresql_engine(url))
        recordings = DatabaseRecordings(database)
    else:
        if url and not url.startswith("sqlite:///"):
            raise JobStorageError("JOBS_DATABASE must begin with postgresql:// or sqlite:///.")
        place = settings.data_dir or Path(platformdirs.user_data_dir("parakeet-service"))
        try:
            if reads:
                directory = DataDirectory(place)
        except JobStorageError as error:
            if settings.jobs == "on" or settings.data_dir is not None or url:
                raise
            _log.warning("jobs are off", reason=error.message)
            return None
        database = Database(sqlite_engine(Path(url.removeprefix("sqlite:///")) if url else place / "jobs.db"))
        recordings = FileRecordings(place / "recordings")
    store: JobStore = SqlJobStore(database, lease_s=settings.job_lease, alone=reads and database.is_sqlite)
    changes = Changes()
    observer = LoggingJobObserver(metrics)
    admission = Admission(settings.max_jobs, settings.max_jobs_per_key, settings.max_job_bytes)
    limits = RunnerLimits(
        workers=settings.job_workers,
        windows=settings.batch_size or _WINDOWS,
        lease_s=settings.job_lease,
        retention_s=settings.job_retention,
    )
    webhooks: JobWebhooks | None = None
    if settings.webhook_secret:
        sender = SignedWebhooks([secret.get_secret_value() for secret in settings.webhook_secret], web)
        webhooks = JobWebhooks(store, sender, changes, observer)
    return Jobs(
        TranscriptionJobs(store, recordings, admission, changes, observer, web, tells=webhooks is not None),
        JobRunner(transcribe_file, store, recordings, limits, changes, observer, drain, web, quota) if reads else None,
        webhooks if reads else None,
        directory,
    )
