"""How jobs end, and how they go."""

import secrets

from sqlalchemy import Connection, delete, func, insert, select, update

from ...application.ports.job_store import Ending
from ...domain.errors import JobConflictError
from ...domain.jobs import Job, JobStatus, WebhookStatus
from .rows import job_of, jobs_query
from .tables import JOBS, RESULTS, WEBHOOKS, WINDOWS

_FINAL = tuple(status.value for status in JobStatus if status.is_final)
_AT_ONCE = 500
"""Jobs that are deleted in one transaction."""


def end(connection: Connection, job_id: str, ending: Ending) -> Job:
    """End a job that is known not to have ended; its webhook is due at once."""
    error = ending.error
    values = {
        "status": ending.status.value,
        "finished_at": ending.at,
        "server": None,
        "error_code": None if error is None else error.code,
        "error_message": None if error is None else error.message,
        "recording_bytes": 0,
    }
    job = update(JOBS).where(JOBS.c.id == job_id)
    connection.execute(job.values(values))
    connection.execute(delete(WINDOWS).where(WINDOWS.c.job_id == job_id))
    if ending.result is not None:
        connection.execute(job.values(done_s=func.coalesce(JOBS.c.duration_s, JOBS.c.done_s)))
        connection.execute(insert(RESULTS).values(job_id=job_id, transcript=ending.result))
    ended = job_of(connection.execute(jobs_query().where(JOBS.c.id == job_id)).one())
    if ended.request.webhook_url is not None and ending.status is not JobStatus.CANCELLED:
        row = {
            "job_id": job_id,
            "id": f"msg_{secrets.token_hex(16)}",
            "status": WebhookStatus.PENDING.value,
            "created_at": ending.at,
            "next_at": ending.at,
        }
        connection.execute(insert(WEBHOOKS).values(row))
        ended = job_of(connection.execute(jobs_query().where(JOBS.c.id == job_id)).one())
    return ended


def cancel(connection: Connection, job_id: str, now: float) -> Job:
    """End a job that has not ended.

    Raises:
        JobConflictError: It has.
    """
    cancelled = update(JOBS).where(JOBS.c.id == job_id, JOBS.c.status.not_in(_FINAL))
    if not connection.execute(cancelled.values(status=JobStatus.CANCELLED.value)).rowcount:
        raise JobConflictError("The job has ended already.")
    return end(connection, job_id, Ending(JobStatus.CANCELLED, now))


def delete_ended(connection: Connection, job_id: str) -> None:
    """Delete a job that has ended, and all that refers to it.

    Raises:
        JobConflictError: It has not.
    """
    if not connection.execute(delete(JOBS).where(JOBS.c.id == job_id, JOBS.c.status.in_(_FINAL))).rowcount:
        raise JobConflictError("The job has not ended.")


def delete_old(connection: Connection, before: float) -> int:
    """Delete the jobs that ended before that time, some at once, and tell how many."""
    old = select(JOBS.c.id).where(JOBS.c.finished_at < before).order_by(JOBS.c.finished_at).limit(_AT_ONCE)
    return connection.execute(delete(JOBS).where(JOBS.c.id.in_(old))).rowcount
