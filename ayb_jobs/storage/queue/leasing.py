"""The hot path: lease a batch, settle a batch, extend, release, report progress.

Every write that ends or extends a run is fenced by `(id, lease_id)` alone. `lease_id` is null unless the job runs, so
the fence needs no look at the state; with `state = 'running'` beside it the planner takes the index of leases whenever
statistics say that nothing runs, and then reads all of it for each batch.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from psycopg.errors import LockNotAvailable, ProgramLimitExceeded
from psycopg.pq import TransactionStatus

from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.job import JobState, Lease, LeasedJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.database import MAY_NOTIFY, Connection

NO_FLOOR = ("-infinity", "00000000-0000-0000-0000-000000000000")


class RowsLocked(DatabaseError):
    """Somebody else holds a lock on a job that is to be settled."""


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


# What both ways of settling share. The arrays that hold nothing but nulls come empty, and so do the states and outcomes
# where every attempt completed: that is nearly every batch, and each element costs the server and its client.
ENDED = """
    impatient AS MATERIALIZED (
        SELECT set_config('lock_timeout', '1s', true)
    ), ended AS MATERIALIZED (
        SELECT id, lease_id, coalesce(state, 'completed') AS state, coalesce(outcome, 'completed') AS outcome,
            delay_s, error, records, started_ago_us, ended_ago_us
        FROM impatient, unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(states)s::text[], %(outcomes)s::text[],
                    %(delays)s::float8[], %(errors)s::text[], %(records)s::bigint[], %(started_ago)s::bigint[],
                    %(ended_ago)s::bigint[])
            AS ended (id, lease_id, state, outcome, delay_s, error, records, started_ago_us, ended_ago_us)
    )"""
END_JOBS = """
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
        FROM ended"""
FENCED = """
            AND job.id = ended.id AND job.lease_id = ended.lease_id
"""
ATTEMPT = """
        RETURNING job.id, job.type, job.execution_id, job.schedule_id, job.attempts, ended.lease_id, ended.outcome,
            ended.error, ended.records, ended.started_ago_us, ended.ended_ago_us"""
# The answer is null where all were settled.
LOG_AND_ANSWER = """
    logged AS (
        INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
            error, records_processed, started_at, ended_at)
        SELECT execution_id, id, type, schedule_id, lease_id, attempts, %(worker_id)s, outcome, error, records,
            now() - started_ago_us * interval '1 microsecond', now() - ended_ago_us * interval '1 microsecond'
        FROM settled
    )
    SELECT CASE WHEN (SELECT count(*) FROM settled) < cardinality(%(ids)s::uuid[])
        THEN ARRAY(SELECT lease_id::text FROM settled)
    END
"""

# `id = ANY` beside the join has the primary key searched once for all of a batch. A join alone, or a list whose length the
# planner knows, may be planned as one that reads the whole table, while that is small or was never analyzed.
SETTLE_JOBS = f"""
    WITH {ENDED}, settled AS (
        {END_JOBS}
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended)) {FENCED} {ATTEMPT}
    ), {LOG_AND_ANSWER}
"""  # noqa: S608 - literals only

# The same, but what completed is deleted: its execution row is all that stays. Each half reads its own jobs alone.
SETTLE_AND_REMOVE_JOBS = f"""
    WITH {ENDED}, removed AS (
        DELETE FROM _ayb_jobs AS job USING ended
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended WHERE state = 'completed')) {FENCED} {ATTEMPT}
    ), updated AS (
        {END_JOBS}
        WHERE job.id = ANY (ARRAY(SELECT id FROM ended WHERE state <> 'completed')) {FENCED} {ATTEMPT}
    ), settled AS (
        SELECT * FROM removed UNION ALL SELECT * FROM updated
    ), {LOG_AND_ANSWER}
"""  # noqa: S608 - literals only


def settle_jobs(
    conn: Connection, settlements: Sequence[Settlement], *, worker_id: str, now: float, remove_completed: bool = False
) -> set[str]:
    """End these attempts: change their jobs and write their execution rows, in one statement.

    Answers with the leases (their ids) that were settled. One left out was lost: nothing of its job was changed.
    `now` is the present on the clock of `Settlement.started`. With `remove_completed`, completed jobs are deleted.
    Raises `RowsLocked`, with nothing changed, where somebody else keeps one of the rows locked for a second: no longer
    is waited for it, since all of the batch waits with it.
    """
    if not settlements:
        return set()
    statement = SETTLE_AND_REMOVE_JOBS if remove_completed else SETTLE_JOBS
    try:
        row = conn.execute(statement, _settled_values(settlements, worker_id, now)).fetchone()
    except LockNotAvailable as error:
        raise RowsLocked from error
    if row is None or row[0] is None:
        return {ended.job.lease_id for ended in settlements}
    return set(row[0])


def _settled_values(settlements: Sequence[Settlement], worker_id: str, now: float) -> dict[str, object]:
    jobs, states, outcomes, delays, errors, records, started, ended = zip(*settlements, strict=True)
    all_completed = states.count(JobState.COMPLETED) == len(states)
    return {
        "worker_id": worker_id,
        "ids": _plain_array([job.id for job in jobs]),
        "lease_ids": _plain_array([job.lease_id for job in jobs]),
        "states": _plain_array(() if all_completed else states),
        "outcomes": _plain_array(() if all_completed else outcomes),
        "delays": _numbers(delays),
        "errors": [] if errors.count(None) == len(errors) else list(errors),
        "records": _numbers(records),
        "started_ago": _numbers([int((now - at) * 1e6) for at in started]),
        "ended_ago": _numbers([int((now - at) * 1e6) for at in ended]),
    }


def _plain_array(texts: Iterable[str]) -> str:
    """Write an array of ids or fixed words, in which nothing needs quoting, at a tenth of psycopg's cost."""
    return "{" + ",".join(texts) + "}"


def _numbers(numbers: Sequence[float | None]) -> str:
    """Write an array of numbers and nulls; an empty one where all are null, since `unnest` makes up for it."""
    if numbers.count(None) == len(numbers):
        return "{}"
    return _plain_array(["NULL" if number is None else str(number) for number in numbers])


FIND_SETTLED = """
    SELECT execution.lease_id
    FROM unnest(%(execution_ids)s::bigint[], %(lease_ids)s::uuid[], %(outcomes)s::text[])
        AS ended (execution_id, lease_id, outcome)
    JOIN _ayb_job_executions AS execution ON execution.id = ended.execution_id
    WHERE execution.lease_id = ended.lease_id AND execution.outcome = ended.outcome
"""


def find_settled(conn: Connection, settlements: Sequence[Settlement]) -> set[str]:
    """Return which of these leases (their ids) are settled in just this way already, as by a lost answer's statement."""
    rows = conn.execute(
        FIND_SETTLED,
        {
            "execution_ids": [ended.job.execution_id for ended in settlements],
            "lease_ids": [ended.job.lease_id for ended in settlements],
            "outcomes": [ended.outcome for ended in settlements],
        },
    ).fetchall()
    return {row[0] for row in rows}


FIND_LOCKED = """
    WITH free AS MATERIALIZED (
        SELECT id FROM _ayb_jobs WHERE id = ANY (%(ids)s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT lease_id
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND lease_id = ANY (%(lease_ids)s::uuid[]) AND id NOT IN (SELECT id FROM free)
"""


def find_locked(conn: Connection, settlements: Sequence[Settlement]) -> set[str]:
    """Return which of these leases (their ids) are of jobs whose rows somebody else has locked just now."""
    rows = conn.execute(
        FIND_LOCKED,
        {
            "ids": _plain_array(ended.job.id for ended in settlements),
            "lease_ids": _plain_array(ended.job.lease_id for ended in settlements),
        },
    ).fetchall()
    return {row[0] for row in rows}


# Those of the leases asked for that are still held, and of these the ones whose rows nobody else has locked: one that is
# locked is passed over, so that it keeps no other waiting.
HELD_AND_FREE = """
    WITH held AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[]) AS asked (id, lease_id)
            ON asked.id = job.id AND asked.lease_id = job.lease_id
        WHERE job.id = ANY (%(ids)s::uuid[])
    ), free AS MATERIALIZED (
        SELECT job.id, job.lease_id
        FROM _ayb_jobs AS job
        JOIN held ON held.id = job.id AND held.lease_id = job.lease_id
        FOR NO KEY UPDATE OF job SKIP LOCKED
    )"""

EXTEND_LEASES = f"""{HELD_AND_FREE}, extended AS (
        UPDATE _ayb_jobs AS job
        SET lease_until = now() + %(lease_s)s * interval '1 second'
        FROM free
        WHERE job.id = free.id AND job.lease_id = free.lease_id
        RETURNING job.id
    )
    SELECT lease_id, id IN (SELECT id FROM extended) FROM held
"""  # noqa: S608 - literals only


class Touched(NamedTuple):
    """The ids of leases that a statement wrote, and of those still held whose rows somebody else has locked.

    Those in neither are lost.
    """

    done: set[str]
    locked: set[str]


def extend_leases(conn: Connection, leases: Sequence[Lease], *, lease_s: float) -> Touched:
    """Let these leases run `lease_s` seconds from now, without waiting for any."""
    return _touch(conn, EXTEND_LEASES, leases, {"lease_s": lease_s})


# One notification, whatever the number of rows.
RELEASE_JOBS = f"""{HELD_AND_FREE}, released AS (
        UPDATE _ayb_jobs AS job
        SET state = 'queued', attempts = greatest(job.attempts - 1, 0), lease_id = NULL, lease_until = NULL,
            worker_id = NULL, updated_at = now()
        FROM free
        WHERE job.id = free.id AND job.lease_id = free.lease_id
        RETURNING job.id
    ), told AS MATERIALIZED (
        SELECT CASE WHEN count(*) > 0 AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM released
    )
    SELECT lease_id, id IN (SELECT id FROM released) FROM held CROSS JOIN told
"""  # noqa: S608 - literals only


def release_jobs(conn: Connection, leases: Sequence[Lease]) -> Touched:
    """Give these jobs back to the queue with their attempt, without waiting for any.

    Only for jobs that no thread runs: two would run at once.
    """
    return _touch(conn, RELEASE_JOBS, leases, {})


def _touch(conn: Connection, statement: str, leases: Sequence[Lease], values: dict[str, object]) -> Touched:
    if not leases:
        return Touched(set(), set())
    rows = conn.execute(
        statement,
        {
            "ids": _plain_array(lease.job_id for lease in leases),
            "lease_ids": _plain_array(lease.lease_id for lease in leases),
            **values,
        },
    ).fetchall()
    return Touched(
        done={lease_id for lease_id, is_done in rows if is_done},
        locked={lease_id for lease_id, is_done in rows if not is_done},
    )


FIND_ORPHANS = """
    SELECT id::text, lease_id::text
    FROM _ayb_jobs
    WHERE state = 'running' AND worker_id = %(worker_id)s AND lease_id IS NOT NULL
        AND lease_id <> ALL (%(lease_ids)s::uuid[])
"""


def find_orphans(conn: Connection, *, worker_id: str, held: Sequence[Lease]) -> list[Lease]:
    """Return what is leased to this worker but not among what it holds.

    To be called by the one thread that leases for this worker, after a leasing whose answer was lost.
    """
    values = {"worker_id": worker_id, "lease_ids": _plain_array(lease.lease_id for lease in held)}
    return [Lease(*row) for row in conn.execute(FIND_ORPHANS, values).fetchall()]


REPORT_PROGRESS = """
    UPDATE _ayb_jobs
    SET progress = %(progress)s::jsonb, lease_until = now() + %(lease_s)s * interval '1 second', updated_at = now()
    WHERE id = %(id)s AND lease_id = %(lease_id)s
    RETURNING id
"""


def report_progress(conn: Connection, lease: Lease, progress: str, *, lease_s: float) -> bool:
    """Write a running job's progress (JSON text) and extend its lease; False where the lease is lost."""
    row = conn.execute(
        REPORT_PROGRESS,
        {"id": lease.job_id, "lease_id": lease.lease_id, "progress": progress, "lease_s": lease_s},
    ).fetchone()
    return row is not None
