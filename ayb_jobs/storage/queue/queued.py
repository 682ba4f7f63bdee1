"""Lists of queued jobs whole, those that are due or those that are due later, in the order in which they become due."""

from psycopg.rows import kwargs_row

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.browsing import Shown, browse_jobs
from ayb_jobs.storage.queue.jobs import LISTED_COLUMNS, JobPage, Position, as_job

# Whatever is leased between the two statements is left out.
SHOW_QUEUED = f"""
    SELECT {LISTED_COLUMNS}
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND state = 'queued'
    ORDER BY run_at, id
"""


def list_queued(
    conn: Connection,
    wanted: Filter,
    *,
    due: bool,
    state: JobState | None = None,
    limit: int = 50,
    after: Position | None = None,
) -> JobPage:
    """Return up to `limit` queued jobs that match, all of them due, or none; `after` is an earlier page's `next`.

    A page may hold fewer jobs although more follow, since what it reads is bounded. Raises `InvalidInput` if jobs of
    another `state` are asked for.
    """
    if state not in {None, JobState.QUEUED}:
        raise InvalidInput(f"due goes with queued jobs, and state is {state}", field="due")
    page = browse_jobs(conn, Shown.WAITING if due else Shown.LATER, wanted, after=after, limit=limit)
    with conn.cursor(row_factory=kwargs_row(as_job)) as cursor:
        jobs = cursor.execute(SHOW_QUEUED, {"ids": [job.id for job in page.jobs]}, prepare=False).fetchall()
    return JobPage(jobs, page.next)
