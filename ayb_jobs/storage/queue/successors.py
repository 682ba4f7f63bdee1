"""The job that a schedule made while an earlier one of it was to end canceled: it waits for that one's end.

It is queued beyond all times that any job is due. Whoever ends the earlier job canceled frees it in a further
statement: the one that ends the job may have begun before the waiting one was committed, and not see it. The scheduler
looks now and then for those that nobody freed: plain SQL may end the earlier job too, and a schedule that is deleted
leaves both jobs without its id. Whatever the schedule is by then, a job that waits is freed.
"""

from collections.abc import Iterable, Sequence

from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lanes import BY_INDEX
from ayb_jobs.storage.rows import one_row

AFTER_THE_CANCELED = "timestamptz '9999-12-31 00:00:00+00'"
IS_WAITING = f"""
            successor.state = 'queued' AND successor.run_at = {AFTER_THE_CANCELED} AND successor.blocked_run_at IS NULL
            AND successor.scheduled_for IS NOT NULL
"""
IS_SUCCESSOR = f"""
            {IS_WAITING}
            AND NOT EXISTS (
                SELECT FROM _ayb_jobs AS earlier
                WHERE earlier.schedule_id = successor.schedule_id AND earlier.state = 'running'
            )
"""
# What follows the jobs `successor` that are to start. Rows that somebody has locked are passed over: the scheduler
# finds them later.
FREE_THEM = f"""
        ORDER BY successor.id
        FOR NO KEY UPDATE OF successor SKIP LOCKED
    ), freed AS (
        UPDATE _ayb_jobs AS job
        SET run_at = greatest(now(), job.scheduled_for), updated_at = now()
        FROM found
        WHERE job.id = found.id
        RETURNING job.id, job.run_at
    )
    SELECT count(*), CASE WHEN {MAY_NOTIFY} AND count(*) > 0 THEN pg_notify('ayb_jobs', '')::text END
    FROM freed
    WHERE run_at < {AFTER_THE_CANCELED}
"""
FREE_SUCCESSORS = f"""
    WITH found AS MATERIALIZED (
        SELECT successor.id
        FROM _ayb_jobs AS successor
        WHERE successor.schedule_id = ANY (%(schedule_ids)s::uuid[]) AND {IS_SUCCESSOR}
        {FREE_THEM}
"""


def free_successors(conn: Connection, schedule_ids: Iterable[str | None]) -> int:
    """Let those jobs of these schedules start that wait for an earlier one, if none runs; return how many."""
    ids = sorted({id_ for id_ in schedule_ids if id_ is not None})
    if not ids:
        return 0
    return int(one_row(conn.execute(FREE_SUCCESSORS, {"schedule_ids": ids}))[0])


# If the schedule is gone, what runs of it is known by its type alone.
IS_STRANDED = f"""
            {IS_SUCCESSOR}
            AND (successor.schedule_id IS NOT NULL OR NOT EXISTS (
                SELECT FROM _ayb_jobs AS earlier
                WHERE earlier.state = 'running' AND earlier.schedule_id IS NULL AND earlier.scheduled_for IS NOT NULL
                    AND earlier.cancel_requested_at IS NOT NULL AND earlier.type = successor.type
            ))
"""
FIND_STRANDED = f"""
    SELECT successor.id::text
    FROM _ayb_jobs AS successor
    WHERE {IS_STRANDED}
        AND successor.id <> ALL (%(aside)s::uuid[])
    LIMIT %(limit)s
"""


def find_stranded(conn: Connection, *, limit: int, aside: Sequence[str] = ()) -> list[str]:
    """Return the ids of jobs that wait for an earlier one while none runs, but for those `aside`.

    The transaction that `conn` is in plans without reading whole tables from then on.
    """
    conn.execute(BY_INDEX)
    return [id_ for (id_,) in conn.execute(FIND_STRANDED, {"limit": limit, "aside": list(aside)}, prepare=False)]


FREE_STRANDED = f"""
    WITH found AS MATERIALIZED (
        SELECT successor.id
        FROM _ayb_jobs AS successor
        WHERE successor.id = ANY (%(ids)s::uuid[]) AND {IS_STRANDED}
        {FREE_THEM}
"""


def free_stranded(conn: Connection, ids: Sequence[str]) -> int:
    """Let those of these jobs start that wait for an earlier one while none runs; return how many."""
    return int(one_row(conn.execute(FREE_STRANDED, {"ids": list(ids)}))[0])
