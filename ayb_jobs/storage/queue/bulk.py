"""Many jobs at once: enqueue by the thousands, retry and cancel by filter."""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, tuple_row

from ayb_jobs.model.job import JobState, NewJob
from ayb_jobs.storage.database import MAY_NOTIFY, Connection
from ayb_jobs.storage.faults import worded_lack_of_tables
from ayb_jobs.storage.queue.jobs import Position, refusing_bad_values
from ayb_jobs.tracing import current_traceparent

# Everything else takes the column's default; `run_at` is now.
COPY_DUE_JOBS = """
    COPY _ayb_jobs (id, type, payload, queue, priority, max_attempts, traceparent) FROM STDIN
"""
NOTIFY = f"SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END"

INSERT_JOBS = """
    WITH added AS (
        INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, traceparent, run_at, idempotency_key)
        SELECT id, type, payload, queue, priority, max_attempts, traceparent,
            coalesce(run_at, now() + delay, now()), idempotency_key
        FROM unnest(
            %s::uuid[], %s::text[], %s::jsonb[], %s::text[], %s::smallint[], %s::int[], %s::text[],
            %s::timestamptz[], %s::interval[], %s::text[]
        ) AS asked (
            id, type, payload, queue, priority, max_attempts, traceparent, run_at, delay, idempotency_key
        )
        ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING run_at
    )
    SELECT count(*), count(*) FILTER (WHERE run_at <= now()) FROM added
"""


def enqueue_many(conn: psycopg.Connection[Any], jobs: Iterable[NewJob]) -> int:
    """Put many jobs into the queue, all or none, and return how many were made.

    Jobs that fall due at the same time are leased in the order in which they were given. Those whose idempotency key is
    taken are left out. It happens in the transaction that `conn` is in, else in one of its own, with one notification.
    Jobs are sent while `jobs` is still being read, so reading it must not use `conn`.
    Raises `InvalidInput` for a job that cannot be stored, and `MigrationError`, a `DatabaseError`, where the tables are
    not there.
    """
    current = current_traceparent()
    others: list[tuple[object, ...]] = []
    inserted = inserted_due = 0
    with (
        worded_lack_of_tables(),
        _all_or_none(conn),
        conn.cursor(row_factory=tuple_row) as cursor,
        refusing_bad_values(),
    ):
        with cursor.copy(COPY_DUE_JOBS) as copy:
            for id_, job in zip(time_ordered_ids(), jobs, strict=False):
                trace = job.traceparent or current
                row = (id_, job.type, job.payload_text, job.queue, job.priority, job.max_attempts, trace)
                if job.run_at is None and job.delay is None and job.idempotency_key is None:
                    copy.write_row(row)
                else:
                    others.append((*row, job.run_at, job.delay, job.idempotency_key))
        copied = cursor.rowcount  # without those that a trigger drops
        if others:
            # In one order for all, so that two calls with the same keys wait for each other and never deadlock.
            others.sort(key=lambda job: str(job[-1]))
            columns = [list(column) for column in zip(*others, strict=True)]
            inserted, inserted_due = cursor.execute(INSERT_JOBS, columns).fetchone() or (0, 0)
        if copied or inserted_due:
            cursor.execute(NOTIFY)
    return copied + inserted


def _all_or_none(conn: psycopg.Connection[Any]) -> AbstractContextManager[object]:
    """Return a transaction, or a savepoint in the caller's.

    A connection without autocommit and outside a transaction is left to begin one by itself, for its owner to commit.
    """
    begins_its_own = not conn.autocommit and conn.info.transaction_status == TransactionStatus.IDLE
    return nullcontext() if begins_its_own else conn.transaction()


def time_ordered_ids() -> Iterator[str]:
    """Yield UUIDs of version 7, each higher than the one before: random bits counted up in random steps."""
    prefix = f"{time.time_ns() // 1_000_000:012x}7{secrets.randbits(12):03x}"
    number = 0b10 << 62 | secrets.randbits(61)
    step = secrets.randbits(32) | 1
    while True:
        yield f"{prefix}{number:016x}"
        number += step


class Batch(NamedTuple):
    """The jobs that one batch changed, and where the next one goes on; `next` is None at the end."""

    ids: list[str]
    next: Position | None

    @property
    def rows(self) -> int:
        """How many jobs were changed."""
        return len(self.ids)


_MATCHING = """
    (%(type)s::text IS NULL OR type = %(type)s::text) AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
"""
# Each batch goes on behind the one before, so that a job that fails again meanwhile is not retried again.
_NEXT_BATCH = f"""
    {_MATCHING}
        AND (%(after_id)s::uuid IS NULL OR (created_at, id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
    ORDER BY created_at, id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
"""

COUNT_MATCHING = f"SELECT count(*) FROM _ayb_jobs WHERE state = %(state)s::text AND {_MATCHING}"


def count_jobs(conn: Connection, *, state: JobState, type: str | None = None, queue: str | None = None) -> int:
    """Return how many jobs are in `state`, of a type and in a queue where these are given."""
    row = conn.execute(COUNT_MATCHING, {"state": state, "type": type, "queue": queue}, prepare=False).fetchone()
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
    type: str | None = None,
    queue: str | None = None,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Queue up to `limit` failed jobs again, as `retry_job` does, the oldest first. Jobs that somebody holds stay."""
    return _batch(conn, RETRY_JOBS, _matching(type, queue, limit, after))


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
    type: str | None = None,
    queue: str | None = None,
    limit: int = 1000,
    after: Position | None = None,
) -> Batch:
    """Cancel up to `limit` queued jobs, the oldest first. Jobs that somebody holds stay."""
    return _batch(conn, CANCEL_JOBS, _matching(type, queue, limit, after))


def _matching(type_: str | None, queue: str | None, limit: int, after: Position | None) -> dict[str, Any]:
    return {
        "type": type_,
        "queue": queue,
        "limit": limit,
        "after_at": after and after.created_at,
        "after_id": after and after.id,
    }


def _batch(conn: Connection, statement: LiteralString, values: Mapping[str, Any]) -> Batch:
    with conn.cursor(row_factory=class_row(Position)) as cursor:
        changed = cursor.execute(statement, values, prepare=False).fetchall()
    return Batch([job.id for job in changed], changed[-1] if len(changed) >= values["limit"] else None)
