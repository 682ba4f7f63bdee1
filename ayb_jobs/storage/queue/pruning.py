"""Retention: old jobs and old executions removed, one batch for each call, so that each transaction is short."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import Position
from ayb_jobs.storage.rows import Deleted, named, one_row


class PrunedJobs(NamedTuple):
    """What one batch removed, and where the next one goes on; `next` is None if nothing old is left.

    `kept` rows were to be removed, and a trigger of the application's kept them.
    """

    rows: int
    next: Position | None
    kept: int = 0


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
            AND (state = 'completed' OR (
                SELECT true FROM _ayb_job_dependencies AS edge WHERE edge.parent_id = _ayb_jobs.id AND edge.is_open LIMIT 1
            ) IS NULL)
            AND (batch_id IS NULL OR (
                SELECT true FROM _ayb_job_batches AS batch WHERE batch.id = _ayb_jobs.batch_id AND batch.done_at IS NULL
            ) IS NULL)
        FOR UPDATE SKIP LOCKED
    ),
    pruned AS (
        DELETE FROM _ayb_jobs WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM pruned) AS pruned, (SELECT count(*) FROM old) AS old, count(*) AS walked,
        last.created_at::text AS place, last.id
    FROM walked, LATERAL (SELECT created_at, id FROM walked ORDER BY created_at DESC, id DESC LIMIT 1) AS last
    GROUP BY last.created_at, last.id
"""


def prune_jobs(
    conn: Connection, *, state: JobState, keep: timedelta, limit: int = 1000, after: Position | None = None
) -> PrunedJobs:
    """Remove jobs that ended in `state` longer than `keep` ago, from among the next `limit`, oldest first.

    A failed or canceled one stays while a job waits for it, and each member of a batch until that is done.
    """
    values = {
        "state": state,
        "rare_state": None if state is JobState.COMPLETED else state,
        "keep": keep,
        "limit": limit,
        "after_at": after and after.at,
        "after_id": after and after.id,
    }
    row = named(conn).execute(PRUNE_JOBS, values, prepare=False).fetchone()
    return PrunedJobs(row.pruned, _next(row, limit), row.old - row.pruned) if row else PrunedJobs(0, None)


def _next(row: Any, limit: int) -> Position | None:
    """Return where the next batch goes on; `row` is None if nothing was walked."""
    return Position(row.place, row.id) if row and row.walked >= limit else None


# The same walk, for a batch that cannot be deleted as a whole.
FIND_OLD_JOBS = """
    WITH walked AS MATERIALIZED (
        SELECT id, created_at, state, coalesce(completed_at, canceled_at, updated_at) AS ended_at
        FROM _ayb_jobs
        WHERE state <> 'running' AND created_at < now() - %(keep)s::interval
            AND (%(rare_state)s::text IS NULL OR state = %(rare_state)s::text)
            AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
        ORDER BY created_at, id
        LIMIT %(limit)s
    )
    SELECT ARRAY(
            SELECT id::text FROM walked WHERE state = %(state)s::text AND ended_at < now() - %(keep)s::interval
        ) AS ids,
        count(*) AS walked, last.created_at::text AS place, last.id
    FROM walked, LATERAL (SELECT created_at, id FROM walked ORDER BY created_at DESC, id DESC LIMIT 1) AS last
    GROUP BY last.created_at, last.id
"""


class OldJobs(NamedTuple):
    """The ids of jobs to be removed, and where the next batch goes on; `next` is None if nothing old is left."""

    ids: list[str]
    next: Position | None


def find_old_jobs(
    conn: Connection, *, state: JobState, keep: timedelta, limit: int = 1000, after: Position | None = None
) -> OldJobs:
    """Return what `prune_jobs` would remove."""
    values = {
        "state": state,
        "rare_state": None if state is JobState.COMPLETED else state,
        "keep": keep,
        "limit": limit,
        "after_at": after and after.at,
        "after_id": after and after.id,
    }
    row = named(conn).execute(FIND_OLD_JOBS, values, prepare=False).fetchone()
    return OldJobs(row.ids if row else [], _next(row, limit))


DELETE_JOBS = """
    WITH old AS MATERIALIZED (
        SELECT id FROM _ayb_jobs
        WHERE id = ANY (%(ids)s::uuid[]) AND state = %(state)s::text
            AND (state = 'completed' OR (
                SELECT true FROM _ayb_job_dependencies AS edge WHERE edge.parent_id = _ayb_jobs.id AND edge.is_open LIMIT 1
            ) IS NULL)
            AND (batch_id IS NULL OR (
                SELECT true FROM _ayb_job_batches AS batch WHERE batch.id = _ayb_jobs.batch_id AND batch.done_at IS NULL
            ) IS NULL)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_jobs WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_jobs(conn: Connection, ids: Sequence[str], *, state: JobState) -> Deleted:
    """Remove those of these jobs that are still in `state`, and that nobody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_JOBS, {"ids": list(ids), "state": state}, prepare=False)))


# Behind 10,000 others there may be some: whoever asks is about to delete them.
HOLDS_OLD_JOBS = """
    SELECT coalesce(bool_or(state = %(state)s::text AND ended_at < now() - %(keep)s::interval), false) OR count(*) = 10000
    FROM (
        SELECT state, coalesce(completed_at, canceled_at, updated_at) AS ended_at
        FROM _ayb_jobs
        WHERE state <> 'running' AND created_at < now() - %(keep)s::interval
            AND (%(rare_state)s::text IS NULL OR state = %(rare_state)s::text)
        ORDER BY created_at, id
        LIMIT 10000
    ) AS oldest
"""


def holds_old_jobs(conn: Connection, *, state: JobState, keep: timedelta) -> bool:
    """Tell whether `prune_jobs` may find anything to remove; the 10,000 oldest are looked at."""
    rare_state = None if state is JobState.COMPLETED else state
    row = conn.execute(
        HOLDS_OLD_JOBS, {"state": state, "rare_state": rare_state, "keep": keep}, prepare=False
    ).fetchone()
    return bool(row and row[0])


class PrunedExecutions(NamedTuple):
    """What one batch removed, and the id behind which the next one goes on; None if nothing old is left.

    `kept` rows were to be removed, and a trigger of the application's kept them.
    """

    rows: int
    next: int | None
    kept: int = 0


# The last success of a schedule that is expected to succeed stays, or it would be overdue for what retention removed.
NOT_LAST_SUCCESS = """
            NOT (
                outcome = 'completed' AND schedule_id IS NOT NULL
                AND EXISTS (
                    SELECT FROM _ayb_job_schedules AS schedule
                    WHERE schedule.id = oldest.schedule_id AND schedule.expect_success_within_s IS NOT NULL
                )
                AND NOT EXISTS (
                    SELECT FROM _ayb_job_executions AS later
                    WHERE later.schedule_id = oldest.schedule_id AND later.outcome = 'completed'
                        AND (later.ended_at, later.id) > (oldest.ended_at, oldest.id)
                )
            )
"""
# Ids are drawn when attempts begin, so the order of ids is nearly that of ending. A batch in which nothing old has
# ended is the end, though an attempt that runs very long may have ended behind it. Ends that lie ahead are plain SQL's,
# and say nothing.
PRUNE_EXECUTIONS = f"""
    WITH oldest AS MATERIALIZED (
        SELECT id, ended_at, outcome, schedule_id
        FROM _ayb_job_executions
        WHERE %(after)s::bigint IS NULL OR id > %(after)s::bigint
        ORDER BY id
        LIMIT %(limit)s
    ),
    old AS MATERIALIZED (
        SELECT id
        FROM _ayb_job_executions
        WHERE id = ANY (ARRAY(SELECT id FROM oldest WHERE ended_at < now() - %(keep)s::interval AND {NOT_LAST_SUCCESS}))
        FOR UPDATE SKIP LOCKED
    ),
    pruned AS (
        DELETE FROM _ayb_job_executions WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1
    )
    SELECT (SELECT count(*) FROM pruned) AS pruned, (SELECT count(*) FROM old) AS old, count(*) AS walked,
        max(id) AS last,
        count(*) FILTER (WHERE ended_at < now() - %(keep)s::interval) > 0 OR count(*) FILTER (WHERE ended_at <= now()) = 0
            AS goes_on
    FROM oldest
"""


def prune_executions(
    conn: Connection, *, keep: timedelta, limit: int = 1000, after: int | None = None
) -> PrunedExecutions:
    """Remove executions that ended longer than `keep` ago from among the next `limit`, the oldest first."""
    values = {"keep": keep, "limit": limit, "after": after}
    row = one_row(named(conn).execute(PRUNE_EXECUTIONS, values, prepare=False))
    goes_on = row.goes_on and row.walked >= limit
    return PrunedExecutions(row.pruned, row.last if goes_on else None, row.old - row.pruned)


FIND_OLD_EXECUTIONS = f"""
    WITH oldest AS MATERIALIZED (
        SELECT id, ended_at, outcome, schedule_id
        FROM _ayb_job_executions
        WHERE %(after)s::bigint IS NULL OR id > %(after)s::bigint
        ORDER BY id
        LIMIT %(limit)s
    )
    SELECT ARRAY(SELECT id FROM oldest WHERE ended_at < now() - %(keep)s::interval AND {NOT_LAST_SUCCESS}) AS ids, count(*) AS walked,
        max(id) AS last
    FROM oldest
"""


class OldExecutions(NamedTuple):
    """The ids of executions to be removed, and the id behind which the next batch goes on; None at the end."""

    ids: list[int]
    next: int | None


def find_old_executions(
    conn: Connection, *, keep: timedelta, limit: int = 1000, after: int | None = None
) -> OldExecutions:
    """Return what `prune_executions` would remove."""
    values = {"keep": keep, "limit": limit, "after": after}
    row = one_row(named(conn).execute(FIND_OLD_EXECUTIONS, values, prepare=False))
    return OldExecutions(row.ids, row.last if row.walked >= limit else None)


DELETE_EXECUTIONS = """
    WITH old AS MATERIALIZED (
        SELECT id FROM _ayb_job_executions WHERE id = ANY (%(ids)s::bigint[]) FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM _ayb_job_executions WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone, (SELECT count(*) AS rows FROM old) AS old
"""


def delete_executions(conn: Connection, ids: Sequence[int]) -> Deleted:
    """Remove these executions, but for those that somebody has locked."""
    return Deleted(*one_row(conn.execute(DELETE_EXECUTIONS, {"ids": list(ids)}, prepare=False)))
