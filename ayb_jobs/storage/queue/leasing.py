"""Lease jobs: the statement that every run begins with.

A lane is one priority of one queue; its floor is the place of the last lease in it. Leasing looks above the floors, so
that it walks neither what it has passed nor dead index entries. What appears below a floor is found by a sweep, a look
from the bottom, which comes now and then (`runtime.jobs.sweep`).

Every write that ends or extends a run is fenced by `(id, lease_id)` alone. `lease_id` is null unless the job runs, so
the fence needs no look at the state; with `state = 'running'` beside it the planner takes the index of leases whenever
statistics say that nothing runs, and then reads all of it for each batch.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from psycopg.errors import ProgramLimitExceeded
from psycopg.pq import TransactionStatus

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection

NO_FLOOR = ("-infinity", "00000000-0000-0000-0000-000000000000")


class Lane(NamedTuple):
    """One priority of one queue, and the last place in it from which a job was leased."""

    queue: str
    priority: int
    floor_run_at: str = NO_FLOOR[0]
    floor_id: str = NO_FLOOR[1]


# Each lane is one walk of the index from its floor, lowest priority number first, and stops as soon as there are
# enough, so that neither delayed jobs nor dead index entries below the floor are walked. The ids pass through an array
# because a join may be planned as one that reads the whole table, and a sub-select with LIMIT and SKIP LOCKED in an IN
# may run twice and lease more than the limit.
# What is paused is left out here, so that no look that begins after a pause was committed leases any of it.
# A lease id is random in its first 74 bits, drawn once for the batch, since a server may take microseconds for each
# draw; the last 48 are the row's place in the table, which no two rows of a statement share. A payload that is large as
# stored is left where it is, and one that is large as text only is cut: the slot fetches both. A lease id is null if a
# trigger put the row into another state. The rows come in no order: sorting them here would have the server copy each
# of them twice.
LEASE_JOBS = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
    ), open_types AS (
        SELECT name FROM unnest(%(types)s::text[]) AS name
        WHERE name <> ALL (ARRAY(
            SELECT name FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
        ))
    ), due AS MATERIALIZED (
        SELECT next_in_priority.id
        FROM generate_series(1, 4) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT next_in_lane.id
            FROM unnest(%(queues)s::text[], %(priorities)s::int[], %(floor_run_ats)s::timestamptz[],
                        %(floor_ids)s::uuid[]) AS lane (queue, priority, run_at, id)
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id
                FROM _ayb_jobs AS job
                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                    AND (job.run_at, job.id) > (lane.run_at, lane.id) AND job.run_at <= now()
                    AND job.type = ANY (ARRAY(SELECT name FROM open_types))
                ORDER BY job.run_at, job.id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS next_in_lane
            WHERE lane.priority = level.priority
                AND lane.queue <> ALL (ARRAY(
                    SELECT name FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
                ))
            ORDER BY next_in_lane.run_at, next_in_lane.id
            LIMIT %(limit)s
        ) AS next_in_priority
        LIMIT %(limit)s
    )
    UPDATE _ayb_jobs
    SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
        lease_id = encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid,
        lease_until = now() + %(lease_s)s * interval '1 second', worker_id = %(worker_id)s,
        execution_id = nextval('_ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
        unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, CASE WHEN state = 'running' THEN lease_id END, execution_id, type,
        CASE WHEN pg_column_size(payload) <= 16384 THEN left(payload::text, 16385) END, queue, priority,
        attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent
"""

# The same, but for the rows that are set aside.
LEASE_JOBS_BUT = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
    ), open_types AS (
        SELECT name FROM unnest(%(types)s::text[]) AS name
        WHERE name <> ALL (ARRAY(
            SELECT name FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
        ))
    ), due AS MATERIALIZED (
        SELECT next_in_priority.id
        FROM generate_series(1, 4) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT next_in_lane.id
            FROM unnest(%(queues)s::text[], %(priorities)s::int[], %(floor_run_ats)s::timestamptz[],
                        %(floor_ids)s::uuid[]) AS lane (queue, priority, run_at, id)
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id
                FROM _ayb_jobs AS job
                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                    AND (job.run_at, job.id) > (lane.run_at, lane.id) AND job.run_at <= now()
                    AND job.type = ANY (ARRAY(SELECT name FROM open_types))
                    AND job.id <> ALL (%(aside)s::uuid[])
                ORDER BY job.run_at, job.id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS next_in_lane
            WHERE lane.priority = level.priority
                AND lane.queue <> ALL (ARRAY(
                    SELECT name FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
                ))
            ORDER BY next_in_lane.run_at, next_in_lane.id
            LIMIT %(limit)s
        ) AS next_in_priority
        LIMIT %(limit)s
    )
    UPDATE _ayb_jobs
    SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
        lease_id = encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid,
        lease_until = now() + %(lease_s)s * interval '1 second', worker_id = %(worker_id)s,
        execution_id = nextval('_ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
        unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, CASE WHEN state = 'running' THEN lease_id END, execution_id, type,
        CASE WHEN pg_column_size(payload) <= 16384 THEN left(payload::text, 16385) END, queue, priority,
        attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent
"""

# A few kilobytes of jsonb may be gigabytes as text, which the server refuses to make, and with it the whole answer.
PLAIN_TEXT = "left(payload::text, 16385)"
CAREFUL_TEXT = "left(_ayb_job_text(payload), 16385)"
LEASE_JOBS_WITH_CARE = LEASE_JOBS.replace(PLAIN_TEXT, CAREFUL_TEXT)
LEASE_JOBS_BUT_WITH_CARE = LEASE_JOBS_BUT.replace(PLAIN_TEXT, CAREFUL_TEXT)

# The text of instants sorts as they do, in a zone without summer time, which the loops' connections are set to.
BY_TURN = attrgetter("priority", "run_at_text", "id")


def lease_jobs(
    conn: Connection,
    *,
    worker_id: str,
    lanes: Sequence[Lane],
    types: Sequence[str],
    limit: int,
    lease_s: float,
    aside: Sequence[str] = (),
) -> list[LeasedJob]:
    """Lease up to `limit` due jobs of these lanes and types for `lease_s` seconds, in the order priority, run_at, id.

    Jobs that another transaction holds are passed over, and so are those whose ids are `aside`. Each leased job has
    counted one more attempt. A job that a trigger kept from running comes without a `lease_id`: it is not leased.
    """
    values = lane_values(lanes, types, limit) | {"worker_id": worker_id, "lease_s": lease_s}
    plain, careful = LEASE_JOBS, LEASE_JOBS_WITH_CARE
    if aside:
        plain, careful = LEASE_JOBS_BUT, LEASE_JOBS_BUT_WITH_CARE
        values["aside"] = plain_array(aside)
    rows = with_care(conn, lambda care: conn.execute(careful if care else plain, values).fetchall())
    return sorted(map(LeasedJob._make, rows), key=BY_TURN)


def with_care(conn: Connection, lease: Callable[[bool], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Return the rows of a statement that leases. `lease` is told whether to take care of payloads of any size.

    Care costs time, and is taken only once the server has refused to make a payload's text, or where it could not be
    taken afterwards.
    """
    # An error ends a transaction under way, as there is one behind a pooler, and nothing can be tried again in it.
    in_transaction = conn.info.transaction_status != TransactionStatus.IDLE
    try:
        return lease(in_transaction)
    except ProgramLimitExceeded:
        if in_transaction:
            raise
        return lease(True)


def lane_values(lanes: Sequence[Lane], types: Sequence[str], limit: int) -> dict[str, Any]:
    """Return lanes, types and the limit as the statements take them."""
    return {
        "queues": [lane.queue for lane in lanes],
        "priorities": [lane.priority for lane in lanes],
        "floor_run_ats": [lane.floor_run_at for lane in lanes],
        "floor_ids": [lane.floor_id for lane in lanes],
        "types": list(types),
        "limit": limit,
    }


# The step `due` of `LEASE_JOBS_BUT`.
FIND_DUE = """
    WITH open_types AS (
        SELECT name FROM unnest(%(types)s::text[]) AS name
        WHERE name <> ALL (ARRAY(
            SELECT name FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
        ))
    ), due AS MATERIALIZED (
        SELECT next_in_priority.id
        FROM generate_series(1, 4) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT next_in_lane.id
            FROM unnest(%(queues)s::text[], %(priorities)s::int[], %(floor_run_ats)s::timestamptz[],
                        %(floor_ids)s::uuid[]) AS lane (queue, priority, run_at, id)
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id
                FROM _ayb_jobs AS job
                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                    AND (job.run_at, job.id) > (lane.run_at, lane.id) AND job.run_at <= now()
                    AND job.type = ANY (ARRAY(SELECT name FROM open_types))
                    AND job.id <> ALL (%(aside)s::uuid[])
                ORDER BY job.run_at, job.id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS next_in_lane
            WHERE lane.priority = level.priority
                AND lane.queue <> ALL (ARRAY(
                    SELECT name FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
                ))
            ORDER BY next_in_lane.run_at, next_in_lane.id
            LIMIT %(limit)s
        ) AS next_in_priority
        LIMIT %(limit)s
    )
    SELECT id::text FROM due
"""


def find_due(
    conn: Connection, *, lanes: Sequence[Lane], types: Sequence[str], limit: int, aside: Sequence[str]
) -> list[str]:
    """Return the ids of the jobs that `lease_jobs` would lease now."""
    values = lane_values(lanes, types, limit) | {"aside": plain_array(aside)}
    return [row[0] for row in conn.execute(FIND_DUE, values, prepare=False)]


# No payload is asked for: a single one may be what makes the usual statement fail.
LEASE_CHOSEN = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
    ), due AS MATERIALIZED (
        SELECT id
        FROM _ayb_jobs
        WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' AND run_at <= now()
            AND queue = ANY (%(queues)s::text[]) AND type = ANY (%(types)s::text[])
            AND priority <= 4 AND type <> ALL (ARRAY(SELECT unnest(types) FROM _ayb_job_limits))
            AND NOT EXISTS (
                SELECT FROM _ayb_job_pauses AS pause
                WHERE (pause.until IS NULL OR pause.until > now())
                    AND (pause.kind = 'queue' AND pause.name = queue OR pause.kind = 'type' AND pause.name = type)
            )
        FOR UPDATE SKIP LOCKED
    )
    UPDATE _ayb_jobs
    SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
        lease_id = encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid,
        lease_until = now() + %(lease_s)s * interval '1 second', worker_id = %(worker_id)s,
        execution_id = nextval('_ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
        unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, CASE WHEN state = 'running' THEN lease_id END, execution_id, type,
        NULL, queue, priority,
        attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent
"""
FIND_CHOSEN_DUE = """
    SELECT id::text
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued' AND run_at <= now()
        AND queue = ANY (%(queues)s::text[]) AND type = ANY (%(types)s::text[])
        AND priority <= 4 AND type <> ALL (ARRAY(SELECT unnest(types) FROM _ayb_job_limits))
        AND NOT EXISTS (
            SELECT FROM _ayb_job_pauses AS pause
            WHERE (pause.until IS NULL OR pause.until > now())
                AND (pause.kind = 'queue' AND pause.name = queue OR pause.kind = 'type' AND pause.name = type)
        )
    FOR UPDATE SKIP LOCKED
"""


class Chosen(NamedTuple):
    """What became of chosen jobs: those leased, and the ids of those that are due and that nobody has locked.

    A trigger kept these `unchanged` ones from being leased. Those in neither are due no more, or locked.
    """

    leased: list[LeasedJob]
    unchanged: list[str]


def lease_chosen(
    conn: Connection, ids: Sequence[str], *, worker_id: str, queues: Sequence[str], types: Sequence[str], lease_s: float
) -> Chosen:
    """Lease those of these jobs that are due, without their payloads."""
    values = {
        "ids": plain_array(ids),
        "queues": list(queues),
        "types": list(types),
        "worker_id": worker_id,
        "lease_s": lease_s,
    }
    jobs = list(map(LeasedJob._make, conn.execute(LEASE_CHOSEN, values, prepare=False).fetchall()))
    leased = [job for job in jobs if job.lease_id]
    unchanged = [job.id for job in jobs if not job.lease_id]
    if len(jobs) < len(ids):
        rest = set(ids).difference(job.id for job in jobs)
        rows = conn.execute(FIND_CHOSEN_DUE, values | {"ids": plain_array(rest)}, prepare=False)
        unchanged += [row[0] for row in rows]
    return Chosen(sorted(leased, key=BY_TURN), unchanged)


# What `payload_text` holds at most if it is the whole payload.
LONGEST_LEASED_PAYLOAD = 16384
FETCH_PAYLOAD = """
    WITH written AS MATERIALIZED (
        SELECT _ayb_job_text(payload) AS text FROM _ayb_jobs WHERE id = %(id)s AND lease_id = %(lease_id)s
    )
    SELECT octet_length(text), CASE WHEN octet_length(text) <= %(most_bytes)s THEN text END FROM written
"""


class Payload(NamedTuple):
    """A payload's size as text, None above 64 MiB, and its text, None above what was asked for."""

    bytes: int | None
    text: str | None


def fetch_payload(conn: Connection, job: LeasedJob, *, most_bytes: int) -> Payload | None:
    """Return a leased job's payload; None if its lease is lost."""
    values = {"id": job.id, "lease_id": job.lease_id, "most_bytes": most_bytes}
    row = conn.execute(FETCH_PAYLOAD, values).fetchone()
    return None if row is None else Payload(*row)
