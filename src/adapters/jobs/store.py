"""`JobStore` in SQL: a job is its server's for as long as that renews the lease."""

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, tuple_, update

from ...application.ports.job_store import (
    Admission,
    Claim,
    Delivery,
    Ending,
    JobCounts,
    LeaseLostError,
    NewJob,
    WindowKey,
)
from ...domain.errors import (
    IdempotencyConflictError,
    JobNotFoundError,
    OverloadedError,
    RateLimitError,
    StorageFullError,
)
from ...domain.jobs import Job, JobEvent, JobStatus, WebhookStatus
from ...domain.transcript import Token
from ...domain.transcript_json import dump_tokens, load_tokens
from . import endings, webhook_rows
from .database import Database
from .rows import job_of, jobs_query, row_of
from .tables import EVENTS, JOBS, RESULTS, WEBHOOKS, WINDOWS

_UNFINISHED = (JobStatus.QUEUED.value, JobStatus.RUNNING.value)
_RETRY_S = 30.0


class SqlJobStore:
    """Jobs in a database; `alone` says that no other server may be at work on it."""

    def __init__(self, database: Database, *, lease_s: float, alone: bool) -> None:
        """Be a server of its own: under a name that no other has, and that has not been."""
        self._database = database
        self._lease_s = lease_s
        self._alone = alone
        self._server = secrets.token_hex(16)

    async def open(self) -> None:
        """See the port."""
        await self._database.open()
        if self._alone:
            # Whoever read them is dead.
            orphans = update(JOBS).where(JOBS.c.status == JobStatus.RUNNING.value)
            await self._database.run(
                lambda connection: connection.execute(orphans.values(status=JobStatus.QUEUED.value, server=None))
            )

    async def aclose(self) -> None:
        """See the port."""
        await self._database.aclose()

    async def add(self, new: NewJob, admission: Admission) -> Job:
        """See the port."""
        return await self._database.run(lambda connection: self._add(connection, new, admission))

    def _add(self, connection: Connection, new: NewJob, admission: Admission) -> Job:
        job = new.job
        if not self._database.is_sqlite:
            # Two that come at once with one key, or for the last place, come one after the other.
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(job.owner))))
        if new.idempotency_key is not None:
            same = and_(JOBS.c.owner == job.owner, JOBS.c.idempotency_key == new.idempotency_key)
            row = connection.execute(jobs_query().where(same)).first()
            if row is not None:
                if row.fingerprint != new.fingerprint:
                    raise IdempotencyConflictError
                return job_of(row)
        unfinished = JOBS.c.status.in_(_UNFINISHED)
        number, size = connection.execute(
            select(func.count(), func.coalesce(func.sum(JOBS.c.recording_bytes), 0)).where(unfinished)
        ).one()
        of_owner = connection.scalar(
            select(func.count()).select_from(JOBS).where(unfinished, JOBS.c.owner == job.owner)
        )
        if number >= admission.most_unfinished:
            raise OverloadedError(f"Too many jobs are waiting: {number}.", retry_after_s=_RETRY_S)
        if (of_owner or 0) >= admission.most_of_owner:
            raise RateLimitError(f"{of_owner} of your jobs have not ended; wait for one.", retry_after_s=_RETRY_S)
        if size + new.recording_bytes > admission.most_bytes:
            raise StorageFullError("The recordings of waiting jobs take all their room.", retry_after_s=_RETRY_S)
        values = {
            **row_of(job),
            "idempotency_key": new.idempotency_key,
            "fingerprint": new.fingerprint,
            "recording_bytes": new.recording_bytes,
        }
        connection.execute(insert(JOBS).values(values))
        return job

    async def find(self, owner: str, job_id: str) -> Job:
        """See the port."""
        return await self._database.run(lambda connection: _find(connection, owner, job_id))

    async def jobs_of(self, owner: str, *, status: JobStatus | None, limit: int, after: str | None) -> Sequence[Job]:
        """See the port."""

        def work(connection: Connection) -> Sequence[Job]:
            query = jobs_query().where(JOBS.c.owner == owner)
            if status is not None:
                query = query.where(JOBS.c.status == status.value)
            if after is not None:
                last = _find(connection, owner, after)
                query = query.where(tuple_(JOBS.c.created_at, JOBS.c.id) < tuple_(last.created_at, last.id))
            newest_first = query.order_by(JOBS.c.created_at.desc(), JOBS.c.id.desc()).limit(limit)
            return [job_of(row) for row in connection.execute(newest_first)]

        return await self._database.run(work)

    async def result(self, owner: str, job_id: str) -> str | None:
        """See the port."""

        def work(connection: Connection) -> str | None:
            _find(connection, owner, job_id)
            return connection.scalar(select(RESULTS.c.transcript).where(RESULTS.c.job_id == job_id))

        return await self._database.run(work)

    async def events(self, job_id: str, *, after: int) -> Sequence[JobEvent]:
        """See the port."""
        query = select(EVENTS).where(EVENTS.c.job_id == job_id, EVENTS.c.number > after).order_by(EVENTS.c.number)
        return await self._database.run(
            lambda connection: [
                JobEvent(row.number, row.type, json.loads(row.data)) for row in connection.execute(query)
            ]
        )

    async def claim(self, now: float) -> Claim | None:
        """See the port."""
        return await self._database.run(lambda connection: self._claim(connection, now))

    def _claim(self, connection: Connection, now: float) -> Claim | None:
        other = JOBS.alias()
        running = (
            select(func.count())
            .select_from(other)
            .where(other.c.owner == JOBS.c.owner, other.c.status == JobStatus.RUNNING.value, other.c.lease_until >= now)
            .scalar_subquery()
        )
        waits = and_(JOBS.c.status == JobStatus.QUEUED.value, JOBS.c.ready_at <= now)
        left = and_(JOBS.c.status == JobStatus.RUNNING.value, JOBS.c.lease_until < now)
        next_one = select(JOBS.c.id).where(or_(waits, left)).order_by(running, JOBS.c.created_at).limit(1)
        job_id = connection.scalar(next_one.with_for_update(skip_locked=True, of=JOBS))
        if job_id is None:
            return None
        connection.execute(
            update(JOBS)
            .where(JOBS.c.id == job_id)
            .values(
                status=JobStatus.RUNNING.value,
                server=self._server,
                lease_until=now + self._lease_s,
                started_at=func.coalesce(JOBS.c.started_at, now),
                attempts=JOBS.c.attempts + 1,
            )
        )
        row = connection.execute(jobs_query().where(JOBS.c.id == job_id)).one()
        return Claim(job_of(row), row.attempts)

    async def renew(self, now: float, job_ids: Collection[str]) -> frozenset[str]:
        """See the port."""
        ours = update(JOBS).where(self._ours, JOBS.c.id.in_(job_ids))
        renewed = ours.values(lease_until=now + self._lease_s).returning(JOBS.c.id)
        return await self._database.run(lambda connection: frozenset(connection.scalars(renewed)))

    async def begin(
        self, job_id: str, *, model: str, duration_s: float | None
    ) -> Mapping[WindowKey, tuple[Token, ...]]:
        """See the port."""

        def work(connection: Connection) -> Mapping[WindowKey, tuple[Token, ...]]:
            before = connection.scalar(select(JOBS.c.model).where(JOBS.c.id == job_id))
            self._change(connection, job_id, model=model, duration_s=duration_s)
            mine = WINDOWS.c.job_id == job_id
            if before != model:
                connection.execute(WINDOWS.delete().where(mine))
            return {
                WindowKey(row.start_ms, row.samples, row.channel): load_tokens(row.tokens)
                for row in connection.execute(select(WINDOWS).where(mine))
            }

        return await self._database.run(work)

    async def keep_window(self, job_id: str, key: WindowKey, tokens: Sequence[Token]) -> None:
        """See the port."""
        place = {"job_id": job_id, "channel": key.channel, "start_ms": key.start_ms, "samples": key.samples}

        def work(connection: Connection) -> None:
            self._change(connection, job_id, attempts=0)
            connection.execute(WINDOWS.delete().filter_by(**place))
            connection.execute(insert(WINDOWS).values(**place, tokens=dump_tokens(tokens)))

        await self._database.run(work)

    async def keep_progress(self, job_id: str, event: JobEvent, *, done_s: float) -> None:
        """See the port."""
        data = json.dumps(event.data, ensure_ascii=False)
        row = {"job_id": job_id, "number": event.number, "type": event.type, "data": data}

        def work(connection: Connection) -> None:
            latest = connection.scalar(select(func.max(EVENTS.c.number)).where(EVENTS.c.job_id == job_id)) or 0
            if event.number > latest:
                self._change(connection, job_id, done_s=done_s)
                connection.execute(insert(EVENTS).values(row))

        await self._database.run(work)

    async def release(self, job_id: str, *, ready_at: float, counts: bool) -> None:
        """See the port."""
        values: dict[str, Any] = {
            "status": JobStatus.QUEUED.value,
            "server": None,
            "ready_at": ready_at,
            "attempts": JOBS.c.attempts if counts else JOBS.c.attempts - 1,
        }
        ours = update(JOBS).where(self._ours, JOBS.c.id == job_id)
        await self._database.run(lambda connection: connection.execute(ours.values(values)))

    async def finish(self, job_id: str, ending: Ending) -> Job:
        """See the port."""

        def work(connection: Connection) -> Job:
            self._change(connection, job_id, status=ending.status.value)
            return endings.end(connection, job_id, ending)

        return await self._database.run(work)

    async def cancel(self, owner: str, job_id: str, now: float) -> Job:
        """See the port."""

        def work(connection: Connection) -> Job:
            _find(connection, owner, job_id)
            return endings.cancel(connection, job_id, now)

        return await self._database.run(work)

    async def delete(self, owner: str, job_id: str) -> None:
        """See the port."""

        def work(connection: Connection) -> None:
            _find(connection, owner, job_id)
            endings.delete_ended(connection, job_id)

        await self._database.run(work)
        await self._database.give_back_room()

    async def delete_ended(self, *, before: float) -> int:
        """See the port."""
        deleted = await self._database.run(lambda connection: endings.delete_old(connection, before))
        if deleted:
            await self._database.give_back_room()
        return deleted

    async def unfinished(self) -> frozenset[str]:
        """See the port."""
        query = select(JOBS.c.id).where(JOBS.c.status.in_(_UNFINISHED))
        return await self._database.run(lambda connection: frozenset(connection.scalars(query)))

    async def counts(self) -> JobCounts:
        """See the port."""

        def work(connection: Connection) -> JobCounts:
            jobs = connection.execute(select(JOBS.c.status, func.count()).group_by(JOBS.c.status)).all()
            webhooks = connection.execute(select(WEBHOOKS.c.status, func.count()).group_by(WEBHOOKS.c.status)).all()
            return JobCounts(
                {JobStatus(status): number for status, number in jobs},
                {WebhookStatus(status): number for status, number in webhooks},
            )

        return await self._database.run(work)

    async def claim_delivery(self, now: float) -> Delivery | None:
        """See the port."""
        until = now + self._lease_s
        return await self._database.run(lambda connection: webhook_rows.claim(connection, now, until=until))

    async def delivered(self, delivery: Delivery) -> None:
        """See the port."""
        await self._database.run(lambda connection: webhook_rows.delivered(connection, delivery))

    async def delivery_failed(self, delivery: Delivery, *, reason: str, next_at: float | None) -> None:
        """See the port."""
        await self._database.run(lambda connection: webhook_rows.failed(connection, delivery, reason, next_at))

    async def deliver_again(self, owner: str, job_id: str, now: float) -> Job:
        """See the port."""

        def work(connection: Connection) -> Job:
            _find(connection, owner, job_id)
            webhook_rows.again(connection, job_id, now)
            return _find(connection, owner, job_id)

        return await self._database.run(work)

    @property
    def _ours(self) -> Any:
        return and_(JOBS.c.status == JobStatus.RUNNING.value, JOBS.c.server == self._server)

    def _change(self, connection: Connection, job_id: str, **values: object) -> None:
        """Change a job of ours: in one transaction with what depends on that it is ours.

        Raises:
            LeaseLostError: It is not.
        """
        changed = connection.execute(update(JOBS).where(self._ours, JOBS.c.id == job_id).values(values))
        if not changed.rowcount:
            raise LeaseLostError(job_id)


def _find(connection: Connection, owner: str, job_id: str) -> Job:
    row = connection.execute(jobs_query().where(JOBS.c.id == job_id, JOBS.c.owner == owner)).first()
    if row is None:
        raise JobNotFoundError
    return job_of(row)
