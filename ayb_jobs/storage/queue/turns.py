"""Lease from many queues by turn.

If each lane locks a whole batch, and one batch is taken of all, fifty queues lock fifty times what is leased. So the
statement looks twice, in one snapshot. First it walks to the first jobs of each lane without a lock, merges them, and
counts how many of the next batch are in each lane. Then each lane locks so many. A lane's walk ends behind its
`share`, a guess; a lane whose whole share is in the batch may hold more of it, and locks a whole batch.

What is locked by somebody else is passed over in its lane, and made up from the same lane if that has more. So a look
by turn may find less than there is, and the next one is not by turn.
"""

from collections.abc import Sequence

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import CAREFUL_TEXT, PLAIN_TEXT, Lane, turn_values

# The steps of `LEASE_JOBS`, with these between: `counted` and `turn` say how much each lane may lock, if it is to be by
# turn. Of what was met, a queue with little room gets the first alone; the rest of it stays as it is. Rows that are set
# aside are passed over.
LEASE_BY_TURN = """
    WITH batch AS MATERIALIZED (
        SELECT substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10) AS random
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
            SELECT next_in_lane.id, next_in_lane.run_at, lane.queue, lane.priority, lane.room
            FROM turn AS lane
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id
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
        SELECT id FROM met WHERE room = %(limit)s
        UNION ALL
        SELECT id
        FROM (
            SELECT id, room, row_number() OVER (PARTITION BY queue ORDER BY priority, run_at, id) AS place
            FROM met WHERE room < %(limit)s
        ) AS placed
        WHERE place <= room
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
LEASE_BY_TURN_WITH_CARE = LEASE_BY_TURN.replace(PLAIN_TEXT, CAREFUL_TEXT)


# The step `due` of `LEASE_BY_TURN`, and those before it.
FIND_DUE = """
    WITH open_types AS (
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
            SELECT next_in_lane.id, next_in_lane.run_at, lane.queue, lane.priority, lane.room
            FROM turn AS lane
            CROSS JOIN LATERAL (
                SELECT job.run_at, job.id
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
        SELECT id FROM met WHERE room = %(limit)s
        UNION ALL
        SELECT id
        FROM (
            SELECT id, room, row_number() OVER (PARTITION BY queue ORDER BY priority, run_at, id) AS place
            FROM met WHERE room < %(limit)s
        ) AS placed
        WHERE place <= room
    )
    SELECT id::text FROM due
"""


def find_due(
    conn: Connection, *, lanes: Sequence[Lane], types: Sequence[str], limit: int, aside: Sequence[str]
) -> list[str]:
    """Return the ids of the jobs that `lease_jobs` would lease now."""
    values = turn_values(lanes, types, limit, by_turn=False, aside=aside)
    return [row[0] for row in conn.execute(FIND_DUE, values, prepare=False)]
