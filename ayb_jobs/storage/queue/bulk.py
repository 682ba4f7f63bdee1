"""Many jobs at once: retry and cancel by filter."""

from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from psycopg.errors import UniqueViolation
from psycopg.rows import class_row

from ayb_jobs.errors import Conflict
from ayb_jobs.model.filters import EVERY, Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.awaited import tell_ended
from ayb_jobs.storage.queue.jobs import ATTEMPTS_GIVEN, UNIQUE_INDEX, Position
from ayb_jobs.storage.queue.matching import MATCHING

# So many jobs of a state are read for a count that must not take long.
LOOK = 20_000


class Batch(NamedTuple):
    """The jobs that one batch changed, and where the next one goes on; `next` is None at the end."""

    ids: list[str]
    next: Position | None

    @property
    def rows(self) -> int:
        """How many jobs were changed."""
        return len(self.ids)


class KeyTaken(Conflict):
    """A job was made meanwhile that has the unique key of one of these; nothing was changed."""


class Matching(NamedTuple):
    """A job that matches, the text of when it was created, and whether it was changed."""

    place: str
    id: str
    is_changed: bool


# Each batch goes on behind the one before, so that a job that fails again meanwhile is not retried again.
_NEXT_BATCH = f"""
    {MATCHING}
        AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
    ORDER BY created_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
"""

COUNT_MATCHING = f"""
    SELECT count(*) FROM _ayb_jobs WHERE state = %(state)s::text AND cancel_requested_at IS NULL AND {MATCHING}
"""


def count_jobs(conn: Connection, *, state: JobState, wanted: Filter) -> int:
    """Return how many jobs in `state` match, but for those that are to end canceled."""
    row = conn.execute(COUNT_MATCHING, {"state": state, **wanted.values()}, prepare=False).fetchone()
    return row[0] if row else 0


# Each reads the jobs of a state by an index that has no others, up to a bound.
_SEEN = f"""
    SELECT (SELECT count(*) FROM (SELECT FROM seen WHERE {MATCHING} LIMIT %(most)s) AS matching) AS jobs,
        (SELECT count(*) FROM seen) AS seen
"""
LOOK_AT_FAILED = f"""
    WITH seen AS MATERIALIZED (
        SELECT type, queue, idempotency_key, batch_id, last_error, created_at
        FROM _ayb_jobs
        WHERE state = 'failed'
        ORDER BY created_at, id
        LIMIT %(look)s
    )
    {_SEEN}
"""
LOOK_AT_QUEUED = f"""
    WITH seen AS MATERIALIZED (
        SELECT type, queue, idempotency_key, batch_id, last_error, created_at
        FROM _ayb_jobs
        WHERE state = 'queued' AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
        ORDER BY queue, priority, run_at, id
        LIMIT %(look)s
    )
    {_SEEN}
"""
LOOK_AT_RUNNING = f"""
    WITH seen AS MATERIALIZED (
        SELECT type, queue, idempotency_key, batch_id, last_error, created_at
        FROM _ayb_jobs
        WHERE state = 'running' AND cancel_requested_at IS NULL
        ORDER BY lease_until
        LIMIT %(look)s
    )
    {_SEEN}
"""
LOOKS: Mapping[JobState, LiteralString] = {
    JobState.FAILED: LOOK_AT_FAILED,
    JobState.QUEUED: LOOK_AT_QUEUED,
    JobState.RUNNING: LOOK_AT_RUNNING,
}


class Glimpse(NamedTuple):
    """How many jobs match; `whole` is false if there may be more, since the count or the reading came to its bound."""

    jobs: int
    whole: bool


def glimpse_jobs(conn: Connection, *, state: JobState, wanted: Filter, most: int, look: int = LOOK) -> Glimpse:
    """Count the jobs in `state` that match, up to `most`, among the `look` first of that state."""
    narrowed = any(value is not None for value in wanted.values().values())
    values = {**wanted.values(), "most": most, "look": look if narrowed else most}
    row = conn.execute(LOOKS[state], values, prepare=False).fetchone()
    jobs, seen = row or (0, 0)
    return Glimpse(jobs, whole=jobs < most and seen < look)


RETRY_JOBS = f"""
    WITH matching AS MATERIALIZED (
        SELECT id, created_at, unique_key FROM _ayb_jobs WHERE state = 'failed' AND {_NEXT_BATCH}
    ),
    free AS MATERIALIZED (
        SELECT id
        FROM matching
        WHERE unique_key IS NULL OR NOT EXISTS (
            SELECT FROM _ayb_jobs AS twin
            WHERE twin.unique_key = matching.unique_key AND twin.unique_key IS NOT NULL
                AND twin.state IN ('queued', 'running')
        ) AND NOT EXISTS (
            SELECT FROM matching AS earlier
            WHERE earlier.unique_key = matching.unique_key
                AND (earlier.created_at, earlier.id) < (matching.created_at, matching.id)
        )
    ),
    retried AS (
        UPDATE _ayb_jobs
        SET state = 'queued', run_at = now(), max_attempts = {ATTEMPTS_GIVEN}, attempts = 0, crashes = 0, last_error = NULL, progress = NULL, updated_at = now(),
            priority = CASE WHEN priority > 4 THEN priority - 4 ELSE priority END, limited_by = NULL, limited_key = NULL
        FROM free
        WHERE _ayb_jobs.id = free.id
        RETURNING CASE WHEN _ayb_jobs.state = 'queued' THEN _ayb_jobs.id END AS id
    ),
    woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM retried WHERE id IS NOT NULL LIMIT 1
    )
    SELECT matching.created_at::text AS place, matching.id, retried.id IS NOT NULL AS is_changed
    FROM matching LEFT JOIN retried ON retried.id = matching.id LEFT JOIN woken ON true
"""


def retry_jobs(
    conn: Connection,
    *,
    wanted: Filter = EVERY,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Queue up to `limit` failed jobs again, as `retry_job` does, the oldest first.

    Jobs that somebody holds stay, those whose unique key another job has, and those that a trigger keeps as they are.
    """
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
        RETURNING CASE WHEN _ayb_jobs.state = 'canceled' THEN _ayb_jobs.id END AS id
    )
    SELECT matching.created_at::text AS place, matching.id, canceled.id IS NOT NULL AS is_changed
    FROM matching LEFT JOIN canceled ON canceled.id = matching.id
"""


def cancel_jobs(
    conn: Connection,
    *,
    wanted: Filter = EVERY,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Cancel up to `limit` queued jobs, the oldest first. Jobs that somebody holds, or a trigger keeps, stay."""
    with conn.transaction():
        batch = _batch(conn, CANCEL_JOBS, _values(wanted, limit, after))
        tell_ended(conn, batch.ids)
    return batch


# As `CANCEL_RUNNING_JOB`.
CANCEL_RUNNING_JOBS = f"""
    WITH matching AS MATERIALIZED (
        SELECT id, created_at FROM _ayb_jobs WHERE state = 'running' AND cancel_requested_at IS NULL AND {_NEXT_BATCH}
    ),
    asked AS (
        UPDATE _ayb_jobs
        SET cancel_requested_at = now(), canceling_lease_id = coalesce(lease_id, gen_random_uuid()), lease_id = NULL,
            updated_at = now()
        FROM matching
        WHERE _ayb_jobs.id = matching.id
        RETURNING CASE WHEN _ayb_jobs.cancel_requested_at IS NOT NULL THEN _ayb_jobs.id END AS id
    ),
    told AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'canceled')::text END FROM asked WHERE id IS NOT NULL LIMIT 1
    )
    SELECT matching.created_at::text AS place, matching.id, asked.id IS NOT NULL AS is_changed
    FROM matching LEFT JOIN asked ON asked.id = matching.id LEFT JOIN told ON true
"""


def cancel_running_jobs(
    conn: Connection,
    *,
    wanted: Filter = EVERY,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Have up to `limit` running jobs end canceled, the oldest first. What somebody holds or a trigger keeps stays."""
    return _batch(conn, CANCEL_RUNNING_JOBS, _values(wanted, limit, after))


def _values(wanted: Filter, limit: int, after: Position | None) -> dict[str, Any]:
    return {
        **wanted.values(),
        "limit": limit,
        "after_at": after and after.at,
        "after_id": after and after.id,
    }


def _batch(conn: Connection, statement: LiteralString, values: Mapping[str, Any]) -> Batch:
    with conn.cursor(row_factory=class_row(Matching)) as cursor:
        try:
            found = cursor.execute(statement, values, prepare=False).fetchall()
        except UniqueViolation as error:
            if error.diag.constraint_name != UNIQUE_INDEX:
                raise
            raise KeyTaken from error
    last = found[-1] if len(found) >= values["limit"] else None
    return Batch([job.id for job in found if job.is_changed], last and Position(last.place, last.id))
