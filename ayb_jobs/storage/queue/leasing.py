"""Lease jobs: the statement that every run begins with.

Every write that ends or extends a run is fenced by `(id, lease_id)` alone. `lease_id` is null unless the job runs, so
the fence needs no look at the state; with `state = 'running'` beside it the planner takes the index of leases whenever
statistics say that nothing runs, and then reads all of it for each batch.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from psycopg.errors import ProgramLimitExceeded
from psycopg.pq import TransactionStatus

from ayb_jobs.model.job import LeasedJob
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
# A lease id is random in its first 74 bits, drawn once for the batch, since a server may take microseconds for each draw;
# the last 48 are the row's place in the table, which no two rows of a statement share.
# The rows come in no order: sorting them here would have the server copy each of them twice.
LEASE_JOBS = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
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
                    AND job.type = ANY (%(types)s::text[])
                ORDER BY job.run_at, job.id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS next_in_lane
            WHERE lane.priority = level.priority
            ORDER BY next_in_lane.run_at, next_in_lane.id
            LIMIT %(limit)s
        ) AS next_in_priority
        LIMIT %(limit)s
    )
    UPDATE _ayb_jobs
    SET state = 'running', attempts = least(attempts, 2147483646) + 1,
        lease_id = encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid,
        lease_until = now() + %(lease_s)s * interval '1 second', worker_id = %(worker_id)s,
        execution_id = nextval('_ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now()
    WHERE id = ANY (ARRAY(SELECT id FROM due))
    RETURNING id, lease_id, execution_id, type, payload::text, queue, priority, attempts, max_attempts, crashes,
        run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent
"""

# One payload that is too large as text would keep its whole batch from being leased for ever.
LEASE_JOBS_WITH_CARE = LEASE_JOBS.replace("payload::text", "_ayb_job_text(payload)")

# The text of instants sorts as they do, in a zone without summer time, which the loops' connections are set to.
BY_TURN = attrgetter("priority", "run_at_text", "id")


def lease_jobs(
    conn: Connection, *, worker_id: str, lanes: Sequence[Lane], types: Sequence[str], limit: int, lease_s: float
) -> list[LeasedJob]:
    """Lease up to `limit` due jobs of these lanes and types for `lease_s` seconds, in the order priority, run_at, id.

    Jobs that another transaction holds are passed over. Each leased job has counted one more attempt.
    """
    values = {
        "worker_id": worker_id,
        "queues": [lane.queue for lane in lanes],
        "priorities": [lane.priority for lane in lanes],
        "floor_run_ats": [lane.floor_run_at for lane in lanes],
        "floor_ids": [lane.floor_id for lane in lanes],
        "types": list(types),
        "limit": limit,
        "lease_s": lease_s,
    }
    # An error would end a transaction under way, as there is one behind a pooler, and nothing could be tried again in it.
    careful = conn.info.transaction_status != TransactionStatus.IDLE
    try:
        rows = conn.execute(LEASE_JOBS_WITH_CARE if careful else LEASE_JOBS, values).fetchall()
    except ProgramLimitExceeded:
        if careful:
            raise
        rows = conn.execute(LEASE_JOBS_WITH_CARE, values).fetchall()
    return sorted(map(LeasedJob._make, rows), key=BY_TURN)
