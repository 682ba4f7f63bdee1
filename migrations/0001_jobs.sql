-- The queue. The first two tables are AYB's own, column for column, so that a database in which AYB made them
-- already is left as it stands; what this daemon needs beyond them is added below, with defaults only.

-- Time-ordered ids. PostgreSQL 18 makes them itself; before it, the time in milliseconds replaces the first
-- 48 bits of a random id, and the version nibble becomes 7.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE OR REPLACE FUNCTION _ayb_job_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
            AS 'SELECT uuidv7()';
    ELSE
        CREATE OR REPLACE FUNCTION _ayb_job_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $f$
            SELECT encode(
                set_bit(set_bit(
                    overlay(uuid_send(gen_random_uuid())
                        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                        FROM 1 FOR 6),
                    52, 1), 53, 1),
                'hex')::uuid
        $f$;
    END IF;
END
$$;

-- JSON as text; null where that is more than anybody could use. A few kilobytes of jsonb may be gigabytes as text
-- (numbers such as 1e131071), which PostgreSQL refuses to make, and with it the whole answer to a statement.
CREATE OR REPLACE FUNCTION _ayb_job_text(value jsonb) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
    AS $f$
DECLARE
    written text;
BEGIN
    written := value;
    RETURN CASE WHEN octet_length(written) <= 64 * 1024 * 1024 THEN written END;
EXCEPTION
    WHEN program_limit_exceeded OR out_of_memory THEN
        RETURN NULL;
END
$f$;

CREATE TABLE IF NOT EXISTS _ayb_job_schedules (
    id uuid PRIMARY KEY DEFAULT _ayb_job_id(),
    name varchar(100) NOT NULL UNIQUE,
    job_type varchar(100) NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    cron_expr varchar(100) NOT NULL,
    timezone varchar(50) NOT NULL DEFAULT 'UTC',
    enabled boolean NOT NULL DEFAULT true,
    max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    next_run_at timestamptz,
    last_run_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- A job has three versions in its life (queued, running, finished), each with an entry of its id: half of each page of
-- that index, and of others in which a job has two, is left for those that follow the first.
CREATE TABLE IF NOT EXISTS _ayb_jobs (
    id uuid PRIMARY KEY WITH (fillfactor = 50) DEFAULT _ayb_job_id(),
    type varchar(100) NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    state varchar(20) NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'completed', 'failed', 'canceled')),
    run_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    worker_id varchar(100),
    attempts int NOT NULL DEFAULT 0,
    max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    last_error text,
    last_run_at timestamptz,
    idempotency_key varchar(255),
    schedule_id uuid CONSTRAINT fk_ayb_jobs_schedule REFERENCES _ayb_job_schedules (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    canceled_at timestamptz
);

-- AYB's own has the state in front as well, which is the same in every entry, and costs each lease a comparison of texts.
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_lease ON _ayb_jobs (lease_until) WHERE state = 'running';
CREATE UNIQUE INDEX IF NOT EXISTS idx_ayb_jobs_idempotency ON _ayb_jobs (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- `lease_id` is the fence: set when a job is leased, null whenever it is not running.
-- `execution_id` is the number of the attempt now running, under which its execution row will stand.
-- `crashes` counts attempts that ended with a lost lease since the job was enqueued or retried by hand.
ALTER TABLE _ayb_jobs
    ADD COLUMN IF NOT EXISTS queue varchar(100) NOT NULL DEFAULT 'default',
    ADD COLUMN IF NOT EXISTS priority smallint NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 4),
    ADD COLUMN IF NOT EXISTS lease_id uuid,
    ADD COLUMN IF NOT EXISTS execution_id bigint,
    ADD COLUMN IF NOT EXISTS crashes int NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS scheduled_for timestamptz,
    ADD COLUMN IF NOT EXISTS progress jsonb,
    ADD COLUMN IF NOT EXISTS traceparent varchar(55);

-- The order in which jobs are leased; the leasing statement's ORDER BY is this index, so that no statistics are needed.
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_ready ON _ayb_jobs (queue, priority, run_at, id) WHERE state = 'queued';
-- Lists show the newest first. What runs is found by its lease: without it here, leasing a job has one index less to write.
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_created ON _ayb_jobs (created_at, id) WITH (fillfactor = 50)
    WHERE state <> 'running';
-- The few that did not end well: listed by state and type, counted, and pruned, among any number of completed ones.
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_failed ON _ayb_jobs (created_at, id, type) WHERE state = 'failed';
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_canceled ON _ayb_jobs (created_at, id, type) WHERE state = 'canceled';
-- Jobs of a schedule, for overlap rules and for deleting a schedule.
CREATE INDEX IF NOT EXISTS idx_ayb_jobs_schedule ON _ayb_jobs (schedule_id) WHERE schedule_id IS NOT NULL;
