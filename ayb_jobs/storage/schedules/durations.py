"""How long schedules' jobs usually run, for the timeline."""

from ayb_jobs.storage.database import Connection

# The latest runs alone, so that a long history costs nothing.
TYPICAL_SECONDS = """
    SELECT schedule.id::text, recent.seconds
    FROM _ayb_job_schedules AS schedule
    CROSS JOIN LATERAL (
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - started_at))::float8 AS seconds
        FROM (
            SELECT started_at, ended_at
            FROM _ayb_job_executions AS execution
            WHERE execution.schedule_id = schedule.id AND outcome = 'completed'
                AND started_at BETWEEN '0001-01-01' AND '9999-12-31' AND ended_at BETWEEN '0001-01-01' AND '9999-12-31'
            ORDER BY ended_at DESC
            LIMIT 20
        ) AS latest
    ) AS recent
    WHERE recent.seconds IS NOT NULL
"""


def typical_seconds(conn: Connection) -> dict[str, float]:
    """Return the median time, in seconds, of the latest 20 completed runs of each schedule that has any, by its id."""
    return dict(conn.execute(TYPICAL_SECONDS).fetchall())
