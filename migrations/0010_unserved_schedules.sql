-- A schedule whose jobs no live daemon can run is overdue.

-- `unserved`: a job of it has been due for over a minute, and no live daemon knows its type and serves its queue. A beat
-- far ahead of the clock is no sign of life. Instants at the far end of what PostgreSQL holds are cut before anything is
-- added to them: plain SQL may write any, and none of them may keep others from being looked at.
CREATE OR REPLACE VIEW _ayb_job_overdue AS
    WITH watched AS (
        SELECT
            schedule.id, schedule.name, schedule.next_run_at, schedule.last_error, schedule.watched_since,
            schedule.expect_success_within_s, latest.success_at, unserved.waiting_since,
            CASE
                WHEN schedule.expect_success_within_s IS NOT NULL AND schedule.ended_at IS NULL
                    AND schedule.next_run_at < now() + interval '5 years'
                THEN least(greatest(latest.success_at, schedule.watched_since), timestamptz '200000-01-01 00:00:00+00')
                    + least(schedule.expect_success_within_s, 1e10) * interval '1 second'
            END AS success_due_at
        FROM _ayb_job_schedules AS schedule
        CROSS JOIN LATERAL (
            SELECT max(ended_at) AS success_at
            FROM _ayb_job_executions AS execution
            WHERE execution.schedule_id = schedule.id AND execution.outcome = 'completed'
        ) AS latest
        CROSS JOIN LATERAL (
            SELECT min(waiting.run_at) AS waiting_since
            FROM (
                SELECT job.run_at, job.type, job.queue
                FROM _ayb_jobs AS job
                WHERE job.schedule_id = schedule.id AND job.state = 'queued'
                    AND job.run_at < now() - interval '1 minute'
                LIMIT 1000
            ) AS waiting
            WHERE NOT EXISTS (
                SELECT FROM _ayb_job_workers AS daemon
                WHERE daemon.heartbeat_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute'
                    AND waiting.type = ANY (daemon.types) AND waiting.queue = ANY (daemon.queues)
            )
        ) AS unserved
        WHERE schedule.enabled
    ), judged AS (
        SELECT *, CASE
            WHEN last_error IS NOT NULL THEN 'broken'
            WHEN waiting_since IS NOT NULL THEN 'unserved'
            WHEN success_due_at < now() THEN 'no_success'
            WHEN next_run_at < now() - interval '1 minute' THEN 'not_fired'
        END AS reason
        FROM watched
    )
    SELECT
        id AS schedule_id, name, reason,
        CASE reason
            WHEN 'broken' THEN watched_since
            WHEN 'unserved' THEN waiting_since
            WHEN 'no_success' THEN success_due_at
            ELSE next_run_at
        END AS since,
        success_at AS last_success_at, next_run_at, expect_success_within_s, last_error
    FROM judged
    WHERE reason IS NOT NULL;
