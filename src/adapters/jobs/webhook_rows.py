"""The messages that are still to be sent."""

from sqlalchemy import Connection, Update, select, update

from ...application.ports.job_store import Delivery
from ...domain.errors import JobConflictError
from ...domain.jobs import WebhookStatus
from .rows import job_of, jobs_query
from .tables import JOBS, WEBHOOKS


def claim(connection: Connection, now: float, *, until: float) -> Delivery | None:
    """The one that is due for longest, put off `until` then, should we die with it."""
    due = (
        select(WEBHOOKS.c.job_id)
        .where(WEBHOOKS.c.status == WebhookStatus.PENDING.value, WEBHOOKS.c.next_at <= now)
        .order_by(WEBHOOKS.c.next_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = connection.scalar(due)
    if job_id is None:
        return None
    connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.job_id == job_id).values(next_at=until))
    row = connection.execute(
        jobs_query().add_columns(WEBHOOKS.c.created_at.label("told_at")).where(JOBS.c.id == job_id)
    )
    one = row.one()
    job = job_of(one)
    return Delivery(one.webhook_id, job.request.webhook_url or "", job, one.told_at, one.webhook_attempts, until)


def delivered(connection: Connection, delivery: Delivery) -> None:
    """It has arrived."""
    values = {"status": WebhookStatus.DELIVERED.value, "attempts": WEBHOOKS.c.attempts + 1, "last_error": None}
    connection.execute(_claimed(delivery).values(values))


def failed(connection: Connection, delivery: Delivery, reason: str, next_at: float | None) -> None:
    """It has not."""
    values: dict[str, object] = {"attempts": WEBHOOKS.c.attempts + 1, "last_error": reason}
    values |= {"status": WebhookStatus.DEAD.value} if next_at is None else {"next_at": next_at}
    connection.execute(_claimed(delivery).values(values))


def again(connection: Connection, job_id: str, now: float) -> None:
    """Send it once more, from the beginning.

    Raises:
        JobConflictError: There is none.
    """
    values = {"status": WebhookStatus.PENDING.value, "next_at": now, "attempts": 0, "created_at": now}
    if not connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.job_id == job_id).values(values)).rowcount:
        raise JobConflictError("The job has no webhook, or has not ended.")


def _claimed(delivery: Delivery) -> Update:
    """The row, unless somebody else has claimed it since, or the owner has asked for it again: theirs is newer."""
    return update(WEBHOOKS).where(
        WEBHOOKS.c.id == delivery.id,
        WEBHOOKS.c.status == WebhookStatus.PENDING.value,
        WEBHOOKS.c.next_at == delivery.claimed_until,
    )
