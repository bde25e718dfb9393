"""Rows of the tables as the domain's jobs."""

import json
from typing import Any

from sqlalchemy import Row, Select, select

from ...domain.jobs import Job, JobError, JobRequest, JobStatus, WebhookState, WebhookStatus
from .tables import JOBS, WEBHOOKS


def jobs_query() -> Select[Any]:
    """What `job_of` needs of every job."""
    return select(
        JOBS,
        WEBHOOKS.c.id.label("webhook_id"),
        WEBHOOKS.c.status.label("webhook_status"),
        WEBHOOKS.c.attempts.label("webhook_attempts"),
        WEBHOOKS.c.last_error,
    ).select_from(JOBS.outerjoin(WEBHOOKS))


def job_of(row: Row[Any]) -> Job:
    """The job of a row of `jobs_query`."""
    return Job(
        id=row.id,
        owner=row.owner,
        caller=row.caller,
        request=JobRequest.of_json(json.loads(row.request)),
        status=JobStatus(row.status),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        done_s=row.done_s,
        duration_s=row.duration_s,
        model=row.model,
        error=None if row.error_code is None else JobError(row.error_code, row.error_message),
        webhook=None
        if row.webhook_id is None
        else WebhookState(row.webhook_id, WebhookStatus(row.webhook_status), row.webhook_attempts, row.last_error),
    )


def row_of(job: Job) -> dict[str, object]:
    """A new job as a row."""
    return {
        "id": job.id,
        "owner": job.owner,
        "caller": job.caller,
        "request": json.dumps(job.request.as_json(), ensure_ascii=False),
        "status": job.status.value,
        "created_at": job.created_at,
    }
