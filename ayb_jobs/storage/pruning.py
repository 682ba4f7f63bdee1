"""Retention: old jobs and old executions removed, one batch for each call, so that each transaction is short."""

from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.jobs import Position


class PrunedJobs(NamedTuple):
    """What one batch removed, and where the next one goes on; `next` is None where nothing old is left."""

    rows: int
    next: Position | None


# `created_at` is never later than the end, so the index by creation finds all that may be old enough. Each batch goes
# on behind the one before: what that one deleted is not walked again. Rows that somebody holds are left for next time.
PRUNE_JOBS = """
    WITH old AS MATERIALIZED (
        SELECT id, created_at
        FROM _ayb_jobs
        WHERE state = %(state)s::text
            AND created_at < now() - %(keep)s::interval
            AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
            AND coalesce(completed_at, canceled_at, updated_at) < now() - %(keep)s::interval
        ORDER BY created_at, id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ),
    pruned AS (
        DELETE FROM _ayb_jobs USING old WHERE _ayb_jobs.id = old.id
    )
    SELECT created_at, id FROM old
"""


def prune_jobs(
    conn: Connection, *, state: JobState, keep: timedelta, limit: int = 1000, after: Position | None = None
) -> PrunedJobs:
    """Remove up to `limit` jobs that have been in the final `state` for longer than `keep`, the oldest first."""
    values = {
        "state": state,
        "keep": keep,
        "limit": limit,
        "after_at": after and after.created_at,
        "after_id": after and after.id,
    }
    old = conn.execute(PRUNE_JOBS, values, prepare=False).fetchall()
    return PrunedJobs(len(old), Position(*old[-1]) if len(old) >= limit else None)


class PrunedExecutions(NamedTuple):
    """What one batch removed, and the id behind which the next one goes on; None where nothing old is left."""

    rows: int
    next: int | None


# Ids are drawn when attempts begin, so the order of ids is nearly that of ending. A batch without anything old in it
# is the end, though an attempt that runs very long may have ended behind it.
PRUNE_EXECUTIONS = """
    WITH oldest AS MATERIALIZED (
        SELECT id, ended_at
        FROM _ayb_job_executions
        WHERE id > %(after)s
        ORDER BY id
        LIMIT %(limit)s
    ),
    pruned AS (
        DELETE FROM _ayb_job_executions
        USING oldest
        WHERE _ayb_job_executions.id = oldest.id AND oldest.ended_at < now() - %(keep)s::interval
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM pruned), count(*), max(id) FROM oldest
"""


def prune_executions(conn: Connection, *, keep: timedelta, limit: int = 1000, after: int = 0) -> PrunedExecutions:
    """Remove executions that ended longer than `keep` ago from among the next `limit`, the oldest first."""
    row = conn.execute(PRUNE_EXECUTIONS, {"keep": keep, "limit": limit, "after": after}).fetchone()
    pruned, walked, last = row or (0, 0, None)
    return PrunedExecutions(pruned, last if pruned and walked >= limit else None)
