"""How things stand with the limit of a job that waits."""

from ayb_jobs.model.job import Job
from ayb_jobs.model.surroundings import UnderLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import find_limit

LOOK_AT_KEY = """
    SELECT
        (
            SELECT count(*) FROM _ayb_jobs AS job
            WHERE job.state = 'running' AND job.limited_by = %(name)s AND job.limited_key = %(key)s
        ),
        NOT EXISTS (
            SELECT FROM _ayb_job_limit_keys AS kept JOIN _ayb_job_limits AS held ON held.name = kept.limit_name
            WHERE kept.limit_name = %(name)s AND kept.limit_key = %(key)s
                AND kept.tat - (held.key_burst - 1) * held.key_every > now()
        )
"""


# The limit and the key that a daemon will give a job, as `LEASE_BESIDE_LIMITS` does.
FIND_LIMIT_TO_COME = """
    SELECT held.name::text,
        CASE WHEN length(given.key) <= 200 THEN given.key ELSE encode(sha256(convert_to(given.key, 'UTF8')), 'hex') END
    FROM _ayb_jobs AS job
    JOIN _ayb_job_limits AS held ON job.type = ANY (held.types)
    CROSS JOIN LATERAL (
        SELECT coalesce(
            job.limit_key,
            CASE WHEN jsonb_typeof(job.payload -> held.key_field) NOT IN ('array', 'object')
                THEN job.payload ->> held.key_field END,
            '') AS key
    ) AS given
    WHERE job.id = %(id)s
"""


def find_under(conn: Connection, job: Job) -> UnderLimit | None:
    """Return how things stand with the limit that a job waits under, or will; None if there is none."""
    name, key = job.limit, job.limit_key or ""
    if name is None:
        name, key = conn.execute(FIND_LIMIT_TO_COME, {"id": job.id}).fetchone() or (None, "")
    limit = find_limit(conn, name) if name else None
    if limit is None:
        return None
    running, may_start = conn.execute(LOOK_AT_KEY, {"name": name, "key": key}).fetchone() or (0, True)
    return UnderLimit(limit=limit, key=key, key_running=running, key_may_start=may_start)
