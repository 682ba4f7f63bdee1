"""End attempts: settle a batch in one statement; `left_out` finds out what became of endings that it left out.

Statements that end attempts share one shape: `ended` is what was decided, `settled` the jobs that it was written to,
fenced by their leases, and `logged` their execution rows.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import LiteralString, NamedTuple

from psycopg.errors import LockNotAvailable
from psycopg.rows import TupleRow

from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.arrays import numbers_array, plain_array, uuid_array
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import whole_rows


class RowsLocked(DatabaseError):
    """Somebody else holds a lock on a job that is to be settled."""


# The lease that ended, of a row that a trigger changed as a whole or not at all. Of any other this fails, by a cast.
LEASE_IF_WHOLE = """
            CASE
                WHEN job.state = ended.state AND job.lease_id IS NULL
                    OR job.state = 'running' AND job.lease_id = ended.lease_id AND job.lease_until IS NOT NULL
                    THEN ended.lease_id
                ELSE ('a trigger kept a part of job ' || job.id::text)::uuid
            END
"""
# What plain SQL ended while it ran has its lease yet, and stays as it is. The state is asked for within the join:
# by itself, the planner would take few rows to run, and join each of them with all of a batch.
# The arrays that hold nothing but nulls come empty, and so do the states and outcomes if every attempt completed: each
# element costs the server and its client. `id = ANY` beside the join has the primary
# key searched once for all of a batch. A join alone, or a list whose length the planner knows, may be planned as one
# that reads the whole table, while that is small or was never analyzed. A row that a trigger put back as it was still
# has its lease (`lease_left`), and is not settled. One that a trigger changed in part fails the statement by a cast, so
# that nothing of it stays (`whole_rows`). There is no row in the answer if all were settled and logged.
SETTLE_JOBS = f"""
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT id, lease_id, coalesce(state, 'completed') AS state, coalesce(outcome, 'completed') AS outcome,
            delay_s, error, records, started_ago_us, ended_ago_us
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(states)s::text[], %(outcomes)s::text[],
                    %(delays)s::float8[], %(errors)s::text[], %(records)s::bigint[], %(started_ago)s::bigint[],
                    %(ended_ago)s::bigint[])
            AS ended (id, lease_id, state, outcome, delay_s, error, records, started_ago_us, ended_ago_us)
    ), settled AS (
        UPDATE _ayb_jobs AS job
        SET state = ended.state,
            run_at = CASE ended.state WHEN 'queued' THEN now() + ended.delay_s * interval '1 second' ELSE job.run_at END,
            max_attempts = CASE ended.outcome
                WHEN 'snoozed' THEN least(job.max_attempts, 2147483646) + 1
                ELSE job.max_attempts
            END,
            last_error = coalesce(ended.error, job.last_error),
            completed_at = CASE ended.state WHEN 'completed' THEN now() END,
            canceled_at = CASE ended.state WHEN 'canceled' THEN now() END,
            lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
        FROM ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended))
            AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts,
            {LEASE_IF_WHOLE} AS lease_id,
            ended.outcome, ended.error, ended.records, ended.started_ago_us, ended.ended_ago_us, job.lease_id AS lease_left
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, %(worker_id)s, outcome, error, records,
            now() - started_ago_us * interval '1 microsecond', now() - ended_ago_us * interval '1 microsecond'
        FROM settled
        WHERE lease_left IS NULL
        RETURNING lease_id
    )
    SELECT ARRAY(SELECT lease_id::text FROM settled WHERE lease_left IS NULL), ARRAY(SELECT lease_id::text FROM logged)
    WHERE (SELECT count(*) FROM logged) < cardinality(%(ids)s::uuid[])
"""

# The same for a batch of which all completed without an error: that is nearly every batch, and each column and each
# condition costs. What it leaves alone, `SETTLE_JOBS` would leave as it is.
COMPLETE_JOBS = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT id, lease_id, records, started_ago_us, ended_ago_us
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(records)s::bigint[], %(started_ago)s::bigint[],
                    %(ended_ago)s::bigint[])
            AS ended (id, lease_id, records, started_ago_us, ended_ago_us)
    ), settled AS (
        UPDATE _ayb_jobs AS job
        SET state = 'completed', completed_at = now(), canceled_at = NULL,
            lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
        FROM ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended))
            AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts,
            CASE
                WHEN job.state = 'completed' AND job.lease_id IS NULL
                    OR job.state = 'running' AND job.lease_id = ended.lease_id AND job.lease_until IS NOT NULL
                    THEN ended.lease_id
                ELSE ('a trigger kept a part of job ' || job.id::text)::uuid
            END AS lease_id,
            ended.records, ended.started_ago_us, ended.ended_ago_us, job.lease_id AS lease_left
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, %(worker_id)s, 'completed', records,
            now() - started_ago_us * interval '1 microsecond', now() - ended_ago_us * interval '1 microsecond'
        FROM settled
        WHERE lease_left IS NULL
        RETURNING lease_id
    )
    SELECT ARRAY(SELECT lease_id::text FROM settled WHERE lease_left IS NULL), ARRAY(SELECT lease_id::text FROM logged)
    WHERE (SELECT count(*) FROM logged) < cardinality(%(ids)s::uuid[])
"""

# `SETTLE_JOBS`, but what completed is deleted: its execution row is all that stays. Each half reads its own jobs alone.
SETTLE_AND_REMOVE_JOBS = f"""
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT id, lease_id, coalesce(state, 'completed') AS state, coalesce(outcome, 'completed') AS outcome,
            delay_s, error, records, started_ago_us, ended_ago_us
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(states)s::text[], %(outcomes)s::text[],
                    %(delays)s::float8[], %(errors)s::text[], %(records)s::bigint[], %(started_ago)s::bigint[],
                    %(ended_ago)s::bigint[])
            AS ended (id, lease_id, state, outcome, delay_s, error, records, started_ago_us, ended_ago_us)
    ), removed AS (
        DELETE FROM _ayb_jobs AS job USING ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended WHERE state = 'completed'))
            AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts, ended.lease_id, ended.outcome,
            ended.error, ended.records, ended.started_ago_us, ended.ended_ago_us, NULL::uuid AS lease_left
    ), updated AS (
        UPDATE _ayb_jobs AS job
        SET state = ended.state,
            run_at = CASE ended.state WHEN 'queued' THEN now() + ended.delay_s * interval '1 second' ELSE job.run_at END,
            max_attempts = CASE ended.outcome
                WHEN 'snoozed' THEN least(job.max_attempts, 2147483646) + 1
                ELSE job.max_attempts
            END,
            last_error = coalesce(ended.error, job.last_error),
            completed_at = CASE ended.state WHEN 'completed' THEN now() END,
            canceled_at = CASE ended.state WHEN 'canceled' THEN now() END,
            lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
        FROM ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended WHERE state <> 'completed'))
            AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts,
            {LEASE_IF_WHOLE} AS lease_id,
            ended.outcome, ended.error, ended.records, ended.started_ago_us, ended.ended_ago_us, job.lease_id AS lease_left
    ), settled AS (
        SELECT * FROM removed UNION ALL SELECT * FROM updated
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, %(worker_id)s, outcome, error, records,
            now() - started_ago_us * interval '1 microsecond', now() - ended_ago_us * interval '1 microsecond'
        FROM settled
        WHERE lease_left IS NULL
        RETURNING lease_id
    )
    SELECT ARRAY(SELECT lease_id::text FROM settled WHERE lease_left IS NULL), ARRAY(SELECT lease_id::text FROM logged)
    WHERE (SELECT count(*) FROM logged) < cardinality(%(ids)s::uuid[])
"""

# And for a batch of which all completed.
REMOVE_COMPLETED_JOBS = """
    WITH impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT id, lease_id, records, started_ago_us, ended_ago_us
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(records)s::bigint[], %(started_ago)s::bigint[],
                    %(ended_ago)s::bigint[])
            AS ended (id, lease_id, records, started_ago_us, ended_ago_us)
    ), settled AS (
        DELETE FROM _ayb_jobs AS job USING ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended))
            AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts, ended.lease_id,
            ended.records, ended.started_ago_us, ended.ended_ago_us, NULL::uuid AS lease_left
    ), logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, %(worker_id)s, 'completed', records,
            now() - started_ago_us * interval '1 microsecond', now() - ended_ago_us * interval '1 microsecond'
        FROM settled
        WHERE lease_left IS NULL
        RETURNING lease_id
    )
    SELECT ARRAY(SELECT lease_id::text FROM settled WHERE lease_left IS NULL), ARRAY(SELECT lease_id::text FROM logged)
    WHERE (SELECT count(*) FROM logged) < cardinality(%(ids)s::uuid[])
"""

# The same with one step more, for batches in which a result is to be kept; no other batch pays for it. `kept` stands
# before the answer. Whoever waits for one of these jobs is told.
KEEP_RESULTS = """    ), kept AS (
        INSERT INTO _ayb_job_results (job_id, result)
        SELECT settled.id, returned.result::jsonb
        FROM settled
        JOIN unnest(%(result_leases)s::uuid[], %(results)s::text[]) AS returned (lease_id, result)
            ON returned.lease_id = settled.lease_id
        WHERE settled.lease_left IS NULL
        ON CONFLICT (job_id) DO UPDATE SET result = excluded.result, ended_at = excluded.ended_at
        RETURNING CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify('ayb_jobs_results', job_id::text)::text END
    )
    SELECT ARRAY(SELECT lease_id::text FROM settled"""
ANSWER = """    )
    SELECT ARRAY(SELECT lease_id::text FROM settled"""
SETTLE_JOBS_WITH_RESULTS = SETTLE_JOBS.replace(ANSWER, KEEP_RESULTS)
COMPLETE_JOBS_WITH_RESULTS = COMPLETE_JOBS.replace(ANSWER, KEEP_RESULTS)
SETTLE_AND_REMOVE_JOBS_WITH_RESULTS = SETTLE_AND_REMOVE_JOBS.replace(ANSWER, KEEP_RESULTS)
REMOVE_COMPLETED_JOBS_WITH_RESULTS = REMOVE_COMPLETED_JOBS.replace(ANSWER, KEEP_RESULTS)
# The statements by whether all of a batch completed, and whether what completed is removed: without results, and with.
STATEMENTS: Mapping[tuple[bool, bool], tuple[LiteralString, LiteralString]] = {
    (False, False): (SETTLE_JOBS, SETTLE_JOBS_WITH_RESULTS),
    (False, True): (SETTLE_AND_REMOVE_JOBS, SETTLE_AND_REMOVE_JOBS_WITH_RESULTS),
    (True, False): (COMPLETE_JOBS, COMPLETE_JOBS_WITH_RESULTS),
    (True, True): (REMOVE_COMPLETED_JOBS, REMOVE_COMPLETED_JOBS_WITH_RESULTS),
}


# Stands for the states, and for the outcomes, of a batch.
ALL_COMPLETED = "{}"


class Settled(NamedTuple):
    """The leases (their ids) that were settled, and those of them whose execution row the database dropped."""

    leases: set[str]
    unlogged: AbstractSet[str] = frozenset()


def settle_jobs(
    conn: Connection, settlements: Sequence[Settlement], *, worker_id: str, now: float, remove_completed: bool = False
) -> Settled:
    """End these attempts: change their jobs, write their execution rows and keep their results, in one statement.

    A lease that is not among the settled ones was lost, or a trigger kept its job from being changed (`find_held` tells
    which): nothing of its job was changed.
    `now` is the present on the clock of `Settlement.started`. With `remove_completed`, completed jobs are deleted.
    Raises `RowsLocked`, with nothing changed, if somebody else keeps one of the rows locked for a second: the whole
    batch waits for it, so it waits no longer. Raises `RowUnchanged`, with nothing changed, if a trigger wrote a part of
    the change only.
    """
    if not settlements:
        return Settled(set())
    values = settled_values(settlements, worker_id, now)
    all_completed = values["states"] == ALL_COMPLETED and not values["errors"]
    plain, keeping = STATEMENTS[all_completed, remove_completed]
    try:
        with whole_rows():
            row = conn.execute(keeping if "results" in values else plain, values).fetchone()
    except LockNotAvailable as error:
        raise RowsLocked from error
    return read_settled(settlements, row)


def read_settled(settlements: Sequence[Settlement], row: TupleRow | None) -> Settled:
    """Return what a settling statement answered."""
    if row is None:
        return Settled({ended.job.lease_id for ended in settlements})
    settled, logged = row
    return Settled(set(settled), set(settled) - set(logged))


def settled_values(settlements: Sequence[Settlement], worker_id: str, now: float) -> dict[str, object]:
    """Return the values of a settling statement."""
    jobs, states, outcomes, delays, errors, records, started, ended, results = zip(*settlements, strict=True)
    all_completed = states.count(JobState.COMPLETED) == len(states)
    return {
        "worker_id": worker_id,
        "ids": uuid_array([job.id for job in jobs]),
        "lease_ids": uuid_array([job.lease_id for job in jobs]),
        "states": ALL_COMPLETED if all_completed else plain_array(states),
        "outcomes": ALL_COMPLETED if all_completed else plain_array(outcomes),
        "delays": numbers_array(delays),
        "errors": [] if errors.count(None) == len(errors) else list(errors),
        "records": numbers_array(records),
        "started_ago": numbers_array([int((now - at) * 1e6) for at in started]),
        "ended_ago": numbers_array([int((now - at) * 1e6) for at in ended]),
        **(_kept_values(jobs, results) if any(results) else {}),
    }


def _kept_values(jobs: Sequence[LeasedJob], results: Sequence[str | None]) -> dict[str, object]:
    return {
        "result_leases": plain_array([job.lease_id for job, result in zip(jobs, results, strict=True) if result]),
        "results": [result for result in results if result],
    }
