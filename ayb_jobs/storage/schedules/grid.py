"""The last fires of every schedule with what became of their jobs, for a grid of squares."""

from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection


class FiredSquare(NamedTuple):
    """A fire of a schedule: what the ledger says of it, and how its job stands or ended, if that is still known."""

    schedule_id: str
    fire_at: datetime
    fire: str
    reason: str | None
    job_id: str | None
    job: str | None


# A job that was removed has left its last attempt in the log.
LIST_SQUARES = """
    SELECT schedule.id::text AS schedule_id, fired.fire_at, fired.outcome AS fire, fired.reason, fired.job_id::text AS job_id,
        coalesce(job.state, attempt.outcome) AS job
    FROM (
        SELECT id FROM _ayb_job_schedules
        WHERE %(schedule_id)s::uuid IS NULL OR id = %(schedule_id)s::uuid
        ORDER BY name
        LIMIT %(schedules)s
    ) AS schedule
    CROSS JOIN LATERAL (
        SELECT fire_at, outcome, reason, job_id
        FROM _ayb_job_fires AS fire
        WHERE fire.schedule_id = schedule.id
        ORDER BY fire_at DESC
        LIMIT %(fires)s
    ) AS fired
    LEFT JOIN _ayb_jobs AS job ON job.id = fired.job_id
    LEFT JOIN LATERAL (
        SELECT outcome
        FROM _ayb_job_executions AS execution
        WHERE job.id IS NULL AND execution.job_id = fired.job_id
        ORDER BY execution.id DESC
        LIMIT 1
    ) AS attempt ON true
    ORDER BY schedule.id, fired.fire_at
"""


def list_squares(
    conn: Connection, *, schedule_id: str | None = None, fires: int = 24, schedules: int = 200
) -> dict[str, list[FiredSquare]]:
    """Return the last fires of one schedule, or of up to `schedules`, by their ids, the earliest first."""
    found: dict[str, list[FiredSquare]] = {}
    values = {"schedule_id": schedule_id, "fires": fires, "schedules": schedules}
    with conn.cursor(row_factory=class_row(FiredSquare)) as cursor:
        for square in cursor.execute(LIST_SQUARES, values):
            found.setdefault(square.schedule_id, []).append(square)
    return found
