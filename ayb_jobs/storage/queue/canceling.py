"""Running jobs that are to end canceled: asked for, heard by their daemons, and ended.

A request moves the lease from `lease_id` to `canceling_lease_id`. From its commit on nothing can be written under the
lease as usual, so the job cannot complete any more. Its daemon looks here when it finds the lease gone. The statements
that lease, extend and settle know nothing of all this, and no plain job pays for it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row

from ayb_jobs.errors import Conflict, NotFound
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.job import Job, JobState, Lease
from ayb_jobs.model.lifecycle import CANCELING_RUNNING, Settlement, stays
from ayb_jobs.storage.arrays import numbers_array, plain_array
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import whole_rows
from ayb_jobs.storage.queue.awaited import tell_ended
from ayb_jobs.storage.queue.jobs import JOB_COLUMNS, as_job
from ayb_jobs.storage.queue.leases import Touched, touch
from ayb_jobs.storage.queue.settling import RowsLocked
from ayb_jobs.storage.queue.successors import free_successors

# A job that another runner leased has no lease id, and gets one that nobody holds.
CANCEL_RUNNING_JOB = f"""
    WITH found AS MATERIALIZED (
        SELECT id, state, cancel_requested_at FROM _ayb_jobs WHERE id = %(id)s FOR UPDATE
    ), canceled AS (
        UPDATE _ayb_jobs
        SET state = CASE state WHEN 'queued' THEN 'canceled' ELSE state END,
            canceled_at = CASE state WHEN 'queued' THEN now() END,
            cancel_requested_at = CASE state WHEN 'running' THEN coalesce(cancel_requested_at, now()) END,
            canceling_lease_id = CASE state WHEN 'running' THEN coalesce(canceling_lease_id, lease_id, gen_random_uuid()) END,
            lease_id = NULL,
            updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
        WHERE id = (SELECT found.id FROM found WHERE found.state IN ('queued', 'running'))
        RETURNING {JOB_COLUMNS}
    )
    SELECT found.state AS found_state, found.cancel_requested_at IS NOT NULL AS was_asked, canceled.*,
        CASE WHEN canceled.state = 'running' AND canceled.cancel_requested_at IS NOT NULL AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'canceled')::text END AS told
    FROM found LEFT JOIN canceled ON true
"""


class Asked(NamedTuple):
    """A job that is canceled, or asked to be; `was_asked` if it had been asked before."""

    job: Job
    was_asked: bool


def cancel_running_job(conn: Connection, job_id: str) -> Asked:
    """Cancel a queued job, or have a running one end canceled, and return it.

    Raises `InvalidInput`, `NotFound`, or `Conflict` if it is in any other state. Its daemon is told if the caller's
    transaction commits.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(CANCEL_RUNNING_JOB, {"id": checked_id(job_id)}).fetchone()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    found_state, was_asked = row.pop("found_state"), row.pop("was_asked")
    row.pop("told")
    if found_state not in (JobState.QUEUED, JobState.RUNNING):
        raise Conflict(f"job {job_id} is {found_state}; {CANCELING_RUNNING.rule}")
    if row["state"] != JobState.CANCELED and row["cancel_requested_at"] is None:
        raise Conflict(stays(job_id))
    if row["state"] == JobState.CANCELED:
        tell_ended(conn, [row["id"]])
    return Asked(as_job(**row), was_asked)


IS_CANCELING = "SELECT FROM _ayb_jobs WHERE id = %(id)s AND canceling_lease_id = %(lease_id)s"


def is_canceling(conn: Connection, lease: Lease) -> bool:
    """Tell whether the job of this lease is to end canceled."""
    return conn.execute(IS_CANCELING, {"id": lease.job_id, "lease_id": lease.lease_id}).fetchone() is not None


# As `EXTEND_LEASES`, of leases that moved.
EXTEND_CANCELED = """
    WITH held AS MATERIALIZED (
        SELECT job.id, job.canceling_lease_id
        FROM _ayb_jobs AS job
        JOIN unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[]) AS asked (id, lease_id)
            ON asked.id = job.id AND asked.lease_id = CASE job.state WHEN 'running' THEN job.canceling_lease_id END
        WHERE job.id = ANY (%(ids)s::uuid[])
    ), free AS MATERIALIZED (
        SELECT job.id, job.canceling_lease_id
        FROM _ayb_jobs AS job
        JOIN held ON held.id = job.id AND held.canceling_lease_id = CASE job.state WHEN 'running' THEN job.canceling_lease_id END
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), extended AS (
        UPDATE _ayb_jobs AS job
        SET lease_until = now() + %(lease_s)s * interval '1 second', cancel_heard_at = coalesce(cancel_heard_at, now())
        FROM free
        WHERE job.id = free.id AND job.canceling_lease_id = free.canceling_lease_id
        RETURNING job.id,
            CASE
                WHEN job.state = 'running' AND job.canceling_lease_id = free.canceling_lease_id
                    THEN job.lease_until = now() + %(lease_s)s * interval '1 second'
                ELSE ('a trigger kept a part of job ' || job.id::text)::boolean
            END AS is_done
    )
    SELECT canceling_lease_id, id IN (SELECT id FROM extended WHERE is_done), id IN (SELECT id FROM free) FROM held
"""


def extend_canceled(conn: Connection, leases: Sequence[Lease], *, lease_s: float) -> Touched:
    """Find out which leases are of jobs that are to end canceled, and let them run `lease_s` seconds from now."""
    return touch(conn, EXTEND_CANCELED, leases, {"lease_s": lease_s})


# An attempt whose beginning is not known began when its job was leased.
END_CANCELED = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT ended.*
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(errors)s::text[], %(records)s::bigint[],
                    %(started_ago)s::bigint[], %(ended_ago)s::bigint[])
            AS ended (id, lease_id, error, records, started_ago_us, ended_ago_us)
    ), settled AS (
        UPDATE _ayb_jobs AS job
        SET state = 'canceled', canceled_at = now(), last_error = coalesce(ended.error, job.last_error),
            canceling_lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
        FROM ended
        WHERE job.id = ANY (%(ids)s::uuid[]) AND job.id = ended.id
            AND job.canceling_lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.state, job.execution_id, job.schedule_id, job.attempts, job.last_run_at,
            job.canceling_lease_id AS lease_left,
            CASE
                WHEN job.state = 'canceled' AND job.canceling_lease_id IS NULL
                    OR job.state = 'running' AND job.canceling_lease_id = ended.lease_id AND job.lease_until IS NOT NULL
                    THEN ended.lease_id
                ELSE ('a trigger kept a part of job ' || job.id::text)::uuid
            END AS lease_id,
            ended.error, ended.records, ended.started_ago_us, ended.ended_ago_us
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT coalesce(execution_id, nextval('_ayb_job_execution_ids')), id, type, schedule_id, lease_id, attempts,
            %(worker_id)s, 'canceled', error, records,
            coalesce(now() - started_ago_us * interval '1 microsecond', last_run_at, now()),
            now() - ended_ago_us * interval '1 microsecond'
        FROM settled
        WHERE lease_left IS NULL
    )
    SELECT lease_id::text, schedule_id::text FROM settled WHERE lease_left IS NULL
"""
FIND_ENDED_CANCELED = """
    SELECT lease_id::text
    FROM _ayb_job_executions
    WHERE job_id = ANY (%(ids)s::uuid[]) AND lease_id = ANY (%(lease_ids)s::uuid[]) AND outcome = 'canceled'
        AND worker_id = %(worker_id)s
"""


def end_canceled(conn: Connection, endings: Sequence[Settlement], *, worker_id: str, now: float) -> set[str]:
    """End those of these attempts as canceled whose jobs are to end so; return their leases (their ids).

    One that ended so already counts, as if an answer was lost. `now` is the present on the clock of
    `Settlement.started`. Raises `RowsLocked`, with nothing changed, if somebody keeps a row locked for a second.
    """
    values = {
        "ids": plain_array(ended.job.id for ended in endings),
        "lease_ids": plain_array(ended.job.lease_id for ended in endings),
        "errors": [ended.error for ended in endings],
        "records": numbers_array([ended.records for ended in endings]),
        "started_ago": numbers_array([int((now - ended.started) * 1e6) for ended in endings]),
        "ended_ago": numbers_array([int((now - ended.ended) * 1e6) for ended in endings]),
        "worker_id": worker_id,
    }
    return _end(conn, values)


def end_canceled_leases(conn: Connection, leases: Sequence[Lease], *, worker_id: str, error: str) -> set[str]:
    """Do what `end_canceled` does for attempts of which no handler tells: it never began, or was stopped."""
    values = {
        "ids": plain_array(lease.job_id for lease in leases),
        "lease_ids": plain_array(lease.lease_id for lease in leases),
        "errors": [error] * len(leases),
        "records": [],
        "started_ago": [],
        "ended_ago": [0] * len(leases),
        "worker_id": worker_id,
    }
    return _end(conn, values)


def _end(conn: Connection, values: dict[str, Any]) -> set[str]:
    try:
        with whole_rows():
            rows = conn.execute(END_CANCELED, values).fetchall()
    except LockNotAvailable as error:
        raise RowsLocked from error
    free_successors(conn, (schedule_id for _, schedule_id in rows))
    return {lease_id for lease_id, _ in rows} | {row[0] for row in conn.execute(FIND_ENDED_CANCELED, values)}
