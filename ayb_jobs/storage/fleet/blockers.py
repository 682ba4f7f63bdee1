"""What keeps a job waiting that depends on others."""

from ayb_jobs.model.dependencies import Blocked, Relative
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.rows import named

# What has failed is told first: nothing but a retry frees the job then.
FIND_BLOCKER = """
    WITH waited_for AS MATERIALIZED (
        SELECT edge.parent_id, edge.rule, (SELECT state FROM _ayb_jobs WHERE id = edge.parent_id) AS state
        FROM _ayb_job_dependencies AS edge
        WHERE edge.child_id = %(id)s::uuid AND edge.is_open
    )
    SELECT parent_id::text AS id, state, rule, count(*) OVER () - 1 AS others
    FROM waited_for
    ORDER BY state IN ('failed', 'canceled') DESC NULLS LAST, parent_id
    LIMIT 1
"""


def find_blocker(conn: Connection, job_id: str) -> Blocked:
    """Return what a blocked job waits for."""
    row = named(conn).execute(FIND_BLOCKER, {"id": job_id}, prepare=False).fetchone()
    if row is None:
        return Blocked(parent=None, others=0)
    return Blocked(parent=Relative(id=row.id, state=row.state, rule=row.rule, is_open=True), others=row.others)
