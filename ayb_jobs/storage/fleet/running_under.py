"""What runs as its type comes under a limit."""

import psycopg

from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import was_refused

PUT_RUNNING_UNDER = """
    SELECT _ayb_job_put_under(ARRAY(
        SELECT job.id
        FROM _ayb_jobs AS job JOIN _ayb_job_limits AS limits ON limits.name = %(name)s AND job.type = ANY (limits.types)
        WHERE job.state = 'running' AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM limits.name)
    ))
"""


def put_running_under(conn: Connection, name: str) -> None:
    """Have what runs of a limit's types count under it, in the transaction that writes the limit.

    So none starts above its number once it is committed. What somebody has locked is left to its daemon, and all of it
    if the database refuses a row, as a trigger may: daemons set that row aside, and tell it.
    """
    try:
        with conn.transaction():
            conn.execute(PUT_RUNNING_UNDER, {"name": name}, prepare=False)
    except psycopg.Error as error:
        if not was_refused(error):
            raise
