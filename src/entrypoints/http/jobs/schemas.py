"""The bodies of jobs."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ....domain.jobs import Job, JobStatus, WebhookStatus

_EXAMPLE: dict[str, Any] = {
    "id": "job_4f7c2a9e51d84b0c8a3f6d1e2b9c7a05",
    "object": "transcription.job",
    "status": "running",
    "created_at": 1790000000,
    "started_at": 1790000002,
    "finished_at": None,
    "progress": {"done_s": 1260.5, "duration_s": 10800.0},
    "error": None,
    "metadata": {"meeting": 42},
    "model": "mlx-community/parakeet-tdt-0.6b-v2 (mlx, bf16)",
    "usage": None,
    "webhook": None,
}


class JobProgressBody(BaseModel):
    """Seconds that have been read, and seconds that there are, once that is known."""

    done_s: float
    duration_s: float | None


class JobErrorBody(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class JobUsageBody(BaseModel):
    """What is counted: seconds of audio."""

    type: Literal["duration"]
    seconds: float


class JobWebhookBody(BaseModel):
    """How far the message is that tells of the end."""

    id: str
    status: WebhookStatus
    attempts: int
    last_error: str | None


class JobBody(BaseModel):
    """A job; times are Unix time in seconds."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    object: Literal["transcription.job"]
    status: JobStatus
    created_at: int
    started_at: int | None
    finished_at: int | None
    progress: JobProgressBody
    error: JobErrorBody | None
    metadata: dict[str, Any]
    model: str | None
    usage: JobUsageBody | None
    webhook: JobWebhookBody | None

    @classmethod
    def of(cls, job: Job) -> "JobBody":
        """The job as its owner sees it."""
        return cls.model_validate(job.as_json())


class JobsBody(BaseModel):
    """A page of jobs, the newest first; `last_id` is the `after` of the next page."""

    object: Literal["list"] = "list"
    data: list[JobBody]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, jobs: list[Job], *, has_more: bool) -> "JobsBody":
        """The page of these jobs."""
        data = [JobBody.of(job) for job in jobs]
        return cls(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=has_more,
        )
