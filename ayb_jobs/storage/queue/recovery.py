"""Jobs whose lease was lost: their daemon crashed, was paused or cut off.

They are read without a lock, `model.lifecycle` decides, and one statement writes, fenced by the lease as it was read.
So a recoverer that is stopped in between holds no rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from psycopg.rows import namedtuple_row

from ayb_jobs.model.job import LeasedJob, LostLease, RecoveredJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import whole_rows
from ayb_jobs.storage.queue.successors import free_successors


class Look(NamedTuple):
    """What one look at the expired leases found.

    `floor` is the last expiry that it saw (None if it found nothing), `next_s` the seconds until the next lease runs
    out (None if none does within the seconds that were looked ahead).
    """

    lost: Sequence[LostLease]
    floor: str | None
    next_s: float | None


# A running row without `lease_until` is nobody's: only a foreign statement can have left it, and nothing else would
# find it. A row that AYB's own runner leased has no lease id. Rows that are set aside are left out, so that they never
# fill the batch.
FIND_EXPIRED_LEASES = """
    WITH expired AS MATERIALIZED (
        SELECT * FROM (
            SELECT id, lease_id, lease_until, worker_id, type, schedule_id, attempts, max_attempts, crashes, progress,
                coalesce(last_run_at, updated_at) AS started_at, cancel_requested_at IS NOT NULL AS is_canceling
            FROM _ayb_jobs
            WHERE state = 'running' AND lease_until < now() AND lease_until >= %(floor)s::timestamptz
                AND id <> ALL (%(aside)s::uuid[])
            ORDER BY lease_until
            LIMIT %(limit)s
        ) AS run_out
        UNION ALL
        SELECT * FROM (
            SELECT id, lease_id, lease_until, worker_id, type, schedule_id, attempts, max_attempts, crashes, progress,
                coalesce(last_run_at, updated_at), cancel_requested_at IS NOT NULL
            FROM _ayb_jobs
            WHERE state = 'running' AND lease_until IS NULL AND id <> ALL (%(aside)s::uuid[])
            LIMIT %(limit)s
        ) AS never_leased
    ), next AS (
        SELECT min(lease_until) AS lease_until
        FROM _ayb_jobs
        WHERE state = 'running' AND lease_until >= now()
            AND lease_until < now() + %(ahead_s)s * interval '1 second'
    )
    SELECT extract(epoch FROM next.lease_until - now())::float8 AS next_s, id, lease_id,
        expired.lease_until::text AS lease_until, worker_id, type, schedule_id, attempts, max_attempts, crashes, is_canceling,
        CASE WHEN isfinite(started_at) THEN greatest(extract(epoch FROM now() - started_at), 0) ELSE 0 END::float8
            AS ran_s,
        CASE jsonb_typeof(progress -> 'records_processed')
            WHEN 'number' THEN
                least(greatest((progress ->> 'records_processed')::numeric, 0), 9223372036854775807)::bigint
        END AS records
    FROM next LEFT JOIN expired ON true
    ORDER BY expired.lease_until
"""


def find_expired_leases(
    conn: Connection, *, limit: int, floor: str = "-infinity", ahead_s: float = 0.0, aside: Sequence[str] = ()
) -> Look:
    """Return up to `limit` jobs whose lease ran out at `floor` or later, of any type, the longest expired first.

    Up to `limit` running jobs without a lease come beside them. Jobs whose ids are `aside` are left out. The answer
    tells when the next lease runs out, if that is within `ahead_s` seconds.
    """
    values = {"limit": limit, "floor": floor, "ahead_s": ahead_s, "aside": list(aside)}
    rows: list[Any] = conn.cursor(row_factory=namedtuple_row).execute(FIND_EXPIRED_LEASES, values).fetchall()
    lost = [_lost(row, of_the_dead=False) for row in rows if row.id is not None]
    expiries = [each.lease_until for each in lost if each.lease_until is not None]
    return Look(lost, expiries[-1] if expiries else None, rows[0].next_s)


FIND_LEASES_OF_THE_DEAD = """
    SELECT id, lease_id, lease_until::text AS lease_until, worker_id, type, schedule_id, attempts, max_attempts, crashes,
        cancel_requested_at IS NOT NULL AS is_canceling,
        CASE
            WHEN isfinite(coalesce(last_run_at, updated_at))
                THEN greatest(extract(epoch FROM now() - coalesce(last_run_at, updated_at)), 0)
            ELSE 0
        END::float8 AS ran_s,
        CASE jsonb_typeof(progress -> 'records_processed')
            WHEN 'number' THEN
                least(greatest((progress ->> 'records_processed')::numeric, 0), 9223372036854775807)::bigint
        END AS records
    FROM _ayb_jobs
    WHERE state = 'running' AND lease_until >= now() AND worker_id = ANY (%(dead)s::text[])
        AND id <> ALL (%(aside)s::uuid[])
        AND EXISTS (
            SELECT FROM unnest(%(dead)s::text[], %(last_leases)s::timestamptz[]) AS seen (worker_id, lease_until)
            WHERE seen.worker_id = _ayb_jobs.worker_id AND seen.lease_until >= _ayb_jobs.lease_until
        )
    LIMIT %(limit)s
"""


def find_leases_of_the_dead(
    conn: Connection, *, dead: Mapping[str, str], limit: int, aside: Sequence[str] = ()
) -> list[LostLease]:
    """Return up to `limit` jobs that these dead daemons hold, but for those whose ids are `aside`.

    `dead` tells when the last lease runs out that each was seen to have. Later leases are left out: who got them lives.
    """
    values = {"dead": list(dead), "last_leases": list(dead.values()), "limit": limit, "aside": list(aside)}
    rows = conn.cursor(row_factory=namedtuple_row).execute(FIND_LEASES_OF_THE_DEAD, values).fetchall()
    return [_lost(row, of_the_dead=True) for row in rows]


FIND_LEASE_OF_THE_GONE = """
    SELECT id, lease_id, lease_until::text AS lease_until, worker_id, type, schedule_id, attempts, max_attempts, crashes,
        cancel_requested_at IS NOT NULL AS is_canceling,
        CASE
            WHEN isfinite(coalesce(last_run_at, updated_at))
                THEN greatest(extract(epoch FROM now() - coalesce(last_run_at, updated_at)), 0)
            ELSE 0
        END::float8 AS ran_s,
        CASE jsonb_typeof(progress -> 'records_processed')
            WHEN 'number' THEN
                least(greatest((progress ->> 'records_processed')::numeric, 0), 9223372036854775807)::bigint
        END AS records
    FROM _ayb_jobs AS job
    WHERE id = %(id)s AND state = 'running' AND NOT EXISTS (
        SELECT FROM _ayb_job_workers AS daemon
        WHERE daemon.id = job.worker_id
            AND heartbeat_at BETWEEN now() - make_interval(secs => %(alive_s)s) AND now() + make_interval(secs => %(alive_s)s)
    )
"""


def find_lease_of_the_gone(conn: Connection, job_id: str, *, alive_s: float) -> LostLease | None:
    """Return a running job whose daemon has not been heard of for `alive_s` seconds; None if it has, or if it ended."""
    values = {"id": job_id, "alive_s": alive_s}
    row = conn.cursor(row_factory=namedtuple_row).execute(FIND_LEASE_OF_THE_GONE, values).fetchone()
    return None if row is None else _lost(row, of_the_dead=True)


def _lost(row: Any, *, of_the_dead: bool) -> LostLease:
    job = LeasedJob(
        id=row.id,
        lease_id=row.lease_id or "",
        execution_id=0,
        type=row.type,
        payload_text=None,
        queue="",
        priority=0,
        attempt=row.attempts,
        max_attempts=row.max_attempts,
        crashes=row.crashes,
        run_at_text="",
        scheduled_for_text=None,
        schedule_id=row.schedule_id,
        timeout_s=None,
        traceparent=None,
    )
    return LostLease(
        job=job,
        worker_id=row.worker_id,
        lease_until=row.lease_until,
        ran_s=row.ran_s,
        records=row.records,
        of_the_dead=of_the_dead,
        is_canceling=row.is_canceling,
    )


# Rows that somebody has locked are passed over, so that they keep no other waiting. An attempt without a number, or
# with one that is taken, gets a new one: plain SQL may write any.
RECOVER_JOBS = f"""
    WITH ended AS MATERIALIZED (
        SELECT *
        FROM unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(lease_untils)s::timestamptz[], %(dead)s::boolean[],
                    %(states)s::text[], %(delays)s::float8[], %(errors)s::text[], %(records)s::bigint[])
            AS ended (id, lease_id, lease_until, of_the_dead, state, delay_s, error, records)
    ), held AS MATERIALIZED (
        SELECT job.id, job.execution_id, coalesce(job.lease_id, job.canceling_lease_id) AS lease_id, job.worker_id,
            coalesce(job.last_run_at, job.updated_at) AS started_at
        FROM _ayb_jobs AS job
        JOIN ended ON ended.id = job.id
        WHERE job.id = ANY (%(ids)s::uuid[]) AND job.state = 'running'
            AND job.lease_id IS NOT DISTINCT FROM ended.lease_id
            AND job.lease_until IS NOT DISTINCT FROM ended.lease_until
            AND (job.cancel_requested_at IS NULL OR ended.state = 'canceled')
            AND (ended.of_the_dead OR job.lease_until IS NULL OR job.lease_until < now())
        ORDER BY job.id
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), numbered AS MATERIALIZED (
        SELECT held.*,
            CASE
                WHEN lease_id IS NULL OR execution_id IS NULL
                    OR row_number() OVER (PARTITION BY execution_id ORDER BY id) > 1
                    OR EXISTS (SELECT FROM _ayb_job_executions AS taken WHERE taken.id = held.execution_id)
                    THEN nextval('_ayb_job_execution_ids')
                ELSE execution_id
            END AS number
        FROM held
    ), settled AS (
        UPDATE _ayb_jobs AS job
        SET state = ended.state,
            run_at = CASE ended.state WHEN 'queued' THEN now() + ended.delay_s * interval '1 second' ELSE job.run_at END,
            crashes = greatest(least(job.crashes, 2147483646), 0) + 1, last_error = ended.error, execution_id = numbered.number,
            canceled_at = CASE ended.state WHEN 'canceled' THEN now() ELSE job.canceled_at END,
            lease_id = NULL, canceling_lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
        FROM numbered JOIN ended ON ended.id = numbered.id
        WHERE job.id = ANY (%(ids)s::uuid[]) AND job.id = numbered.id
        RETURNING job.id, job.type, job.state, job.attempts, job.crashes, job.run_at, job.execution_id, job.schedule_id,
            CASE
                WHEN job.state = ended.state AND coalesce(job.lease_id, job.canceling_lease_id) IS NULL
                    OR job.state = 'running'
                        AND coalesce(job.lease_id, job.canceling_lease_id) IS NOT DISTINCT FROM numbered.lease_id
                        AND job.lease_until IS NOT DISTINCT FROM ended.lease_until
                    THEN numbered.lease_id
                ELSE ('a trigger kept a part of job ' || job.id::text)::uuid
            END AS lease_id,
            numbered.worker_id, numbered.started_at, ended.error, ended.records
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, worker_id,
            CASE state WHEN 'canceled' THEN 'canceled' ELSE 'lost' END, error, records, started_at,
            now()
        FROM settled
        WHERE state <> 'running'
        RETURNING job_id
    ), told AS MATERIALIZED (
        SELECT CASE
            WHEN {MAY_NOTIFY} AND EXISTS (SELECT FROM settled WHERE state = 'queued' AND run_at <= now())
                THEN pg_notify('ayb_jobs', '')::text
        END
    )
    SELECT held.id, settled.type, settled.state, settled.schedule_id::text, settled.attempts, settled.crashes, settled.error,
        held.id IN (SELECT job_id FROM logged) AS is_logged
    FROM held LEFT JOIN settled ON settled.id = held.id AND settled.state <> 'running' CROSS JOIN told
"""


class Recovered(NamedTuple):
    """What one statement recovered, and the ids of jobs that a trigger keeps as they are.

    `unlogged` are the ids of recovered jobs whose execution row the database dropped.
    """

    jobs: Sequence[RecoveredJob] = ()
    unchanged: Sequence[str] = ()
    unlogged: Sequence[str] = ()


def recover_jobs(conn: Connection, ended: Sequence[tuple[LostLease, Settlement]]) -> Recovered:
    """End these attempts and write their execution rows, in one statement; return what became of the jobs.

    Each counts a crash beside its attempt. One left out was settled, extended or recovered by somebody else meanwhile,
    or somebody has its row locked. The transaction must see what others commit meanwhile. Raises `RowUnchanged` if a
    trigger wrote a part of the change only.
    """
    if not ended:
        return Recovered()
    values = {
        "ids": [lost.job.id for lost, _ in ended],
        "lease_ids": [lost.job.lease_id or None for lost, _ in ended],
        "lease_untils": [lost.lease_until for lost, _ in ended],
        "dead": [lost.of_the_dead for lost, _ in ended],
        "states": [str(settlement.state) for _, settlement in ended],
        "delays": [settlement.delay_s for _, settlement in ended],
        "errors": [settlement.error for _, settlement in ended],
        "records": [settlement.records for _, settlement in ended],
    }
    with whole_rows():
        rows: list[Any] = (
            conn.cursor(row_factory=namedtuple_row).execute(RECOVER_JOBS, values, prepare=False).fetchall()
        )
    recovered = [row for row in rows if row.state is not None]
    free_successors(conn, (row.schedule_id for row in recovered if row.state == "canceled"))
    return Recovered(
        jobs=[
            RecoveredJob(
                id=row.id, type=row.type, state=row.state, attempts=row.attempts, crashes=row.crashes, error=row.error
            )
            for row in recovered
        ],
        unchanged=[row.id for row in rows if row.state is None],
        unlogged=[row.id for row in recovered if not row.is_logged],
    )
