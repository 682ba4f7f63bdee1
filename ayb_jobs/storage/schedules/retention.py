"""How long AYB's webhook deliveries are kept, as the schedules in the database say."""

from ayb_jobs.storage.database import Connection

HAS_SCHEDULES = "SELECT to_regclass('_ayb_job_schedules') IS NOT NULL"

# A retention is read as the job `webhook_delivery_prune` reads it: one that is missing, zero, negative or no number
# means 168 hours, and one with more digits than the database computes with keeps all. Schedules that are disabled count
# as well: an operator who disabled one wants to keep more, not less.
LONGEST_RETENTION_HOURS = """
    SELECT max(least(10000000, coalesce(nullif(CASE
        WHEN payload ->> 'retention_hours' !~ '^[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?$' THEN NULL
        WHEN payload ->> 'retention_hours' ~ '.{255}|e[+-]?[0-9]{4}' THEN 10000000
        ELSE (payload ->> 'retention_hours')::numeric
    END, 0), 168)))::float8
    FROM _ayb_job_schedules
    WHERE job_type = 'webhook_delivery_prune'
"""


def longest_retention_hours(conn: Connection) -> float | None:
    """Return the longest retention, in hours, that a schedule of webhook deliveries names; None if there is none."""
    found = conn.execute(HAS_SCHEDULES).fetchone()
    if not found or not found[0]:
        return None
    row = conn.execute(LONGEST_RETENTION_HOURS).fetchone()
    return row[0] if row else None
