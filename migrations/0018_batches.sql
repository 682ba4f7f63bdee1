-- Batches: jobs with one end, and callbacks that are enqueued when it comes. A batch is sealed once its maker has added
-- what it wanted, and done once it is sealed and none of its members waits or runs. Nothing is counted in advance: the
-- resolver locks the batch, and looks in the next statement. Whoever adds a member shares that lock. `batch_id` refers
-- to no table by a foreign key, whose lock would let a batch end with a member open. The totals are those at the end.
ALTER TABLE _ayb_jobs ADD COLUMN IF NOT EXISTS batch_id uuid;

CREATE INDEX IF NOT EXISTS idx_ayb_jobs_batch ON _ayb_jobs (batch_id, state, id) WHERE batch_id IS NOT NULL;

CREATE TABLE _ayb_job_batches (
    id uuid PRIMARY KEY,
    description varchar(200),
    traceparent varchar(55),
    created_at timestamptz NOT NULL DEFAULT now(),
    sealed_at timestamptz,
    canceled_at timestamptz,
    done_at timestamptz,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    canceled bigint NOT NULL DEFAULT 0,
    first_failed_id uuid,
    first_error varchar(1000)
);

CREATE INDEX idx_ayb_job_batches_sealed ON _ayb_job_batches (id) WHERE done_at IS NULL AND sealed_at IS NOT NULL;

-- What is enqueued at the end, for each event. The id of its job is drawn when the batch is made, so that no event can
-- have two.
CREATE TABLE _ayb_job_batch_callbacks (
    batch_id uuid NOT NULL,
    event varchar(10) NOT NULL CHECK (event IN ('success', 'failure', 'done')),
    job_id uuid NOT NULL,
    type varchar(100) NOT NULL CHECK (type <> ''),
    payload jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    queue varchar(100) NOT NULL DEFAULT 'default' CHECK (queue <> ''),
    priority smallint NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 4),
    max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
    PRIMARY KEY (batch_id, event)
);

-- For callers who may insert jobs and not update them. Each statement of a volatile function has a snapshot of its own.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    -- Makes a batch. `p_callbacks` holds an object for each event, with the columns of the callback.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_batch_open(p_description text, p_callbacks jsonb, p_traceparent text) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            made uuid := TABLES._ayb_job_id();
        BEGIN
            INSERT INTO TABLES._ayb_job_batches (id, description, traceparent) VALUES (made, p_description, p_traceparent);
            INSERT INTO TABLES._ayb_job_batch_callbacks
                (batch_id, event, job_id, type, payload, queue, priority, max_attempts)
            SELECT made, event, TABLES._ayb_job_id(), it ->> 'type', coalesce(it -> 'payload', '{}'), coalesce(it ->> 'queue', 'default'),
                coalesce((it ->> 'priority')::smallint, 2::smallint), coalesce((it ->> 'max_attempts')::int, 3)
            FROM jsonb_each(coalesce(p_callbacks, '{}')) AS callback (event, it);
            RETURN made;
        END
        $body$
    $create$, 'TABLES.', tables || '.');

    -- Keeps a batch from its end until the caller's transaction has ended: `open` if it takes members, else why not.
    -- Sequential scans are off here and below: the tables may be small or never analyzed when a plan is made, and grow
    -- while it is kept.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_batch_join(p_batch uuid) RETURNS text
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            SET enable_seqscan = off AS $body$
        DECLARE
            became text;
        BEGIN
            SELECT CASE WHEN batch.done_at IS NOT NULL THEN 'done' WHEN batch.canceled_at IS NOT NULL THEN 'canceled' ELSE 'open' END
            INTO became
            FROM TABLES._ayb_job_batches AS batch WHERE batch.id = p_batch FOR SHARE;
            RETURN coalesce(became, 'missing');
        END
        $body$
    $create$, 'TABLES.', tables || '.');

    -- Seals a batch, behind all who add to it; tells whether there is one. An end that comes later is looked for by the
    -- daemon that brings it, and one that came before by whoever hears this. It asks for a member that waits or runs in
    -- the order of the batch's index, which finds one if there is one. Without an order the server may walk over all
    -- jobs that wait, of which most are in other batches.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_batch_seal(p_batch uuid) RETURNS boolean
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            SET enable_seqscan = off SET enable_sort = off AS $body$
        BEGIN
            UPDATE TABLES._ayb_job_batches AS batch SET sealed_at = now() WHERE batch.id = p_batch AND batch.sealed_at IS NULL;
            IF NOT FOUND THEN
                RETURN EXISTS (SELECT FROM TABLES._ayb_job_batches AS batch WHERE batch.id = p_batch);
            END IF;
            IF pg_notification_queue_usage() < 0.5 AND coalesce(
                (SELECT job.id FROM TABLES._ayb_jobs AS job
                WHERE job.batch_id = p_batch AND job.state = 'queued' ORDER BY job.id DESC LIMIT 1),
                (SELECT job.id FROM TABLES._ayb_jobs AS job
                WHERE job.batch_id = p_batch AND job.state = 'running' ORDER BY job.id DESC LIMIT 1)
            ) IS NULL THEN
                PERFORM pg_notify('ayb_jobs', 'batch');
            END IF;
            RETURN true;
        END
        $body$
    $create$, 'TABLES.', tables || '.');
END
$make$;
