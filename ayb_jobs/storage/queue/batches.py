"""Batches: which of them may be done, and what happens at their end.

One rule makes it exact: lock first, look in the next statement. Whoever adds a member holds a share of the batch's
lock until its transaction has ended. A statement that locks and looks at once sees what was committed when it began: it
would wait for such a transaction, and then end the batch with the new member open.

An end of a member is followed by a look once it is committed, so the last one is followed by a look that sees all ends.
A look without a lock comes first, and saves nearly all others: it asks for a witness, one member that has not ended.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from psycopg.errors import LockNotAvailable

from ayb_jobs import failpoints
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.rows import Deleted, one_row

FIRST = "00000000-0000-0000-0000-000000000000"


class BatchesLocked(DatabaseError):
    """Somebody else holds a lock on a batch."""


# Each job is looked up by its id, whatever the statistics say.
FIND_BATCHES_OF = """
    SELECT DISTINCT job.batch_id::text
    FROM unnest(%(jobs)s::uuid[]) AS asked (id)
    CROSS JOIN LATERAL (SELECT batch_id FROM _ayb_jobs WHERE id = asked.id LIMIT 1) AS job
    WHERE job.batch_id IS NOT NULL
"""


def find_batches_of(conn: Connection, job_ids: Sequence[str]) -> list[str]:
    """Return the batches that these jobs are members of."""
    return [row[0] for row in conn.execute(FIND_BATCHES_OF, {"jobs": plain_array(job_ids)})]


FIND_SEALED = """
    SELECT id::text
    FROM _ayb_job_batches
    WHERE done_at IS NULL AND sealed_at IS NOT NULL AND id > %(after)s::uuid
    ORDER BY id
    LIMIT %(limit)s
"""


def find_sealed(conn: Connection, *, after: str = FIRST, limit: int) -> list[str]:
    """Return the next batches that are sealed and not done, by their ids."""
    return [row[0] for row in conn.execute(FIND_SEALED, {"after": after, "limit": limit})]


# The last member by its id is asked for first: it ends late, so that it is a witness for long, and no dead entries of
# the index lie before it. Here and below, sub-selects hide from the planner how many ids there are: else it would take
# a plan for any number for the dearer one, and plan each time anew, which takes most of the time.
LOOK_AT_BATCHES = """
    SELECT asked.id::text, batch.is_sealed,
        coalesce(
            (
                SELECT job.id FROM _ayb_jobs AS job
                WHERE job.id = asked.witness AND job.batch_id = asked.id AND job.state IN ('queued', 'running')
            ),
            (
                SELECT job.id FROM _ayb_jobs AS job
                WHERE job.batch_id = asked.id AND job.state = 'queued' ORDER BY job.id DESC LIMIT 1
            ),
            (
                SELECT job.id FROM _ayb_jobs AS job
                WHERE job.batch_id = asked.id AND job.state = 'running' ORDER BY job.id DESC LIMIT 1
            )
        )::text,
        batch.is_canceled
    FROM unnest((SELECT %(ids)s::uuid[]), (SELECT %(witnesses)s::uuid[])) AS asked (id, witness)
    CROSS JOIN LATERAL (
        SELECT sealed_at IS NOT NULL AS is_sealed, canceled_at IS NOT NULL AS is_canceled
        FROM _ayb_job_batches
        WHERE id = asked.id AND done_at IS NULL
        LIMIT 1
    ) AS batch
"""


class Seen(NamedTuple):
    """A batch that is not done: whether it is sealed, a member that has not ended, and whether it is canceled."""

    id: str
    is_sealed: bool
    witness: str | None
    is_canceled: bool = False


def look_at_batches(conn: Connection, asked: Sequence[tuple[str, str | None]]) -> list[Seen]:
    """Return those of these batches that are not done. A witness that is given is asked first."""
    values = {"ids": plain_array(id_ for id_, _ in asked), "witnesses": [witness for _, witness in asked]}
    return [Seen(*row) for row in conn.execute(LOOK_AT_BATCHES, values)]


FIND_QUEUED = """
    SELECT member.id::text
    FROM unnest(%(ids)s::uuid[]) AS asked (id)
    CROSS JOIN LATERAL (
        SELECT job.id FROM _ayb_jobs AS job WHERE job.batch_id = asked.id AND job.state = 'queued' ORDER BY job.id
    ) AS member
    WHERE member.id <> ALL (%(aside)s::uuid[])
    LIMIT %(limit)s
"""


def find_queued(conn: Connection, ids: Sequence[str], *, aside: Iterable[str], limit: int) -> list[str]:
    """Return up to `limit` queued members of these batches."""
    values = {"ids": plain_array(ids), "aside": plain_array(aside), "limit": limit}
    return [row[0] for row in conn.execute(FIND_QUEUED, values, prepare=False)]


CANCEL_QUEUED = """
    WITH queued AS MATERIALIZED (
        SELECT id FROM _ayb_jobs WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' FOR UPDATE SKIP LOCKED
    ), canceled AS (
        UPDATE _ayb_jobs
        SET state = 'canceled', canceled_at = now(), updated_at = now()
        WHERE id = ANY (ARRAY(SELECT id FROM queued))
        RETURNING CASE WHEN state = 'canceled' THEN id END AS id
    )
    SELECT id::text FROM canceled WHERE id IS NOT NULL
"""


def cancel_queued(conn: Connection, ids: Sequence[str]) -> list[str]:
    """Cancel those of these jobs that are queued and that nobody has locked; return their ids."""
    return [row[0] for row in conn.execute(CANCEL_QUEUED, {"ids": plain_array(ids)}, prepare=False)]


# In one order for all resolvers, so that none waits for another that waits for it.
LOCK_BATCHES = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', %(patience)s, true)
    ), asked AS MATERIALIZED (
        SELECT DISTINCT id FROM impatient, unnest((SELECT %(ids)s::uuid[])) AS id ORDER BY id
    )
    SELECT batch.id
    FROM asked
    CROSS JOIN LATERAL (
        SELECT id FROM _ayb_job_batches WHERE id = asked.id AND done_at IS NULL LIMIT 1 FOR NO KEY UPDATE
    ) AS batch
"""
# A callback is due when it is enqueued, not when the transaction began: leasing does not look below the place where it
# leased last. Its id was drawn when the batch was made, so no event has two.
CLOSE_BATCHES = f"""
    WITH seen AS MATERIALIZED (
        SELECT asked.id, batch.traceparent, batch.is_canceled, members.*
        FROM unnest((SELECT %(ids)s::uuid[])) AS asked (id)
        CROSS JOIN LATERAL (
            SELECT traceparent, canceled_at IS NOT NULL AS is_canceled FROM _ayb_job_batches
            WHERE id = asked.id AND done_at IS NULL AND sealed_at IS NOT NULL
            LIMIT 1
        ) AS batch
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE job.state = 'completed') AS completed,
                count(*) FILTER (WHERE job.state = 'failed') AS failed,
                count(*) FILTER (WHERE job.state = 'canceled') AS canceled,
                count(*) FILTER (WHERE job.state IN ('queued', 'running')) AS unfinished
            FROM _ayb_jobs AS job
            WHERE job.batch_id = asked.id
        ) AS members
    ), ended AS MATERIALIZED (
        SELECT seen.*, first.id AS first_failed_id, first.error AS first_error
        FROM seen
        LEFT JOIN LATERAL (
            SELECT job.id, left(job.last_error, 1000) AS error
            FROM _ayb_jobs AS job
            WHERE seen.failed > 0 AND job.batch_id = seen.id AND job.state = 'failed'
            ORDER BY job.updated_at, job.id
            LIMIT 1
        ) AS first ON true
        WHERE seen.unfinished = 0
    ), closed AS (
        UPDATE _ayb_job_batches AS batch
        SET done_at = clock_timestamp(), completed = ended.completed, failed = ended.failed, canceled = ended.canceled,
            first_failed_id = ended.first_failed_id, first_error = ended.first_error
        FROM ended
        WHERE batch.id = ANY (ARRAY(SELECT id FROM ended)) AND batch.id = ended.id
        RETURNING batch.id
    ), due AS MATERIALIZED (
        SELECT callback.*, ended.traceparent
        FROM ended
        CROSS JOIN LATERAL (
            SELECT job_id, type, queue, priority, max_attempts,
                payload || jsonb_build_object('batch', jsonb_strip_nulls(jsonb_build_object(
                    'id', ended.id, 'event', event, 'total', ended.completed + ended.failed + ended.canceled,
                    'completed', ended.completed, 'failed', ended.failed, 'canceled', ended.canceled,
                    'first_failed', ended.first_failed_id, 'first_error', ended.first_error
                ))) AS payload
            FROM _ayb_job_batch_callbacks
            WHERE batch_id = ended.id
                AND event IN (
                    'done',
                    CASE WHEN ended.is_canceled OR ended.failed + ended.canceled > 0 THEN 'failure' ELSE 'success' END
                )
            LIMIT 2
        ) AS callback
    ), called AS (
        INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, run_at, traceparent)
        SELECT job_id, type, payload, queue, priority, max_attempts, clock_timestamp(), traceparent FROM due
        RETURNING id
    ), woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM called LIMIT 1
    )
    SELECT ended.id::text, ended.completed, ended.failed, ended.canceled, ended.is_canceled,
        (SELECT count(*) FROM ended) - (SELECT count(*) FROM closed) + (SELECT count(*) FROM due)
            - (SELECT count(*) FROM called) AS unchanged,
        (SELECT count(*) FROM woken)
    FROM ended
"""


def close_batches(conn: Connection, ids: Sequence[str], *, patience_s: float = 0.5) -> list[EndedBatch]:
    """End those of these batches that are sealed and of which no member waits or runs; enqueue their callbacks.

    To be called in a transaction. Raises `BatchesLocked` if somebody else keeps one of them locked, and `RowUnchanged`
    if a trigger drops a callback.
    """
    values = {"ids": plain_array(ids), "patience": f"{patience_s * 1000:.0f}ms"}
    try:
        conn.execute(LOCK_BATCHES, values)
    except LockNotAvailable as error:
        raise BatchesLocked from error
    failpoints.reach(failpoints.BATCH_LOCKED)
    rows = conn.execute(CLOSE_BATCHES, values).fetchall()
    failpoints.reach(failpoints.BATCH_CLOSED)
    if any(row[5] for row in rows):
        raise RowUnchanged
    return [EndedBatch(*row[:5]) for row in rows]


# A done batch goes a day after its end at the earliest, and once none of its members is left.
FIND_OLD_BATCHES = """
    WITH walked AS MATERIALIZED (
        SELECT id, done_at
        FROM _ayb_job_batches
        WHERE %(after)s::uuid IS NULL OR id > %(after)s::uuid
        ORDER BY id
        LIMIT %(limit)s
    )
    SELECT
        ARRAY(
            SELECT id::text FROM walked
            WHERE done_at < now() - interval '1 day'
                AND (SELECT true FROM _ayb_jobs AS job WHERE job.batch_id = walked.id LIMIT 1) IS NULL
            ORDER BY id
        ),
        (SELECT id::text FROM walked ORDER BY id DESC LIMIT 1),
        (SELECT count(*) FROM walked)
"""


class OldBatches(NamedTuple):
    """Batches that can go, and the id behind which the next walk goes on; None at the end."""

    ids: list[str]
    next: str | None


def find_old_batches(conn: Connection, *, after: str | None = None, limit: int = 1000) -> OldBatches:
    """Return which of the next `limit` batches can be removed."""
    row = conn.execute(FIND_OLD_BATCHES, {"after": after, "limit": limit}, prepare=False).fetchone()
    if row is None:
        return OldBatches([], None)
    return OldBatches(row[0], row[1] if row[2] >= limit else None)


DELETE_BATCHES = """
    WITH callbacks AS (
        DELETE FROM _ayb_job_batch_callbacks WHERE batch_id = ANY (%(ids)s::uuid[])
    ), gone AS (
        DELETE FROM _ayb_job_batches WHERE id = ANY (%(ids)s::uuid[]) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone,
        (SELECT count(*) AS rows FROM _ayb_job_batches WHERE id = ANY (%(ids)s::uuid[])) AS old
"""


def delete_batches(conn: Connection, ids: Sequence[str]) -> Deleted:
    """Remove these batches, with their callbacks."""
    return Deleted(*one_row(conn.execute(DELETE_BATCHES, {"ids": list(ids)}, prepare=False)))
