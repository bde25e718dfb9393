"""What becomes of jobs, as log lines and figures."""

from typing import Protocol

import structlog

from ...domain.errors import ServiceError
from ...domain.jobs import Job

_log = structlog.stdlib.get_logger(__name__)


class JobMetrics(Protocol):
    """Counts. Every method returns at once and raises nothing."""

    def job_ended(self, *, status: str, audio_s: float, took_s: float) -> None:
        """A job ended, so long after it was taken."""
        ...

    def job_windows_known(self, number: int) -> None:
        """So many windows were read before, and are not read again."""
        ...

    def job_window_read(self) -> None:
        """A window was read."""
        ...

    def webhook_sent(self, *, outcome: str) -> None:
        """An attempt ended as ``delivered``, ``failed`` or ``dead``."""
        ...

    def jobs_counted(self, jobs: dict[str, int], webhooks: dict[str, int]) -> None:
        """So many there are, by status."""
        ...


class LoggingJobObserver:
    """`JobObserver` that logs, and counts in `metrics`. Texts and URLs are in no line."""

    def __init__(self, metrics: JobMetrics) -> None:
        """Count there."""
        self._metrics = metrics

    def job_submitted(self, job: Job) -> None:
        """See the port."""
        _log.info("job submitted", job=job.id, owner=job.owner)

    def job_began(self, job: Job, *, attempt: int, known_windows: int) -> None:
        """See the port."""
        self._metrics.job_windows_known(known_windows)
        _log.info("job began", job=job.id, attempt=attempt, known_windows=known_windows)

    def window_read(self) -> None:
        """See the port."""
        self._metrics.job_window_read()

    def job_ended(self, job: Job) -> None:
        """See the port."""
        took_s = (job.finished_at or job.created_at) - job.created_at
        self._metrics.job_ended(status=job.status.value, audio_s=job.duration_s or 0.0, took_s=took_s)
        code = None if job.error is None else job.error.code
        audio_s = None if job.duration_s is None else round(job.duration_s, 3)
        _log.info(
            "job ended",
            job=job.id,
            owner=job.owner,
            status=job.status.value,
            audio_s=audio_s,
            took_s=round(took_s, 3),
            code=code,
        )

    def job_put_back(self, job: Job, *, reason: str) -> None:
        """See the port."""
        _log.info("job put back", job=job.id, reason=reason)

    def failed_unexpectedly(self, doing: str, error: BaseException, *, job_id: str | None = None) -> None:
        """See the port."""
        trace = None if isinstance(error, ServiceError) else error
        _log.error("jobs failed", doing=doing, job=job_id, reason=str(error), exc_info=trace)

    def webhook_tried(self, *, job_id: str, webhook_id: str, attempt: int, failure: str | None, is_last: bool) -> None:
        """See the port."""
        outcome = "delivered" if failure is None else "dead" if is_last else "failed"
        self._metrics.webhook_sent(outcome=outcome)
        log = _log.info if failure is None else _log.warning
        log("webhook sent", job=job_id, webhook=webhook_id, attempt=attempt, outcome=outcome, reason=failure)

    def counted(self, jobs: dict[str, int], webhooks: dict[str, int]) -> None:
        """See the port."""
        self._metrics.jobs_counted(jobs, webhooks)
