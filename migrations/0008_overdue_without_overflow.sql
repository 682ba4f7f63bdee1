-- An expectation that no interval holds (NaN, or a number of seconds beyond 178 million years) is as good as none. Plain
-- SQL may write one, and it must not keep anyone from asking about the other schedules.
CREATE OR REPLACE VIEW _ayb_job_overdue AS
    WITH watched AS (
        SELECT
            schedule.id, schedule.name, schedule.next_run_at, schedule.last_error, schedule.watched_since,
            schedule.expect_success_within_s, latest.success_at,
            greatest(latest.success_at, schedule.watched_since)
                + least(schedule.expect_success_within_s, 1e10) * interval '1 second' AS success_due_at
        FROM _ayb_job_schedules AS schedule
        CROSS JOIN LATERAL (
            SELECT max(ended_at) AS success_at
            FROM _ayb_job_executions AS execution
            WHERE execution.schedule_id = schedule.id AND execution.outcome = 'completed'
        ) AS latest
        WHERE schedule.enabled
    ), judged AS (
        SELECT *, CASE
            WHEN last_error IS NOT NULL THEN 'broken'
            WHEN success_due_at < now() THEN 'no_success'
            WHEN next_run_at < now() - interval '1 minute' THEN 'not_fired'
        END AS reason
        FROM watched
    )
    SELECT
        id AS schedule_id, name, reason,
        CASE reason
            WHEN 'broken' THEN watched_since
            WHEN 'no_success' THEN success_due_at
            ELSE next_run_at
        END AS since,
        success_at AS last_success_at, next_run_at, expect_success_within_s, last_error
    FROM judged
    WHERE reason IS NOT NULL;
