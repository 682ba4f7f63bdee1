"""Retention: old jobs and old executions removed, one batch for each call, so that each transaction is short."""

from datetime import timedelta
from typing import NamedTuple

from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import Position


class PrunedJobs(NamedTuple):
    """What one batch removed, and where the next one goes on; `next` is None where nothing old is left."""

    rows: int
    next: Position | None


# `created_at` is never later than the end, so the index by creation holds all that may be old enough at its beginning.
# A batch walks so many rows of it, with no further filter: a filter that the planner takes for a strict one would make
# it read the whole table where statistics are missing. The next batch goes on behind them, and does not walk again what
# was deleted. The failed and the canceled have such an index of their own. Rows that somebody holds stay for next time.
PRUNE_JOBS = """
    WITH walked AS MATERIALIZED (
        SELECT ctid, id, created_at, state, coalesce(completed_at, canceled_at, updated_at) AS ended_at
        FROM _ayb_jobs
        WHERE state <> 'running' AND created_at < now() - %(keep)s::interval
            AND (%(rare_state)s::text IS NULL OR state = %(rare_state)s::text)
            AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
        ORDER BY created_at, id
        LIMIT %(limit)s
    ),
    old AS MATERIALIZED (
        SELECT ctid
        FROM _ayb_jobs
        WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM walked WHERE state = %(state)s::text AND ended_at < now() - %(keep)s::interval
            ))
        FOR UPDATE SKIP LOCKED
    ),
    pruned AS (
        DELETE FROM _ayb_jobs WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM pruned), count(*), last.created_at, last.id
    FROM walked, LATERAL (SELECT created_at, id FROM walked ORDER BY created_at DESC, id DESC LIMIT 1) AS last
    GROUP BY last.created_at, last.id
"""


def prune_jobs(
    conn: Connection, *, state: JobState, keep: timedelta, limit: int = 1000, after: Position | None = None
) -> PrunedJobs:
    """Remove jobs that have been in the final `state` for longer than `keep` from among the next `limit`, oldest first."""
    values = {
        "state": state,
        "rare_state": None if state is JobState.COMPLETED else state,
        "keep": keep,
        "limit": limit,
        "after_at": after and after.created_at,
        "after_id": after and after.id,
    }
    row = conn.execute(PRUNE_JOBS, values, prepare=False).fetchone()
    pruned, walked, *last = row or (0, 0)
    return PrunedJobs(pruned, Position(*last) if walked >= limit else None)


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
