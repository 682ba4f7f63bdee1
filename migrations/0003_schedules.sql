-- What a schedule can say beyond AYB's columns, and the ledger of its fires.

-- `planned` is the timing (expression, zone, rule) for which `next_run_at` was computed. Where it differs from what the
-- row says now, the row was edited, by whatever means, and its next run is computed anew. A broken schedule has a
-- `last_error` and no next run, and is tried again once its timing is another.
-- `definition` is the shipped definition as last applied: a row that still equals it was not edited by an operator.
-- `last_fire_at` is the latest nominal fire in the ledger; no fire up to it is ever made again, pruned or not.
-- `watched_since` is when waiting for a success began anew: on creating, on enabling, on a change of its timing.
ALTER TABLE _ayb_job_schedules
    ADD COLUMN queue varchar(100) NOT NULL DEFAULT 'default',
    ADD COLUMN priority smallint NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 4),
    ADD COLUMN catchup varchar(10) NOT NULL DEFAULT 'latest' CHECK (catchup IN ('latest', 'all', 'skip')),
    ADD COLUMN catchup_max int NOT NULL DEFAULT 100 CHECK (catchup_max BETWEEN 1 AND 1000),
    ADD COLUMN catchup_window_s double precision NOT NULL DEFAULT 86400 CHECK (catchup_window_s > 0),
    ADD COLUMN overlap varchar(20) NOT NULL DEFAULT 'allow'
        CHECK (overlap IN ('allow', 'skip', 'queue_one', 'cancel_running')),
    ADD COLUMN dst varchar(10) NOT NULL DEFAULT 'once' CHECK (dst IN ('once', 'skip', 'both')),
    ADD COLUMN jitter_s double precision NOT NULL DEFAULT 0 CHECK (jitter_s BETWEEN 0 AND 86400),
    ADD COLUMN timeout_s double precision CHECK (timeout_s > 0),
    ADD COLUMN expect_success_within_s double precision CHECK (expect_success_within_s > 0),
    ADD COLUMN ping_url varchar(1000),
    ADD COLUMN definition jsonb,
    ADD COLUMN planned text,
    ADD COLUMN last_error text,
    ADD COLUMN last_fire_at timestamptz,
    ADD COLUMN watched_since timestamptz NOT NULL DEFAULT now();

-- How long a run of this job may take; null leaves it to the job's type.
ALTER TABLE _ayb_jobs ADD COLUMN timeout_s double precision;

CREATE INDEX idx_ayb_job_schedules_due ON _ayb_job_schedules (next_run_at) WHERE enabled;

-- A schedule's shipped definition as its row states it, to be compared with the one last applied.
CREATE FUNCTION _ayb_job_schedule_definition(schedule _ayb_job_schedules) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object(
        'job_type', schedule.job_type, 'payload', schedule.payload, 'cron', schedule.cron_expr,
        'timezone', schedule.timezone, 'enabled', schedule.enabled, 'max_attempts', schedule.max_attempts,
        'queue', schedule.queue, 'priority', schedule.priority, 'catchup', schedule.catchup,
        'catchup_max', schedule.catchup_max, 'catchup_window_s', schedule.catchup_window_s,
        'overlap', schedule.overlap, 'dst', schedule.dst, 'jitter_s', schedule.jitter_s,
        'timeout_s', schedule.timeout_s, 'expect_success_within_s', schedule.expect_success_within_s,
        'ping_url', schedule.ping_url
    )
$$;

-- The ledger: what became of each nominal fire of each schedule, written by the statement that advances the schedule.
-- `job_id` bears no reference: the ledger outlives its jobs.
CREATE TABLE _ayb_job_fires (
    schedule_id uuid NOT NULL REFERENCES _ayb_job_schedules (id) ON DELETE CASCADE,
    fire_at timestamptz NOT NULL,
    outcome varchar(10) NOT NULL CHECK (outcome IN ('enqueued', 'late', 'caught_up', 'coalesced', 'skipped')),
    reason text CHECK ((reason IS NOT NULL) = (outcome = 'skipped')),
    job_id uuid CHECK ((job_id IS NOT NULL) = (outcome IN ('enqueued', 'late', 'caught_up'))),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schedule_id, fire_at)
);

CREATE INDEX idx_ayb_job_fires_recorded ON _ayb_job_fires (recorded_at);

-- The latest success and failure of each schedule.
CREATE INDEX idx_ayb_job_executions_schedule ON _ayb_job_executions (schedule_id, outcome, ended_at)
    WHERE schedule_id IS NOT NULL;

-- Whether a schedule's earlier job has ended, for the overlap rules.
CREATE INDEX idx_ayb_jobs_schedule_unfinished ON _ayb_jobs (schedule_id)
    WHERE schedule_id IS NOT NULL AND state IN ('queued', 'running');
