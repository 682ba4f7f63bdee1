"""What became of endings that a settling left out: settled before, still held, or locked by somebody else."""

from collections.abc import Sequence

from ayb_jobs.model.job import Lease
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.storage.arrays import plain_array
from ayb_jobs.storage.database import Connection

FIND_SETTLED = """
    SELECT execution.lease_id
    FROM unnest(%(ids)s::uuid[], %(lease_ids)s::uuid[], %(outcomes)s::text[]) AS ended (id, lease_id, outcome)
    JOIN _ayb_job_executions AS execution ON execution.job_id = ended.id
    WHERE execution.lease_id = ended.lease_id AND execution.outcome = ended.outcome
"""


def find_settled(conn: Connection, settlements: Sequence[Settlement]) -> set[str]:
    """Return which of these leases (their ids) are settled in just this way already, as if an answer was lost.

    By their jobs, since an attempt may have got another number.
    """
    rows = conn.execute(
        FIND_SETTLED,
        {
            "ids": [ended.job.id for ended in settlements],
            "lease_ids": [ended.job.lease_id for ended in settlements],
            "outcomes": [ended.outcome for ended in settlements],
        },
    ).fetchall()
    return {row[0] for row in rows}


FIND_HELD = """
    SELECT lease_id FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND lease_id = ANY (%(lease_ids)s::uuid[]) AND (state = 'running') IS NOT FALSE
"""


def find_held(conn: Connection, settlements: Sequence[Settlement]) -> set[str]:
    """Return which of these leases (their ids) are still held."""
    values = {
        "ids": plain_array(ended.job.id for ended in settlements),
        "lease_ids": plain_array(ended.job.lease_id for ended in settlements),
    }
    return {row[0] for row in conn.execute(FIND_HELD, values)}


FIND_LOCKED = """
    WITH free AS MATERIALIZED (
        SELECT id FROM _ayb_jobs WHERE id = ANY (%(ids)s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(lease_id, canceling_lease_id)
    FROM _ayb_jobs
    WHERE id = ANY (%(ids)s::uuid[]) AND coalesce(lease_id, canceling_lease_id) = ANY (%(lease_ids)s::uuid[])
        AND id NOT IN (SELECT id FROM free)
"""


def find_locked(conn: Connection, leases: Sequence[Lease]) -> set[str]:
    """Return which of these leases (their ids) are of jobs whose rows somebody else has locked just now.

    Those of jobs that are to end canceled count too.
    """
    values = {
        "ids": plain_array(lease.job_id for lease in leases),
        "lease_ids": plain_array(lease.lease_id for lease in leases),
    }
    return {row[0] for row in conn.execute(FIND_LOCKED, values)}
