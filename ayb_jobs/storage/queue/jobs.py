"""The queue as its users see it: look, retry and cancel, one job at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row, kwargs_row

from ayb_jobs.errors import Conflict, InvalidInput, NotFound, PayloadUndecodable
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.filters import EVERY, Filter
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.lifecycle import CANCELING, RETRYING, ByHand, stays
from ayb_jobs.model.payload import decode_payload
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.awaited import tell_ended
from ayb_jobs.storage.queue.matching import MATCHING
from ayb_jobs.storage.rows import one_row

# JSON comes as text, since jsonb stores what Python cannot decode. Whoever writes rows by plain SQL can make any column
# as large as the server allows, so what is shown is cut; sizes are those that are stored, which the server knows
# without reading the value. An error that a daemon wrote is shorter than the bound of lists.
READABLE_PAYLOAD = """
    CASE
        WHEN pg_column_size(payload) > 4194304 THEN '"cut: it is stored in more than 4 MiB"'
        ELSE coalesce(_ayb_job_text(payload), '"unreadable: too large as text"')
    END
"""
# The fields of `Job` as one job is shown; `as_job` makes two of them.
JOB_COLUMNS = f"""
    id, type, {READABLE_PAYLOAD} AS payload_text, state, queue,
    CASE WHEN priority > 4 THEN priority - 4 ELSE priority END AS priority, run_at, lease_until, worker_id, attempts, max_attempts, crashes,
    CASE
        WHEN octet_length(last_error) <= 1000000 THEN last_error
        ELSE left(last_error, 1000000) || ' … cut: it has ' || octet_length(last_error) || ' bytes'
    END AS last_error,
    last_run_at, idempotency_key, limited_by AS limit, coalesce(limited_key, limit_key) AS limit_key, schedule_id,
    scheduled_for,
    CASE
        WHEN pg_column_size(progress) > 4194304 THEN '"cut: it is stored in more than 4 MiB"'
        ELSE _ayb_job_text(progress)
    END AS progress_text,
    created_at, updated_at, completed_at, canceled_at, cancel_requested_at, cancel_heard_at,
    CASE WHEN state = 'queued' THEN blocked_run_at END AS blocked_run_at, batch_id
"""
# The same, as a list shows them.
LISTED_COLUMNS = """
    id, type,
    CASE
        WHEN pg_column_size(payload) > 16384 THEN '"cut: too large for a list; show the job to see it"'
        ELSE coalesce(_ayb_job_text(payload), '"unreadable: too large as text"')
    END AS payload_text,
    state, queue, CASE WHEN priority > 4 THEN priority - 4 ELSE priority END AS priority, run_at, lease_until, worker_id,
    attempts, max_attempts, crashes,
    CASE
        WHEN octet_length(last_error) <= 17000 THEN last_error
        ELSE left(last_error, 17000) || ' … cut: it has ' || octet_length(last_error) || ' bytes; show the job to see more'
    END AS last_error,
    last_run_at, idempotency_key, limited_by AS limit, coalesce(limited_key, limit_key) AS limit_key, schedule_id,
    scheduled_for,
    CASE
        WHEN pg_column_size(progress) > 16384 THEN '"cut: too large for a list; show the job to see it"'
        ELSE _ayb_job_text(progress)
    END AS progress_text,
    created_at, updated_at, completed_at, canceled_at, cancel_requested_at, cancel_heard_at,
    CASE WHEN state = 'queued' THEN blocked_run_at END AS blocked_run_at, batch_id
"""


# What changes one job by hand and returns it.
Change = Callable[[Connection, str], Job]


class Position(NamedTuple):
    """A place between two pages or two batches: when the last job was created or is due, and its id.

    `at` is PostgreSQL's text, since `datetime` does not hold every instant that a row may have.
    """

    at: str
    id: str


class JobPage(NamedTuple):
    """Some jobs, and where the following page begins, if there may be more."""

    jobs: Sequence[Job]
    next: Position | None


GET_JOB = f"""
    SELECT {JOB_COLUMNS},
        (
            SELECT CASE
                WHEN pg_column_size(result) > 4194304 THEN '"cut: it is stored in more than 4 MiB"'
                ELSE coalesce(_ayb_job_text(result), '"unreadable: too large as text"')
            END
            FROM _ayb_job_results WHERE job_id = _ayb_jobs.id
        ) AS result_text,
        (
            SELECT json_agg(json_build_object(
                'name', name, 'result', CASE
                    WHEN octet_length(result_text) <= 65536 THEN result_text::json
                    ELSE to_json('cut: it has more than 64 KiB'::text)
                END,
                'doneAt', to_char(done_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            ) ORDER BY done_at, name)::text
            FROM (
                SELECT name, _ayb_job_text(result) AS result_text, done_at
                FROM _ayb_job_steps WHERE job_id = _ayb_jobs.id AND name <> '' ORDER BY done_at, name LIMIT 1000
            ) AS step
        ) AS steps_text,
        CASE
            WHEN unique_key IS NOT NULL AND state IN ('queued', 'running')
            THEN CASE WHEN unique_waiting THEN 'waiting' ELSE 'unfinished' END
        END AS unique_scope
    FROM _ayb_jobs
    WHERE id = %(id)s
"""


def get_job(conn: Connection, job_id: str) -> Job:
    """Return a job. Raises `InvalidInput` where the id is no UUID, `NotFound` where there is no such job."""
    with conn.cursor(row_factory=kwargs_row(as_job)) as cursor:
        job = cursor.execute(GET_JOB, {"id": checked_id(job_id)}).fetchone()
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job


FIND_JOBS = f"""
    SELECT {JOB_COLUMNS}
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) OR idempotency_key = ANY (%(keys)s::text[])
"""


def find_jobs(conn: Connection, ids: Sequence[str], keys: Sequence[str]) -> list[Job]:
    """Return the jobs that have one of these ids or idempotency keys."""
    with conn.cursor(row_factory=kwargs_row(as_job)) as cursor:
        return cursor.execute(FIND_JOBS, {"ids": list(ids), "keys": list(keys)}, prepare=False).fetchall()


_LISTED = f"""
    {MATCHING}
        AND (%(before_id)s::uuid IS NULL OR (created_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))
    ORDER BY created_at DESC, id DESC
    LIMIT %(limit)s::bigint + %(offset)s
"""
# Two indexes are merged: that of creation, which leaves out what runs, and that of leases, which holds nothing else.
LIST_JOBS = f"""
    WITH ended_or_queued AS (
        SELECT id, created_at
        FROM _ayb_jobs
        WHERE state <> 'running' AND (%(state)s::text IS NULL OR state = %(state)s::text) AND {_LISTED}
    ), running AS (
        SELECT id, created_at
        FROM _ayb_jobs
        WHERE state = 'running' AND (%(state)s::text IS NULL OR 'running' = %(state)s::text) AND {_LISTED}
    ), page AS (
        SELECT id
        FROM (SELECT * FROM ended_or_queued UNION ALL SELECT * FROM running) AS both_kinds
        ORDER BY created_at DESC, id DESC
        LIMIT %(limit)s OFFSET %(offset)s
    )
    SELECT {LISTED_COLUMNS}, created_at::text AS place
    FROM _ayb_jobs
    WHERE id = ANY (ARRAY(SELECT id FROM page))
    ORDER BY created_at DESC, id DESC
"""


def list_page(
    conn: Connection,
    *,
    state: JobState | None = None,
    wanted: Filter = EVERY,
    limit: int = 50,
    offset: int = 0,
    before: Position | None = None,
) -> JobPage:
    """Return up to `limit` jobs that match, the newest first; `before` is an earlier page's `next`.

    Planned anew for each call: a plan that fits any filter uses the index of none.
    """
    values = {
        **wanted.values(),
        "state": state,
        "before_at": before and before.at,
        "before_id": before and before.id,
        "limit": limit,
        "offset": offset,
    }
    with conn.cursor(row_factory=kwargs_row(_placed)) as cursor:
        found = cursor.execute(LIST_JOBS, values, prepare=False).fetchall()
    return JobPage([job for job, _ in found], found[-1][1] if found and len(found) == limit else None)


def list_jobs(
    conn: Connection, *, state: JobState | None = None, wanted: Filter = EVERY, limit: int = 50, offset: int = 0
) -> list[Job]:
    """Return up to `limit` jobs that match, the newest first."""
    return list(list_page(conn, state=state, wanted=wanted, limit=limit, offset=offset).jobs)


def _placed(*, place: str, **columns: Any) -> tuple[Job, Position]:
    job = as_job(**columns)
    return job, Position(place, job.id)


UNIQUE_INDEX = "idx_ayb_jobs_unique"
FIND_TWIN = """
    SELECT twin.id::text
    FROM _ayb_jobs AS job
    JOIN _ayb_jobs AS twin ON twin.unique_key = job.unique_key AND twin.unique_key IS NOT NULL
        AND twin.state IN ('queued', 'running')
    WHERE job.id = %(id)s
"""

# The attempts that a job was given: each snooze added one. Its last ones are those since it was made or retried. The
# sum keeps the planner from walking the log from its end.
ATTEMPTS_GIVEN = """
    greatest(1, _ayb_jobs.max_attempts - (
        SELECT count(*) FILTER (WHERE last.outcome = 'snoozed')
        FROM (
            SELECT run.outcome FROM _ayb_job_executions AS run
            WHERE run.job_id = _ayb_jobs.id
            ORDER BY run.id + 0 DESC
            LIMIT greatest(_ayb_jobs.attempts, 0)
        ) AS last
    ))::int
"""


def attempts_given(conn: Connection, job_id: str) -> int:
    """Return how many attempts a job was given, without those that its snoozes added."""
    return int(one_row(conn.execute(f"SELECT {ATTEMPTS_GIVEN} FROM _ayb_jobs WHERE id = %s", (job_id,)))[0])


RETRY_JOB = f"""
    WITH found AS MATERIALIZED (
        SELECT id, state FROM _ayb_jobs WHERE id = %(id)s FOR UPDATE
    ),
    retried AS (
        UPDATE _ayb_jobs
        SET state = 'queued', run_at = now(), max_attempts = {ATTEMPTS_GIVEN}, attempts = 0, crashes = 0, last_error = NULL, progress = NULL, updated_at = now(),
            priority = CASE WHEN priority > 4 THEN priority - 4 ELSE priority END, limited_by = NULL, limited_key = NULL
        WHERE id = (SELECT found.id FROM found WHERE found.state = 'failed')
        RETURNING {JOB_COLUMNS}
    )
    SELECT found.state AS found_state, retried.*,
        CASE WHEN retried.state = 'queued' AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END AS woken
    FROM found LEFT JOIN retried ON true
"""


def retry_job(conn: Connection, job_id: str) -> Job:
    """Queue a failed job again, due now, with all its attempts, and return it.

    Raises `InvalidInput`, `NotFound`, or `Conflict` where it is in any other state, or another job has its unique key.
    """
    while True:
        try:
            with conn.transaction():
                return _changed(conn, RETRY_JOB, job_id, RETRYING)
        except UniqueViolation as error:
            if error.diag.constraint_name != UNIQUE_INDEX:
                raise
        twin = conn.execute(FIND_TWIN, {"id": checked_id(job_id)}).fetchone()
        if twin is not None:  # else it has ended meanwhile
            raise Conflict(f"job {job_id} has the unique key of job {twin[0]}, which has not ended")


CANCEL_JOB = f"""
    WITH found AS MATERIALIZED (
        SELECT id, state FROM _ayb_jobs WHERE id = %(id)s FOR UPDATE
    ),
    canceled AS (
        UPDATE _ayb_jobs
        SET state = 'canceled', canceled_at = now(), updated_at = now()
        WHERE id = (SELECT found.id FROM found WHERE found.state = 'queued')
        RETURNING {JOB_COLUMNS}
    )
    SELECT found.state AS found_state, canceled.* FROM found LEFT JOIN canceled ON true
"""


def cancel_job(conn: Connection, job_id: str) -> Job:
    """Cancel a queued job and return it.

    Raises `InvalidInput`, `NotFound`, or `Conflict` where it is in any other state.
    """
    with conn.transaction():
        job = _changed(conn, CANCEL_JOB, job_id, CANCELING)
        tell_ended(conn, [job.id])
    return job


def _changed(conn: Connection, statement: LiteralString, job_id: str, by_hand: ByHand) -> Job:
    """Return the job that a statement changed, or raise what it found: no such job, or one in the wrong state.

    Or a job that stays as it was.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement, {"id": checked_id(job_id)}).fetchone()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    found_state = row.pop("found_state")
    row.pop("woken", None)
    if found_state != by_hand.begins:
        raise Conflict(f"job {job_id} is {found_state}; {by_hand.rule}")
    if row["state"] != by_hand.ends:
        raise Conflict(stays(job_id))
    return as_job(**row)


def as_job(*, state: str, progress_text: str | None, **columns: Any) -> Job:
    """Return a row of `JOB_COLUMNS` as a job."""
    return Job(state=JobState(state), progress=_progress(progress_text), **columns)


def _progress(text: str | None) -> Any:
    """Return a job's progress; as its text where Python cannot decode it, so that the job can still be shown."""
    if text is None:
        return None
    try:
        return decode_payload(text)
    except PayloadUndecodable:
        return text


@contextmanager
def refusing_bad_values() -> Iterator[None]:
    """Turn the database's refusal of a value into `InvalidInput`."""
    try:
        yield
    except psycopg.errors.StatementTooComplex:
        raise InvalidInput("payload is nested too deeply", field="payload") from None
    except psycopg.DataError as error:
        raise InvalidInput(f"the database refuses a value: {error.diag.message_primary or error}") from None
    except UnicodeError as error:
        raise InvalidInput(f"a value does not fit the connection's encoding: {error}") from None
