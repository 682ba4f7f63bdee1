"""Which schedules fire next."""

from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from ayb_jobs.storage.database import Connection


class Coming(NamedTuple):
    """A schedule that is enabled, and when it fires next."""

    name: str
    job_type: str
    next_run_at: datetime


LIST_COMING = """
    SELECT name, job_type, next_run_at
    FROM _ayb_job_schedules
    WHERE enabled AND next_run_at > now() AND next_run_at < 'infinity'
    ORDER BY next_run_at, name
    LIMIT %(limit)s
"""


def list_coming(conn: Connection, *, limit: int) -> list[Coming]:
    """Return up to `limit` schedules that fire later than now, the next first."""
    with conn.cursor(row_factory=class_row(Coming)) as cursor:
        return cursor.execute(LIST_COMING, {"limit": limit}).fetchall()
