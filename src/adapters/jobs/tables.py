"""The tables of the jobs, the same in SQLite and PostgreSQL; large texts lie apart, so that lists stay fast."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 2
"""Raised when the tables change; a service does not touch those of a newer one."""

METADATA = MetaData()


def _job_id() -> Column[str]:
    return Column("job_id", String(40), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


VERSIONS = Table("jobs_schema", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("caller", String(128)),
    Column("request", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("done_s", Double, nullable=False, default=0.0),
    Column("duration_s", Double),
    Column("model", Text),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("idempotency_key", String(256)),
    Column("fingerprint", String(64), nullable=False),
    Column("recording_bytes", BigInteger, nullable=False),
    # Who reads it, until when without a word of theirs; and when it may be claimed.
    Column("server", String(64)),
    Column("lease_until", Double, nullable=False, default=0.0),
    Column("ready_at", Double, nullable=False, default=0.0),
    Column("attempts", Integer, nullable=False, default=0),
    UniqueConstraint("owner", "idempotency_key", name="jobs_idempotency"),
    Index("jobs_by_owner", "owner", "created_at", "id"),
    Index("jobs_by_status", "status", "created_at"),
    Index("jobs_by_end", "finished_at"),
)

RESULTS = Table("job_results", METADATA, _job_id(), Column("transcript", Text, nullable=False))

WINDOWS = Table(
    "job_windows",
    METADATA,
    _job_id(),
    # By default 0: servers of the version before know no channels, and may share the database during an upgrade.
    Column("channel", Integer, primary_key=True, autoincrement=False, server_default="0"),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("samples", BigInteger, primary_key=True, autoincrement=False),
    Column("tokens", Text, nullable=False),
)

EVENTS = Table(
    "job_events",
    METADATA,
    _job_id(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("type", String(32), nullable=False),
    Column("data", Text, nullable=False),
)

WEBHOOKS = Table(
    "job_webhooks",
    METADATA,
    _job_id(),
    Column("id", String(40), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_error", Text),
    Index("job_webhooks_due", "status", "next_at"),
)

RECORDINGS = Table(
    "job_recordings",
    METADATA,
    # No reference to a job: the recording is there before its job is.
    Column("job_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kept_at", Double, nullable=False),
    Column("piece", LargeBinary, nullable=False),
)
