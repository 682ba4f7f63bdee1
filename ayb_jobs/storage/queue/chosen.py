"""Lease jobs that are known by their ids: those that the database may refuse to lease with others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import BY_TURN

# No payload is asked for: a single one may be what makes the usual statement fail.
LEASE_CHOSEN = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
    ), met AS MATERIALIZED (
        SELECT id, queue, priority, run_at
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
    ), due AS MATERIALIZED (
        SELECT placed.id
        FROM (
            SELECT id, queue, row_number() OVER (PARTITION BY queue ORDER BY priority, run_at, id) AS place FROM met
        ) AS placed
        JOIN unnest(%(queues)s::text[], %(rooms)s::int[]) AS open (queue, room) ON open.queue = placed.queue
        WHERE placed.place <= open.room
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
        attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent, batch_id
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
    conn: Connection,
    ids: Sequence[str],
    *,
    worker_id: str,
    rooms: Mapping[str, int],
    types: Sequence[str],
    lease_s: float,
) -> Chosen:
    """Lease those of these jobs that are due, without their payloads; of each queue as many as it has room for."""
    values = {
        "ids": plain_array(ids),
        "queues": list(rooms),
        "rooms": list(rooms.values()),
        "types": list(types),
        "worker_id": worker_id,
        "lease_s": lease_s,
    }
    jobs = list(map(LeasedJob._make, conn.execute(LEASE_CHOSEN, values, prepare=False).fetchall()))
    leased = [job for job in jobs if job.lease_id]
    unchanged = [job.id for job in jobs if not job.lease_id]
    if len(jobs) < len(ids):
        rest = set(ids).difference(job.id for job in jobs)
        taken = Counter(job.queue for job in jobs)
        with_room = [queue for queue, room in rooms.items() if taken[queue] < room]
        rows = conn.execute(FIND_CHOSEN_DUE, values | {"ids": plain_array(rest), "queues": with_room}, prepare=False)
        unchanged += [row[0] for row in rows]
    return Chosen(sorted(leased, key=BY_TURN), unchanged)
