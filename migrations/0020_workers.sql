-- What workers in any language share with daemons, below the functions that they call, and nobody's to call but the
-- owner's.

-- The jobs that the database refuses to lease, as workers in any language met them: who was refused, why, and when the
-- job is tried again. Workers keep nothing between their calls, and the row itself cannot be changed. Without a memory
-- a look would end among the refused jobs at the front of the queue, again and again.
CREATE TABLE _ayb_job_refusals (
    job_id uuid PRIMARY KEY,
    worker_id varchar(100) NOT NULL,
    error text NOT NULL,
    retry_s int NOT NULL CHECK (retry_s BETWEEN 1 AND 60),
    retry_at timestamptz NOT NULL
);

CREATE INDEX idx_ayb_job_refusals_retry ON _ayb_job_refusals (retry_at);

DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    -- Remembers a job that the database refuses to lease. It is tried again after 15, 30 and then every 60 seconds,
    -- sooner at first if the error may pass by itself. Whoever tries a job has locked its row: two workers never write
    -- the same row here, nor wait for each other.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_refuse(p_id uuid, p_worker text, p_error text DEFAULT NULL, p_code text DEFAULT '')
            RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            why text := left(coalesce(p_error, 'a trigger or a rule keeps it as it is'), 500);
            first_s int := CASE WHEN p_code ~ '^(40|53|55P03|25006|08|57P)' THEN 1 ELSE 15 END;
        BEGIN
            RAISE WARNING 'job % was not leased: %', p_id, why;
            PERFORM FROM TABLES._ayb_jobs AS job WHERE job.id = p_id FOR NO KEY UPDATE SKIP LOCKED;
            IF FOUND THEN
                INSERT INTO TABLES._ayb_job_refusals AS refusal (job_id, worker_id, error, retry_s, retry_at)
                VALUES (p_id, p_worker, why, first_s, now() + first_s * interval '1 second')
                ON CONFLICT (job_id) DO UPDATE
                SET worker_id = excluded.worker_id, error = excluded.error, retry_s = least(2 * refusal.retry_s, 60),
                    retry_at = now() + least(2 * refusal.retry_s, 60) * interval '1 second';
            END IF;
        END
        $body$
    $create$, 'TABLES.', tables || '.');

    -- Lets those jobs of a schedule start that wait for an earlier one, if none runs.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_free_successors(p_schedule_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE
            SET search_path = pg_catalog, pg_temp AS $body$
            WITH found AS MATERIALIZED (
                SELECT successor.id
                FROM TABLES._ayb_jobs AS successor
                WHERE successor.schedule_id = ANY (p_schedule_ids) AND
                    successor.state = 'queued' AND successor.run_at = timestamptz '9999-12-31 00:00:00+00' AND successor.blocked_run_at IS NULL
                    AND successor.scheduled_for IS NOT NULL
                    AND NOT EXISTS (
                        SELECT FROM TABLES._ayb_jobs AS earlier
                        WHERE earlier.schedule_id = successor.schedule_id AND earlier.state = 'running'
                    )
                ORDER BY successor.id
                FOR NO KEY UPDATE OF successor SKIP LOCKED
            ), freed AS (
                UPDATE TABLES._ayb_jobs AS job
                SET run_at = greatest(now(), job.scheduled_for), updated_at = now()
                FROM found
                WHERE job.id = found.id
                RETURNING job.id, job.run_at
            )
            SELECT count(*), CASE WHEN pg_notification_queue_usage() < 0.5 AND count(*) > 0 THEN pg_notify('ayb_jobs', '')::text END
            FROM freed
            WHERE run_at < timestamptz '9999-12-31 00:00:00+00'
        $body$
    $create$, 'TABLES.', tables || '.');

    -- An error, cut in the middle if it is long, with dots that the database's encoding has.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_error(p_error text) RETURNS text LANGUAGE sql STABLE
            SET search_path = pg_catalog, pg_temp AS $body$
            SELECT CASE
                WHEN length(p_error) <= 16384 THEN p_error
                ELSE left(p_error, 8192) || E'\n' || dots.text || ' ' || length(p_error) - 16384 || ' characters left out '
                    || dots.text || E'\n' || right(p_error, 8192)
            END
            FROM (SELECT chr(CASE getdatabaseencoding() WHEN 'UTF8' THEN 8230 ELSE 46 END) AS text) AS dots
        $body$
    $create$, 'TABLES.', tables || '.');

    -- A worker may lease in a transaction that stays open. Nobody sees such a lease, so a pause or a limit that comes
    -- meanwhile could count as in force, and the job start beside it. What can be seen is a lock: each lease shares
    -- one, for as long as its transaction lasts, whose number says up to which pause or limit it obeys. A pause that is
    -- committed between the look and the lock is found by the second look. A transaction that stays open cannot be told
    -- from a statement by itself: by the protocol that most drivers speak, both begin earlier than the statement that
    -- runs.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_begin_leasing() RETURNS void LANGUAGE plpgsql VOLATILE
            SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            numbers bigint[];
            locked bigint[];
        BEGIN
            LOOP
                numbers := ARRAY[
                    (SELECT coalesce(max(it.id), 0) FROM TABLES._ayb_job_pauses AS it),
                    (SELECT coalesce(max(it.id), 0) FROM TABLES._ayb_job_limits AS it)
                ];
                EXIT WHEN numbers = locked;
                PERFORM pg_advisory_xact_lock_shared(
                    (kind.id - CASE WHEN kind.id > 2147483647 THEN 4294967296 ELSE 0 END)::int,
                    least(kind.number, 2147483647)::int
                ) FROM unnest(
                    ARRAY['TABLES._ayb_job_pauses'::regclass::oid::bigint, 'TABLES._ayb_job_limits'::regclass::oid::bigint], numbers
                ) AS kind (id, number);
                locked := numbers;
            END LOOP;
        END
        $body$
    $create$, 'TABLES.', tables || '.');

    -- A worker is known like a daemon: its row says that it lives, what it runs, and up to which pause and limit it
    -- obeys. Each of its looks obeys all that were there before, so it confirms them here. What it runs already of a
    -- type that has become limited counts from here on; what it has leased and not committed cannot yet, so that the
    -- limit is not confirmed. Locks are read before the rows that are judged by them: in one statement the rows would
    -- be the older ones. The row is written every ten seconds, or if anything in it changes. No call waits for another
    -- one of the same worker that is not committed, or leases would run out meanwhile: it leaves the row as it is. Returns
    -- whether the worker is to take no more jobs. Without queues, only the row of a known worker is kept fresh.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_worker_beat(p_worker text, p_queues text[], p_types text[], p_room int) RETURNS boolean
            LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            seen record;
            running_id uuid;
            is_open boolean;
            patience text := current_setting('lock_timeout');
            newest_pause bigint := coalesce((SELECT max(it.id) FROM TABLES._ayb_job_pauses AS it), 0);
            newest_limit bigint := coalesce((SELECT max(it.id) FROM TABLES._ayb_job_limits AS it), 0);
        BEGIN
            SELECT it.version, it.queues, it.types, it.heartbeat_at, it.pauses_confirmed, it.limits_confirmed,
                it.drain_requested_at, it.concurrency
            INTO seen FROM TABLES._ayb_job_workers AS it WHERE it.id = p_worker;
            IF FOUND AND seen.version <> 'sql' THEN
                RAISE EXCEPTION 'worker is %, the id of a daemon; give each of your processes an id of its own', p_worker
                    USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF p_queues IS NULL AND seen.version IS NULL THEN
                RETURN false;
            END IF;
            p_queues := coalesce(p_queues, seen.queues);
            p_types := coalesce(p_types, seen.types);
            IF seen.heartbeat_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp() + interval '10 s' AND seen.queues = p_queues
                AND seen.types = p_types AND seen.pauses_confirmed = newest_pause AND seen.limits_confirmed = newest_limit
            THEN
                RETURN seen.drain_requested_at IS NOT NULL;
            END IF;
            PERFORM set_config('lock_timeout', '50ms', true);
            IF seen.limits_confirmed IS DISTINCT FROM newest_limit AND newest_limit > 0 THEN
                is_open := EXISTS (
                    SELECT FROM pg_locks AS open
                    WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted AND open.pid <> pg_backend_pid()
                        AND open.database = (SELECT it.oid FROM pg_database AS it WHERE it.datname = current_database())
                        AND open.classid = 'TABLES._ayb_job_limits'::regclass AND open.objid::bigint < newest_limit
                );
                FOR running_id IN
                    SELECT job.id
                    FROM TABLES._ayb_jobs AS job JOIN TABLES._ayb_job_limits AS it ON job.type = ANY (it.types)
                    WHERE job.state = 'running' AND job.worker_id = p_worker
                        AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM it.name)
                LOOP
                    BEGIN
                        PERFORM TABLES._ayb_job_put_under(ARRAY[running_id]);
                    EXCEPTION
                        WHEN lock_not_available THEN
                            EXIT;  -- somebody holds the limit
                        WHEN others THEN
                            RAISE WARNING 'job % was not put under its limit: %', running_id, SQLERRM;
                    END;
                END LOOP;
                IF EXISTS (
                    SELECT
                    FROM TABLES._ayb_jobs AS job JOIN TABLES._ayb_job_limits AS it ON job.type = ANY (it.types)
                    WHERE job.state = 'running' AND job.worker_id = p_worker
                        AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM it.name)
                ) OR is_open THEN  -- some rows are locked, refused, or leased in a transaction that is not committed
                    newest_limit := seen.limits_confirmed;
                END IF;
            END IF;
            PERFORM FROM TABLES._ayb_job_workers AS it WHERE it.id = p_worker FOR NO KEY UPDATE SKIP LOCKED;
            IF NOT FOUND AND seen.version IS NOT NULL THEN
                PERFORM set_config('lock_timeout', patience, true);
                RETURN seen.drain_requested_at IS NOT NULL;
            END IF;
            BEGIN
                INSERT INTO TABLES._ayb_job_workers AS it
                    (id, host, pid, version, concurrency, queues, types, pauses_confirmed, limits_confirmed, heartbeat_at)
                VALUES (
                    p_worker, coalesce(host(inet_client_addr()), 'local'), 0, 'sql',
                    coalesce(p_room + (SELECT count(*)::int FROM TABLES._ayb_jobs AS job WHERE job.state = 'running' AND job.worker_id = p_worker),
                        seen.concurrency),
                    p_queues, p_types, newest_pause, newest_limit, clock_timestamp()
                )
                ON CONFLICT (id) DO UPDATE
                SET heartbeat_at = excluded.heartbeat_at, concurrency = excluded.concurrency, queues = excluded.queues, types = excluded.types,
                    pauses_confirmed = excluded.pauses_confirmed, limits_confirmed = excluded.limits_confirmed
                WHERE it.version = 'sql';
            EXCEPTION WHEN lock_not_available THEN
                NULL;  -- another call has made it, and is not committed
            END;
            PERFORM set_config('lock_timeout', patience, true);
            RETURN seen.drain_requested_at IS NOT NULL;
        END
        $body$
    $create$, 'TABLES.', tables || '.');
END
$make$;
