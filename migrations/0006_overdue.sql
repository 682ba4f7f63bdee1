-- Schedules that did not do what was expected of them, as anyone who can read the database may ask.
-- `broken`: it cannot fire. `no_success`: no job of it has succeeded for as long as it was expected to. `not_fired`: it
-- has been due for over a minute, so that no scheduler is at work. `since` is when it became so.
-- An expectation that no interval holds (NaN, or a number of seconds beyond 178 million years) is as good as none. Plain
-- SQL may write one, and it must not keep anyone from asking about the other schedules.
CREATE VIEW _ayb_job_overdue AS
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

-- What was told, or is to be told, to the world outside: once for each beginning and end of being overdue, and for each
-- job of a schedule that failed for good. `about` keeps a second daemon from telling it again.
CREATE TABLE _ayb_job_alerts (
    id uuid PRIMARY KEY DEFAULT _ayb_job_id(),
    kind varchar(20) NOT NULL CHECK (kind IN ('overdue', 'recovered', 'failed')),
    schedule_id uuid NOT NULL REFERENCES _ayb_job_schedules (id) ON DELETE CASCADE,
    about text NOT NULL,
    message text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (schedule_id, kind, about)
);

CREATE INDEX idx_ayb_job_alerts_at ON _ayb_job_alerts (at);

-- One row for each alert and address; `target` is a hash of the address, which may hold a secret.
CREATE TABLE _ayb_job_alert_deliveries (
    alert_id uuid NOT NULL REFERENCES _ayb_job_alerts (id) ON DELETE CASCADE,
    target varchar(64) NOT NULL,
    attempts int NOT NULL DEFAULT 0,
    try_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    last_error text,
    PRIMARY KEY (alert_id, target)
);

CREATE INDEX idx_ayb_job_alert_deliveries_due ON _ayb_job_alert_deliveries (target, try_at)
    WHERE delivered_at IS NULL;

-- Since when alerts have told that a schedule is overdue; null while it is not.
ALTER TABLE _ayb_job_schedules ADD COLUMN overdue_since timestamptz;

-- Scheduled jobs that failed of late.
CREATE INDEX idx_ayb_jobs_schedule_failed ON _ayb_jobs (updated_at)
    WHERE schedule_id IS NOT NULL AND state = 'failed';
