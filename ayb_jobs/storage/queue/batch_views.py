"""Batches as their users see them, and sealing and cancelling them by hand."""

from typing import Any, NamedTuple

from psycopg.errors import LockNotAvailable
from psycopg.rows import class_row, dict_row

from ayb_jobs.errors import Conflict, NotFound
from ayb_jobs.model.batches import Batch, BatchState, Callback
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.storage.database import Connection

# The totals of a batch that is done are those at its end; members may have been retried or removed since. Of a batch
# that is not done, no more are counted than an answer may take, of each state.
MOST_LISTED = 100_000
MOST_SHOWN = 1_000_000
LIST_BATCHES = """
    WITH page AS MATERIALIZED (
        SELECT *
        FROM _ayb_job_batches
        WHERE (%(only)s::uuid IS NULL OR id = %(only)s::uuid)
            AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid)
            AND (
                %(state)s::text IS NULL OR %(state)s::text = CASE
                    WHEN done_at IS NOT NULL AND (failed + canceled > 0 OR canceled_at IS NOT NULL) THEN 'failed'
                    WHEN done_at IS NOT NULL THEN 'succeeded'
                    WHEN sealed_at IS NULL THEN 'open'
                    ELSE 'running'
                END
            )
        ORDER BY id DESC
        LIMIT %(limit)s
    )
    SELECT page.id::text, page.description::text, page.created_at, page.sealed_at, page.canceled_at, page.done_at,
        coalesce(members.queued, 0) AS queued, coalesce(members.running, 0) AS running,
        coalesce(members.completed, page.completed) AS completed, coalesce(members.failed, page.failed) AS failed,
        coalesce(members.canceled, page.canceled) AS canceled,
        coalesce(page.first_failed_id, first.id)::text AS first_failed_id,
        coalesce(page.first_error::text, first.error) AS first_error,
        ARRAY(
            SELECT jsonb_build_array(event, job_id, type, (SELECT state FROM _ayb_jobs WHERE id = callback.job_id))
            FROM _ayb_job_batch_callbacks AS callback
            WHERE callback.batch_id = page.id
            ORDER BY event DESC
        ) AS callbacks
    FROM page
    LEFT JOIN LATERAL (
        SELECT sum(jobs) FILTER (WHERE known.state = 'queued')::bigint AS queued,
            sum(jobs) FILTER (WHERE known.state = 'running')::bigint AS running,
            sum(jobs) FILTER (WHERE known.state = 'completed')::bigint AS completed,
            sum(jobs) FILTER (WHERE known.state = 'failed')::bigint AS failed,
            sum(jobs) FILTER (WHERE known.state = 'canceled')::bigint AS canceled
        FROM unnest(ARRAY['queued', 'running', 'completed', 'failed', 'canceled']) AS known (state)
        CROSS JOIN LATERAL (
            SELECT count(*) AS jobs
            FROM (
                SELECT FROM _ayb_jobs AS job
                WHERE job.batch_id = page.id AND job.state = known.state
                ORDER BY job.id DESC
                LIMIT %(most)s
            ) AS walked
        ) AS counted
    ) AS members ON page.done_at IS NULL
    LEFT JOIN LATERAL (
        SELECT walked.id, left(walked.last_error, 1000) AS error
        FROM (
            SELECT job.id, job.last_error, job.updated_at
            FROM _ayb_jobs AS job
            WHERE job.batch_id = page.id AND job.state = 'failed'
            ORDER BY job.id
            LIMIT %(most)s
        ) AS walked
        ORDER BY walked.updated_at, walked.id
        LIMIT 1
    ) AS first ON page.done_at IS NULL
    ORDER BY page.id DESC
"""


def list_batches(
    conn: Connection, *, state: BatchState | None = None, before: str | None = None, limit: int = 50
) -> list[Batch]:
    """Return up to `limit` batches, the newest first; `before` continues after the last of an earlier page.

    Of a batch that is not done, up to 100,000 members of each state are counted, and a million if one is asked for.
    """
    return _batches(conn, only=None, state=state, before=before, limit=limit, most=MOST_LISTED)


def get_batch(conn: Connection, batch_id: str) -> Batch:
    """Return a batch. Raises `InvalidInput` if the id is no UUID, and `NotFound`."""
    found = _batches(conn, only=checked_id(batch_id, "batch_id"), state=None, before=None, limit=1, most=MOST_SHOWN)
    if not found:
        raise NotFound(f"there is no batch {batch_id}")
    return found[0]


def find_batch_of(conn: Connection, job: Job) -> Batch | None:
    """Return the batch that a job is a member of; None if there is none, or it is gone."""
    if job.batch_id is None:
        return None
    return next(iter(_batches(conn, only=job.batch_id, state=None, before=None, limit=1, most=MOST_SHOWN)), None)


def _batches(conn: Connection, **values: Any) -> list[Batch]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(LIST_BATCHES, values, prepare=False).fetchall()
    return [
        Batch(
            **{**row, "callbacks": [_callback(*each) for each in row["callbacks"]]},
            cut=row["done_at"] is None and max(row[state] for state in JobState) >= values["most"],
        )
        for row in rows
    ]


def _callback(event: str, job_id: str, job_type: str, state: str | None) -> Callback:
    return Callback(event=event, job_id=job_id, type=job_type, state=state)


# What nobody has sealed an hour after it was made, although none of its members waits or runs: it never ends by itself.
FIND_FORGOTTEN = """
    SELECT count(*) AS batches, (array_agg(forgotten.id::text ORDER BY forgotten.id))[1] AS first,
        extract(epoch FROM now() - min(forgotten.created_at) FILTER (WHERE isfinite(forgotten.created_at)))::float8 AS age_s
    FROM (
        SELECT batch.id, batch.created_at
        FROM _ayb_job_batches AS batch
        WHERE batch.sealed_at IS NULL AND batch.done_at IS NULL AND batch.created_at < now() - interval '1 hour'
            AND coalesce(
                (
                    SELECT job.id FROM _ayb_jobs AS job
                    WHERE job.batch_id = batch.id AND job.state = 'queued' ORDER BY job.id DESC LIMIT 1
                ),
                (
                    SELECT job.id FROM _ayb_jobs AS job
                    WHERE job.batch_id = batch.id AND job.state = 'running' ORDER BY job.id DESC LIMIT 1
                )
            ) IS NULL
        LIMIT 1000
    ) AS forgotten
    HAVING count(*) > 0
"""


class Forgotten(NamedTuple):
    """Batches that nobody has sealed: how many, up to 1,000, one of them, and how long ago the first was made."""

    batches: int
    first: str
    age_s: float | None


def find_forgotten(conn: Connection) -> Forgotten | None:
    """Return what is known of batches that nobody has sealed and that nothing runs in; None if there are none."""
    with conn.cursor(row_factory=class_row(Forgotten)) as cursor:
        return cursor.execute(FIND_FORGOTTEN, prepare=False).fetchone()


# Whoever adds to it holds a lock until its transaction has ended.
CANCEL_BATCH = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '5s', true)
    )
    UPDATE _ayb_job_batches
    SET canceled_at = coalesce(canceled_at, now()), sealed_at = coalesce(sealed_at, now())
    WHERE id = (SELECT %(id)s::uuid FROM impatient) AND done_at IS NULL
"""


def cancel_batch(conn: Connection, batch_id: str) -> None:
    """Seal a batch for good: nothing can be added. Its members are left; a second call changes nothing.

    Raises `NotFound`, or `Conflict` if it is done, or if another transaction keeps adding to it for five seconds.
    """
    target = checked_id(batch_id, "batch_id")
    try:
        changed = conn.execute(CANCEL_BATCH, {"id": target}).rowcount
    except LockNotAvailable as error:
        raise Conflict(f"batch {target} is being added to by a transaction that has not ended") from error
    if not changed:
        get_batch(conn, target)
        raise Conflict(f"batch {target} is done")
