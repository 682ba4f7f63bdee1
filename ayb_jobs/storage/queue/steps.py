"""The results of a job's steps and its last checkpoint: kept under the job's lease, read by later attempts.

They are removed soon after their job: a foreign key would have each job that is deleted looked up among them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ayb_jobs.model.job import Lease
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import Deleted, one_row

# The checkpoint has the name that no step can have.
CHECKPOINT = ""

FIND_STEPS = "SELECT name, result::text FROM _ayb_job_steps WHERE job_id = %(id)s"


def find_steps(conn: Connection, job_id: str) -> dict[str, str]:
    """Return the JSON of what a job's steps returned, by their names, and of its checkpoint."""
    return dict(conn.execute(FIND_STEPS, {"id": job_id}).fetchall())


# The job's row is locked, so that its lease cannot be lost before this is committed. How many rows were written says
# whether it was held: to return one as well would take a third of what the insert takes.
KEEP_STEP = """
    INSERT INTO _ayb_job_steps (job_id, name, result)
    SELECT id, %(name)s, %(result)s::jsonb FROM _ayb_jobs WHERE id = %(id)s AND lease_id = %(lease_id)s
        AND (state = 'running') IS NOT FALSE
    FOR SHARE
"""


def keep_step(conn: Connection, lease: Lease, name: str, result: str) -> bool:
    """Keep what a step returned (JSON text); False if the lease is lost.

    Raises `UniqueViolation` if a step of this name is kept already.
    """
    values = {"id": lease.job_id, "lease_id": lease.lease_id, "name": name, "result": result}
    return conn.execute(KEEP_STEP, values).rowcount > 0


# For a step that may be kept already; a plain insert takes four fifths of the time.
KEEP_STEP_AGAIN = """
    INSERT INTO _ayb_job_steps (job_id, name, result)
    SELECT id, %(name)s, %(result)s::jsonb FROM _ayb_jobs WHERE id = %(id)s AND lease_id = %(lease_id)s
        AND (state = 'running') IS NOT FALSE
    FOR SHARE
    ON CONFLICT (job_id, name) DO UPDATE SET result = excluded.result, done_at = excluded.done_at
"""


def keep_step_again(conn: Connection, lease: Lease, name: str, result: str) -> bool:
    """Do what `keep_step` does, whether or not a step of this name is kept: this result takes its place."""
    values = {"id": lease.job_id, "lease_id": lease.lease_id, "name": name, "result": result}
    return conn.execute(KEEP_STEP_AGAIN, values).rowcount > 0


REPORT_CHECKPOINT = """
    WITH reported AS (
        UPDATE _ayb_jobs
        SET progress = %(progress)s::jsonb, lease_until = now() + %(lease_s)s * interval '1 second', updated_at = now()
        WHERE id = %(id)s AND lease_id = %(lease_id)s AND (state = 'running') IS NOT FALSE
        RETURNING id
    )
    INSERT INTO _ayb_job_steps (job_id, name, result)
    SELECT id, '', %(checkpoint)s::jsonb FROM reported
    ON CONFLICT (job_id, name) DO UPDATE SET result = excluded.result, done_at = excluded.done_at
    RETURNING job_id
"""


def report_checkpoint(conn: Connection, lease: Lease, progress: str, checkpoint: str, *, lease_s: float) -> bool:
    """Write a running job's progress and checkpoint (JSON texts) and extend its lease; False if the lease is lost."""
    values = {
        "id": lease.job_id,
        "lease_id": lease.lease_id,
        "progress": progress,
        "checkpoint": checkpoint,
        "lease_s": lease_s,
    }
    return conn.execute(REPORT_CHECKPOINT, values).fetchone() is not None


# A batch walks so many rows of the primary key, and looks each of their jobs up by its id, whatever the statistics say.
FIND_ORPHANED_STEPS = """
    WITH walked AS MATERIALIZED (
        SELECT job_id
        FROM _ayb_job_steps
        WHERE %(after)s::uuid IS NULL OR job_id > %(after)s::uuid
        ORDER BY job_id, name
        LIMIT %(limit)s
    ), jobs AS MATERIALIZED (
        SELECT DISTINCT job_id FROM walked
    )
    SELECT
        ARRAY(
            SELECT job_id::text FROM jobs
            WHERE (SELECT true FROM _ayb_jobs WHERE id = jobs.job_id) IS NULL
            ORDER BY job_id
        ),
        (SELECT job_id::text FROM jobs ORDER BY job_id DESC LIMIT 1)
"""


class Orphaned(NamedTuple):
    """Jobs that are gone and have left steps, and the id behind which the next batch goes on; None at the end."""

    job_ids: list[str]
    next: str | None


def find_orphaned_steps(conn: Connection, *, after: str | None = None, limit: int = 1000) -> Orphaned:
    """Return which jobs are gone, of those that the next `limit` steps belong to."""
    row = conn.execute(FIND_ORPHANED_STEPS, {"after": after, "limit": limit}, prepare=False).fetchone()
    return Orphaned([], None) if row is None else Orphaned(*row)


DELETE_STEPS = """
    WITH gone AS (
        DELETE FROM _ayb_job_steps WHERE job_id = ANY (%(ids)s::uuid[]) RETURNING 1
    )
    SELECT gone.rows, old.rows - gone.rows
    FROM (SELECT count(*) AS rows FROM gone) AS gone,
        (SELECT count(*) AS rows FROM _ayb_job_steps WHERE job_id = ANY (%(ids)s::uuid[])) AS old
"""


def delete_steps(conn: Connection, job_ids: Sequence[str]) -> Deleted:
    """Remove the steps of these jobs."""
    return Deleted(*one_row(conn.execute(DELETE_STEPS, {"ids": list(job_ids)}, prepare=False)))
