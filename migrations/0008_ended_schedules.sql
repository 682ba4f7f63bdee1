-- Schedules whose expression names years, as AYB's may.

-- When a scheduler found that no fire is left, since the last of its years is over; null otherwise. Such a schedule has
-- no next run and no error. It is planned anew once its timing is another.
ALTER TABLE _ayb_job_schedules ADD COLUMN ended_at timestamptz;

-- Nothing is expected of a schedule that has ended, or that is dormant: its next fire is more than five years away.
CREATE OR REPLACE VIEW _ayb_job_overdue AS
    WITH watched AS (
        SELECT
            schedule.id, schedule.name, schedule.next_run_at, schedule.last_error, schedule.watched_since,
            schedule.expect_success_within_s, latest.success_at,
            CASE WHEN schedule.ended_at IS NULL AND schedule.next_run_at < now() + interval '5 years'
                THEN greatest(latest.success_at, schedule.watched_since)
                    + least(schedule.expect_success_within_s, 1e10) * interval '1 second'
            END AS success_due_at
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
