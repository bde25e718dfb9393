"""The port that hears what becomes of jobs, to count and to log it."""

from typing import Protocol

from ...domain.jobs import Job


class JobObserver(Protocol):
    """Every method returns at once and raises nothing."""

    def job_submitted(self, job: Job) -> None:
        """A job was taken."""
        ...

    def job_began(self, job: Job, *, attempt: int, known_windows: int) -> None:
        """A server begins to read it; `known_windows` of it were read before."""
        ...

    def window_read(self) -> None:
        """The model has read a window of a job, and it is kept."""
        ...

    def job_ended(self, job: Job) -> None:
        """It has come to its end."""
        ...

    def job_put_back(self, job: Job, *, reason: str) -> None:
        """It waits again."""
        ...

    def failed_unexpectedly(self, doing: str, error: BaseException, *, job_id: str | None = None) -> None:
        """A defect, or a store that cannot be reached; the work is tried again."""
        ...

    def webhook_tried(self, *, job_id: str, webhook_id: str, attempt: int, failure: str | None, is_last: bool) -> None:
        """A webhook was sent, or was not."""
        ...

    def counted(self, jobs: dict[str, int], webhooks: dict[str, int]) -> None:
        """How many there are now, by status."""
        ...
