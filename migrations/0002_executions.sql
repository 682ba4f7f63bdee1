-- The execution log: one row for each ended attempt, written by the statement that ends it.
-- Its number is drawn when the attempt is leased, so that an attempt bears one id while it runs and after.

CREATE SEQUENCE _ayb_job_execution_ids;

CREATE TABLE _ayb_job_executions (
    id bigint PRIMARY KEY,
    job_id uuid NOT NULL,
    job_type varchar(100) NOT NULL,
    schedule_id uuid,
    lease_id uuid,
    attempt int NOT NULL,
    worker_id varchar(100),
    outcome varchar(20) NOT NULL
        CHECK (outcome IN ('completed', 'failed', 'timed_out', 'discarded', 'canceled', 'snoozed', 'lost')),
    error text,
    records_processed bigint,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL
);

ALTER SEQUENCE _ayb_job_execution_ids OWNED BY _ayb_job_executions.id;

CREATE INDEX idx_ayb_job_executions_job ON _ayb_job_executions (job_id);
CREATE INDEX idx_ayb_job_executions_type ON _ayb_job_executions (job_type, id);

-- Barycenter's execution log, column for column. A table of that name is Barycenter's own and stays as it is.
DO $$
BEGIN
    IF to_regclass('job_execution') IS NULL THEN
        CREATE VIEW job_execution AS
            SELECT id, job_type AS job_name, started_at, ended_at AS completed_at,
                   outcome IN ('completed', 'snoozed') AS success, error AS error_message, records_processed
            FROM _ayb_job_executions
            UNION ALL
            SELECT execution_id, type, last_run_at, NULL, NULL, NULL, NULL
            FROM _ayb_jobs
            WHERE state = 'running';
    ELSE
        RAISE NOTICE 'a relation named job_execution exists already and is left as it is; the view is left out';
    END IF;
END
$$;
