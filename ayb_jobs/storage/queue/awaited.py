"""Tell the daemons of jobs that ended by other hands than theirs: for these, others may wait."""

from collections.abc import Sequence

from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.channel import MAY_NOTIFY
from ayb_jobs.storage.database import Connection

# Of a batch one member is enough.
TELL_ENDED = f"""
    SELECT pg_notify('ayb_jobs', 'ended ' || awaited.id)::text
    FROM (
        SELECT parent_id AS id FROM _ayb_job_dependencies WHERE parent_id = ANY (%(ids)s::uuid[]) AND is_open
        UNION
        SELECT member.id
        FROM (
            SELECT DISTINCT ON (batch_id) id FROM _ayb_jobs
            WHERE id = ANY (%(ids)s::uuid[]) AND batch_id IS NOT NULL ORDER BY batch_id, id
        ) AS member
    ) AS awaited
    WHERE {MAY_NOTIFY}
"""


def tell_ended(conn: Connection, ids: Sequence[str]) -> None:
    """Tell all daemons, once the caller's transaction commits, which of these jobs ended that others wait for.

    Children that wait for them, and their batches, are found by and by without it: after long if many wait.
    """
    if ids:
        conn.execute(TELL_ENDED, {"ids": plain_array(ids)}, prepare=False)
