"""Lease plain jobs while there are limits, and put jobs of limited types under theirs on the way."""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.model.job import LeasedJob
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import (
    BY_TURN,
    CAREFUL_TEXT,
    PLAIN_TEXT,
    Lane,
    turn_values,
    with_care,
)
from ayb_jobs.storage.queue.put_under import KEY_OF_DUE

# The steps of `LEASE_BY_TURN`, but for jobs of limited types: those that it meets are put under their limits. They
# count in the limit of the batch, so that one look never walks farther than another.
LEASE_BESIDE_LIMITS = f"""
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
    ), limited_types AS MATERIALIZED (
        SELECT type, limits.name, limits.key_field
        FROM _ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
    ), open_types AS (
        SELECT name FROM unnest(%(types)s::text[]) AS name
        WHERE name <> ALL (ARRAY(
            SELECT name FROM _ayb_job_pauses WHERE kind = 'type' AND (until IS NULL OR until > now())
        ))
    ), lane AS MATERIALIZED (
        SELECT given.queue, given.priority, given.run_at, given.id, least(given.share, given.room) AS share, given.room,
            given.number
        FROM unnest(%(queues)s::text[], %(priorities)s::int[], %(floor_run_ats)s::timestamptz[], %(floor_ids)s::uuid[],
                    %(shares)s::int[], %(rooms)s::int[])
            WITH ORDINALITY AS given (queue, priority, run_at, id, share, room, number)
        WHERE given.queue <> ALL (ARRAY(
            SELECT name FROM _ayb_job_pauses WHERE kind = 'queue' AND (until IS NULL OR until > now())
        ))
    ), counted AS MATERIALIZED (
        SELECT next.number, count(*) AS jobs
        FROM (
            SELECT next_in_priority.number
            FROM generate_series(1, 4) AS level (priority)
            CROSS JOIN LATERAL (
                SELECT lane.number
                FROM lane
                CROSS JOIN LATERAL (
                    SELECT job.run_at, job.id
                    FROM _ayb_jobs AS job
                    WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                        AND (job.run_at, job.id) > (lane.run_at, lane.id) AND job.run_at <= now()
                        AND job.type = ANY (ARRAY(SELECT name FROM open_types))
                        AND job.id <> ALL (%(aside)s::uuid[])
                    ORDER BY job.run_at, job.id
                    LIMIT lane.share
                ) AS next_in_lane
                WHERE lane.priority = level.priority
                ORDER BY next_in_lane.run_at, next_in_lane.id
                LIMIT %(limit)s
            ) AS next_in_priority
            WHERE %(by_turn)s
            LIMIT %(limit)s
        ) AS next
        GROUP BY next.number
    ), turn AS MATERIALIZED (
        SELECT lane.queue, lane.priority, lane.run_at, lane.id, lane.room,
            CASE WHEN counted.jobs < lane.share THEN counted.jobs ELSE lane.room END AS most
        FROM lane JOIN counted ON counted.number = lane.number
        UNION ALL
        SELECT queue, priority, run_at, id, room, room FROM lane WHERE NOT %(by_turn)s
    ), met AS MATERIALIZED (
        SELECT next_in_priority.*
        FROM generate_series(1, 4) AS level (priority)
        CROSS JOIN LATERAL (
            SELECT next_in_lane.id, next_in_lane.type, next_in_lane.run_at, lane.queue, lane.priority, lane.room
            FROM turn AS lane
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id, job.type
                FROM _ayb_jobs AS job
                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                    AND (job.run_at, job.id) > (lane.run_at, lane.id) AND job.run_at <= now()
                    AND job.type = ANY (ARRAY(SELECT name FROM open_types))
                    AND job.id <> ALL (%(aside)s::uuid[])
                ORDER BY job.run_at, job.id
                LIMIT lane.most
                FOR UPDATE SKIP LOCKED
            ) AS next_in_lane
            WHERE lane.priority = level.priority
            ORDER BY next_in_lane.run_at, next_in_lane.id
            LIMIT %(limit)s
        ) AS next_in_priority
        LIMIT %(limit)s
    ), due AS MATERIALIZED (
        SELECT id, type FROM met WHERE room = %(limit)s
        UNION ALL
        SELECT id, type
        FROM (
            SELECT id, type, room, row_number() OVER (PARTITION BY queue ORDER BY priority, run_at, id) AS place
            FROM met WHERE room < %(limit)s
        ) AS placed
        WHERE place <= room
    ), put_under AS (
        UPDATE _ayb_jobs AS job
        SET priority = job.priority + 4, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
        FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
            {KEY_OF_DUE}
        ) AS key
        WHERE job.id = ANY (ARRAY(SELECT id FROM due)) AND job.id = due.id
        RETURNING CASE WHEN job.priority > 4 THEN job.id END AS id
    ), leased AS (
        UPDATE _ayb_jobs
        SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
            lease_id = encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid,
            lease_until = now() + %(lease_s)s * interval '1 second', worker_id = %(worker_id)s,
            execution_id = nextval('_ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
            unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
        WHERE id = ANY (ARRAY(SELECT id FROM due WHERE type <> ALL (ARRAY(SELECT type FROM limited_types))))
        RETURNING id, CASE WHEN state = 'running' THEN lease_id END, execution_id, type,
            CASE
                WHEN pg_column_size(payload) <= 16384 AND NOT _ayb_job_has_long_numbers(payload)
                THEN left(payload::text, 16385)
            END,
            queue, priority, attempts, max_attempts, crashes, run_at::text, scheduled_for::text, schedule_id, timeout_s, traceparent, batch_id
    )
    SELECT moved.jobs, moved.kept, leased.*
    FROM (
        SELECT (SELECT count(id) FROM put_under) AS jobs,
            ARRAY(
                SELECT id::text FROM due
                WHERE type = ANY (ARRAY(SELECT type FROM limited_types))
                    AND id <> ALL (ARRAY(SELECT id FROM put_under WHERE id IS NOT NULL))
            ) AS kept
    ) AS moved LEFT JOIN leased ON true
"""
LEASE_BESIDE_LIMITS_WITH_CARE = LEASE_BESIDE_LIMITS.replace(PLAIN_TEXT, CAREFUL_TEXT)


class Beside(NamedTuple):
    """What was leased, and how many jobs were put under their limits on the way.

    `kept` are those of limited types that a trigger kept where they are, without an error.
    """

    leased: list[LeasedJob]
    put_under: int = 0
    kept: Sequence[str] = ()


def lease_beside_limits(
    conn: Connection,
    *,
    worker_id: str,
    lanes: Sequence[Lane],
    types: Sequence[str],
    limit: int,
    lease_s: float,
    aside: Sequence[str] = (),
    by_turn: bool = False,
) -> Beside:
    """Do what `lease_jobs` does while there are limits: put jobs of limited types under them, and lease the others.

    Both together are `limit` jobs at most.
    """
    values = turn_values(lanes, types, limit, by_turn=by_turn, aside=aside)
    values |= {"worker_id": worker_id, "lease_s": lease_s}
    plain, careful = LEASE_BESIDE_LIMITS, LEASE_BESIDE_LIMITS_WITH_CARE
    rows = with_care(conn, lambda care: conn.execute(careful if care else plain, values).fetchall())
    leased = [LeasedJob._make(row[2:]) for row in rows if row[2] is not None]
    put_under, kept = rows[0][:2]
    return Beside(sorted(leased, key=BY_TURN), put_under, kept)
