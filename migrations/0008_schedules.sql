-- Schedules that end, that nobody serves, and that are enabled again.

-- When a scheduler found that no fire is left, since the last of the years that the expression names is over; null
-- otherwise. Such a schedule has no next run and no error. It is planned anew once its timing is another.
ALTER TABLE _ayb_job_schedules ADD COLUMN ended_at timestamptz;

-- Nothing is expected of a schedule that has ended, or that is dormant: its next fire is more than five years away.
-- `unserved`: a job of it has been due for over a minute, and no live daemon knows its type and serves its queue. A
-- beat far ahead of the clock is no sign of life. Instants at the far end of what PostgreSQL holds are cut before
-- anything is added to them: plain SQL may write any, and none of them may keep others from being looked at.
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

-- A schedule that is enabled again never fires for the past, whoever enables it, and whether or not a daemon was alive
-- while it was disabled: a next run that has come is forgotten, so that the next scheduler computes another and records
-- what was passed over. A statement that enables it and gives it a next run, as AYB's do, is left alone.
CREATE FUNCTION _ayb_job_schedule_enabled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.next_run_at := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER trg_ayb_job_schedules_enabled BEFORE UPDATE OF enabled ON _ayb_job_schedules FOR EACH ROW
    WHEN (NEW.enabled AND NOT OLD.enabled AND NEW.next_run_at <= now() AND NEW.next_run_at = OLD.next_run_at)
    EXECUTE FUNCTION _ayb_job_schedule_enabled();
