"""Many jobs at once: retry and cancel by filter."""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import class_row

from ayb_jobs.model.filters import EVERY, Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import Position
from ayb_jobs.storage.queue.matching import MATCHING


class Batch(NamedTuple):
    """The jobs that one batch changed, and where the next one goes on; `next` is None at the end."""

    ids: list[str]
    next: Position | None

    @property
    def rows(self) -> int:
        """How many jobs were changed."""
        return len(self.ids)


# Each batch goes on behind the one before, so that a job that fails again meanwhile is not retried again.
_NEXT_BATCH = f"""
    {MATCHING}
        AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
    ORDER BY created_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
"""

COUNT_MATCHING = f"""
    SELECT count(*)
    FROM (SELECT FROM _ayb_jobs WHERE state = %(state)s::text AND {MATCHING} LIMIT %(most)s) AS matching
"""


def count_jobs(conn: Connection, *, state: JobState, wanted: Filter, most: int | None = None) -> int:
    """Return how many jobs in `state` match; not more than `most`, if that is given."""
    values = {"state": state, "most": most, **wanted.values()}
    row = conn.execute(COUNT_MATCHING, values, prepare=False).fetchone()
    return row[0] if row else 0


RETRY_JOBS = f"""
    WITH matching AS MATERIALIZED (
        SELECT id, created_at FROM _ayb_jobs WHERE state = 'failed' AND {_NEXT_BATCH}
    ),
    retried AS (
        UPDATE _ayb_jobs
        SET state = 'queued', run_at = now(), attempts = 0, crashes = 0, last_error = NULL, progress = NULL, updated_at = now()
        FROM matching
        WHERE _ayb_jobs.id = matching.id
    ),
    woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM matching LIMIT 1
    )
    SELECT matching.created_at, matching.id FROM matching LEFT JOIN woken ON true
"""


def retry_jobs(
    conn: Connection,
    *,
    wanted: Filter = EVERY,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Queue up to `limit` failed jobs again, as `retry_job` does, the oldest first. Jobs that somebody holds stay."""
    return _batch(conn, RETRY_JOBS, _values(wanted, limit, after))


CANCEL_JOBS = f"""
    WITH matching AS MATERIALIZED (
        SELECT id, created_at FROM _ayb_jobs WHERE state = 'queued' AND {_NEXT_BATCH}
    ),
    canceled AS (
        UPDATE _ayb_jobs
        SET state = 'canceled', canceled_at = now(), updated_at = now()
        FROM matching
        WHERE _ayb_jobs.id = matching.id
    )
    SELECT created_at, id FROM matching
"""


def cancel_jobs(
    conn: Connection,
    *,
    wanted: Filter = EVERY,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Cancel up to `limit` queued jobs, the oldest first. Jobs that somebody holds stay."""
    return _batch(conn, CANCEL_JOBS, _values(wanted, limit, after))


def _values(wanted: Filter, limit: int, after: Position | None) -> dict[str, Any]:
    return {
        **wanted.values(),
        "limit": limit,
        "after_at": after and after.created_at,
        "after_id": after and after.id,
    }


def _batch(conn: Connection, statement: LiteralString, values: Mapping[str, Any]) -> Batch:
    with conn.cursor(row_factory=class_row(Position)) as cursor:
        changed = cursor.execute(statement, values, prepare=False).fetchall()
    return Batch([job.id for job in changed], changed[-1] if len(changed) >= values["limit"] else None)
