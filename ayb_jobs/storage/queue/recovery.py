"""Jobs whose lease ran out: their worker crashed, was paused or cut off."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import RecoveredJob
from ayb_jobs.storage.database import MAY_NOTIFY, Connection


class Recovery(NamedTuple):
    """What one look at the expired leases found.

    `floor` is the last expiry that it saw (None where it found nothing), `next_s` the seconds until the next lease runs out
    (None where none does within the seconds that were looked ahead).
    """

    jobs: Sequence[RecoveredJob]
    floor: str | None
    next_s: float | None


# A running row without a lease is nobody's: only a foreign statement can have left it, and nothing else would find it.
# A row that AYB's own runner leased has no lease id, and no number for its attempt yet.
# Backoff is `model.backoff`'s rule; a test holds the two against each other.
RECOVER_JOBS = f"""
    WITH expired AS MATERIALIZED (
        SELECT * FROM (
            SELECT id, lease_id, lease_until, worker_id, coalesce(last_run_at, updated_at) AS started_at
            FROM _ayb_jobs
            WHERE state = 'running' AND lease_until < now() AND lease_until >= %(floor)s::timestamptz
            ORDER BY lease_until
            LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED
        ) AS run_out
        UNION ALL
        SELECT * FROM (
            SELECT id, lease_id, lease_until, worker_id, coalesce(last_run_at, updated_at) AS started_at
            FROM _ayb_jobs
            WHERE state = 'running' AND lease_until IS NULL
            LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED
        ) AS never_leased
        UNION ALL
        SELECT * FROM (
            SELECT id, lease_id, lease_until, worker_id, coalesce(last_run_at, updated_at) AS started_at
            FROM _ayb_jobs
            WHERE cardinality(%(dead)s::text[]) > 0
                AND state = 'running' AND lease_until >= now() AND worker_id = ANY (%(dead)s::text[])
                AND EXISTS (
                    SELECT FROM unnest(%(dead)s::text[], %(last_leases)s::timestamptz[]) AS seen (worker_id, lease_until)
                    WHERE seen.worker_id = _ayb_jobs.worker_id AND seen.lease_until >= _ayb_jobs.lease_until
                )
            LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED
        ) AS of_the_dead
    ), judged AS (
        SELECT job.id, expired.lease_id, expired.lease_until, expired.worker_id, expired.started_at,
            CASE
                WHEN job.attempts >= job.max_attempts THEN
                    format('lease lost by worker %%s; attempts used up (%%s of %%s)',
                        coalesce(expired.worker_id, 'unknown'), job.attempts, job.max_attempts)
                WHEN job.crashes >= %(max_crashes)s - 1 THEN
                    format('lease lost by worker %%s; crashes used up (%%s of %%s)',
                        coalesce(expired.worker_id, 'unknown'), job.crashes::bigint + 1, %(max_crashes)s)
                ELSE
                    format('lease lost by worker %%s (attempt %%s of %%s)',
                        coalesce(expired.worker_id, 'unknown'), job.attempts, job.max_attempts)
            END AS error,
            job.attempts >= job.max_attempts OR job.crashes >= %(max_crashes)s - 1 AS used_up
        FROM _ayb_jobs AS job
        JOIN expired ON expired.id = job.id
        WHERE job.id = ANY (ARRAY(SELECT id FROM expired))
    ), recovered AS (
        UPDATE _ayb_jobs AS job
        SET state = CASE WHEN judged.used_up THEN 'failed' ELSE 'queued' END,
            run_at = CASE
                WHEN judged.used_up THEN job.run_at
                WHEN job.crashes >= %(max_crashes)s - 2 THEN
                    now() + random() * least(interval '1 hour', %(apart_s)s * greatest(interval '1 second',
                        CASE WHEN isfinite(judged.started_at) THEN (now() - judged.started_at) / 3 END))
                WHEN job.worker_id = ANY (%(dead)s::text[]) THEN now()
                ELSE now() + interval '1 second' * (%(jitter_s)s * random()
                    + least(%(base_s)s * 2.0 ^ least(greatest(job.attempts, 1) - 1, 60), %(most_s)s))
            END,
            crashes = least(job.crashes, 2147483646) + 1, last_error = judged.error, lease_id = NULL, lease_until = NULL,
            worker_id = NULL, updated_at = now(),
            execution_id = CASE
                WHEN judged.lease_id IS NULL THEN nextval('_ayb_job_execution_ids')
                ELSE job.execution_id
            END
        FROM judged
        WHERE job.id = judged.id
        RETURNING job.id, job.type, job.state, job.attempts, job.crashes, job.execution_id, job.schedule_id,
            job.progress, judged.error, judged.lease_id, judged.lease_until, judged.worker_id, judged.started_at
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, worker_id, 'lost', error,
            CASE jsonb_typeof(progress -> 'records_processed')
                WHEN 'number' THEN
                    least(greatest((progress ->> 'records_processed')::numeric, 0), 9223372036854775807)::bigint
            END,
            started_at, now()
        FROM recovered
    ), next AS (
        SELECT min(lease_until) AS lease_until
        FROM _ayb_jobs
        WHERE state = 'running' AND lease_until >= now()
            AND lease_until < now() + %(ahead_s)s * interval '1 second'
    )
    SELECT extract(epoch FROM next.lease_until - now())::float8, recovered.id, type, state, attempts, crashes, error,
        recovered.lease_until::text,
        CASE
            WHEN cardinality(%(dead)s::text[]) > 0 AND recovered.id IS NOT NULL AND {MAY_NOTIFY}
                THEN pg_notify('ayb_jobs', '')::text
        END
    FROM next LEFT JOIN recovered ON true
    ORDER BY recovered.lease_until
"""  # noqa: S608 - literals only


def recover_jobs(
    conn: Connection,
    *,
    limit: int,
    max_crashes: int,
    backoff: Backoff,
    floor: str = "-infinity",
    dead: Mapping[str, str] = MappingProxyType({}),
    ahead_s: float = 0.0,
) -> Recovery:
    """Take up to `limit` jobs from workers whose lease ran out, whatever their type, the longest expired first.

    Each counts a crash beside its attempt, and has an execution row with outcome `lost`. It is queued again after
    backoff, or fails where its attempts or `max_crashes` are used up. Only leases that ran out at `floor` or after it are seen.
    Jobs of the workers `dead` are taken before their lease runs out, and are due at once; `dead` tells when the last lease
    runs out that each was seen to have, and later ones stay: who got them lives. The answer tells when the next lease
    runs out, where that is within `ahead_s` seconds.
    """
    rows = conn.execute(
        RECOVER_JOBS,
        {
            "limit": limit,
            "max_crashes": max_crashes,
            "floor": floor,
            "dead": list(dead),
            "last_leases": list(dead.values()),
            "ahead_s": ahead_s,
            "base_s": backoff.base_s,
            "most_s": backoff.most_s,
            "apart_s": backoff.apart_s,
            "jitter_s": backoff.jitter_s,
        },
    ).fetchall()
    jobs = [
        RecoveredJob(id=id_, type=type_, state=state, attempts=attempts, crashes=crashes, error=error)
        for _, id_, type_, state, attempts, crashes, error, *_ in rows
        if id_ is not None
    ]
    expiries = [row[7] for row in rows if row[7] is not None]
    return Recovery(jobs, expiries[-1] if expiries else None, rows[0][0])
