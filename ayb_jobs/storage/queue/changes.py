"""Which jobs changed lately, found without an index on `updated_at`, which every change of every job would pay for."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.rows import kwargs_row

from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection

# Looks overlap by so much, since a change becomes visible some time after the instant that it bears.
WINDOW_S = 10.0
MOST = 1000


class Change(NamedTuple):
    """A job as it was found after a change. `moment` tells two changes of one job apart."""

    id: str
    moment: str
    type: str
    queue: str
    state: JobState
    attempts: int
    max_attempts: int
    run_at: str
    updated_at: str
    last_error: str | None


class Look(NamedTuple):
    """What one look found: changed jobs, those that run (at most 1,000), and the latest bulk change by hand."""

    changes: list[Change]
    running: list[str]
    bulk_deed: int | None


# A changed job was lately created, runs, ran at the last look, lately ended an attempt, or was changed by hand. Each of
# the five has an index, from whose newest end a bounded number is read.
LIST_CHANGES = """
    WITH candidates AS (
        SELECT id
        FROM (
            SELECT id FROM _ayb_jobs WHERE state <> 'running' ORDER BY created_at DESC, id DESC LIMIT %(most)s
        ) AS created
        UNION
        SELECT id FROM (SELECT id FROM _ayb_jobs WHERE state = 'running' LIMIT %(most)s) AS running
        UNION
        SELECT unnest(%(ran)s::uuid[])
        UNION
        SELECT job_id FROM (SELECT job_id FROM _ayb_job_executions ORDER BY id DESC LIMIT %(most)s) AS ended
        UNION
        SELECT target::uuid
        FROM (
            SELECT target FROM _ayb_job_audit WHERE action IN ('job.retry', 'job.cancel') ORDER BY id DESC LIMIT 100
        ) AS changed_by_hand
    )
    SELECT job.id::text, job.updated_at::text AS moment, job.type, job.queue, job.state, job.attempts, job.max_attempts,
        to_char(job.run_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS run_at,
        to_char(job.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_at,
        left(job.last_error, 500) AS last_error
    FROM _ayb_jobs AS job
    JOIN candidates ON candidates.id = job.id
    WHERE job.updated_at > now() - make_interval(secs => %(window_s)s)
    ORDER BY job.updated_at, job.id
    LIMIT %(most)s
"""


LIST_RUNNING = "SELECT id::text FROM _ayb_jobs WHERE state = 'running' LIMIT %(most)s"
LAST_BULK_DEED = """
    SELECT max(id)
    FROM (SELECT id, action FROM _ayb_job_audit ORDER BY id DESC LIMIT 100) AS lately
    WHERE action IN ('jobs.retry', 'jobs.cancel')
"""


def look_for_changes(conn: Connection, ran: Sequence[str] = ()) -> Look:
    """Return the jobs that changed within the last 10 s, the oldest change first; at most 1,000.

    `ran` are the ids of the jobs that ran at the last look. Not found are jobs that were removed as they completed, and
    those changed by a bulk call, of which only `bulk_deed` tells.
    """
    values = {"ran": list(ran), "most": MOST, "window_s": WINDOW_S}
    with conn.cursor(row_factory=kwargs_row(_change)) as cursor:
        changes = cursor.execute(LIST_CHANGES, values, prepare=False).fetchall()
    running = conn.execute(LIST_RUNNING, {"most": MOST}).fetchall()
    bulk = conn.execute(LAST_BULK_DEED).fetchone()
    return Look(
        changes=changes,
        running=[row[0] for row in running],
        bulk_deed=bulk[0] if bulk else None,
    )


def _change(*, state: str, **columns: Any) -> Change:
    return Change(state=JobState(state), **columns)
