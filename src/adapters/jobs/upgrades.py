"""Brings the tables of older versions up to date, with all that is in them."""

from sqlalchemy import Connection, text, update

from .tables import SCHEMA_VERSION, VERSIONS, WINDOWS


def upgrade(connection: Connection, version: int) -> None:
    """Change tables of that version, which is older than ours, in the transaction of `connection`."""
    if version < 2:
        _give_windows_a_channel(connection)
    connection.execute(update(VERSIONS).values(version=SCHEMA_VERSION))


def _give_windows_a_channel(connection: Connection) -> None:
    # SQLite cannot change a primary key: the rows move to a new table.
    connection.execute(text("ALTER TABLE job_windows RENAME TO job_windows_of_version_1"))
    WINDOWS.create(connection)
    connection.execute(
        text(
            "INSERT INTO job_windows (job_id, channel, start_ms, samples, tokens) "
            "SELECT job_id, 0, start_ms, samples, tokens FROM job_windows_of_version_1"
        )
    )
    connection.execute(text("DROP TABLE job_windows_of_version_1"))
