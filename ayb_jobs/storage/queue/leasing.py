"""Lease jobs: the statement that every run begins with.

Every write that ends or extends a run is fenced by `(id, lease_id)` alone. `lease_id` is null unless the job runs, so
the fence needs no look at the state; with `state = 'running'` beside it the planner takes the index of leases whenever
statistics say that nothing runs, and then reads all of it for each batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.model.job import LeasedJob, as_leased
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import (
    ANY_NUMBER,
    BY_TURN,
    CAREFUL_TEXT,
    PLAIN_TEXT,
    Lane,
    lane_values,
    turn_values,
    with_care,
)
from ayb_jobs.storage.queue.turns import LEASE_BY_TURN, LEASE_BY_TURN_WITH_CARE

# Each lane is one walk of the index from its floor, lowest priority number first, and stops as soon as there are
# enough, so that neither delayed jobs nor dead index entries below the floor are walked. The ids pass through an array
# because a join may be planned as one that reads the whole table, and a sub-select with LIMIT and SKIP LOCKED in an IN
# may run twice and lease more than the limit.
# What is paused is left out here, so that no look that begins after a pause was committed leases any of it.
# A lease id is random in its first 74 bits, drawn once for the batch, since a server may take microseconds for each
# draw; the last 48 are the row's place in the table, which no two rows of a statement share. A payload that is large as
# stored, or has long numbers, is left where it is, and one that is large as text only is cut: the slot fetches them. A
# lease id is null if a trigger put the row into another state. The rows come in no order: sorting them here would have
# the server copy each of them twice.
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
        CASE
            WHEN pg_column_size(payload) <= 16384 AND NOT _ayb_job_has_long_numbers(payload)
            THEN left(payload::text, 16385)
        END,
        queue, priority, attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent, batch_id
"""

LEASE_JOBS_WITH_CARE = LEASE_JOBS.replace(PLAIN_TEXT, CAREFUL_TEXT)


def lease_jobs(
    conn: Connection,
    *,
    worker_id: str,
    lanes: Sequence[Lane],
    types: Sequence[str],
    limit: int,
    lease_s: float,
    aside: Sequence[str] = (),
    by_turn: bool = False,
) -> list[LeasedJob]:
    """Lease up to `limit` due jobs of these lanes and types for `lease_s` seconds, in the order priority, run_at, id.

    Jobs that another transaction holds are passed over, and so are those whose ids are `aside`. Each leased job has
    counted one more attempt. A job that a trigger kept from running comes without a `lease_id`: it is not leased.

    With `by_turn` many lanes with a backlog cost little more than one, and fewer than `limit` jobs do not mean that
    there are no more.
    """
    plain, careful = LEASE_JOBS, LEASE_JOBS_WITH_CARE
    if by_turn or aside or any(lane.room < ANY_NUMBER for lane in lanes):
        plain, careful = LEASE_BY_TURN, LEASE_BY_TURN_WITH_CARE
        values = turn_values(lanes, types, limit, by_turn=by_turn, aside=aside)
    else:
        values = lane_values(lanes, types, limit)
    values |= {"worker_id": worker_id, "lease_s": lease_s}
    rows = with_care(conn, lambda care: conn.execute(careful if care else plain, values).fetchall())
    return list(map(as_leased, sorted(rows, key=BY_TURN)))


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
