-- What workers in any language share with daemons. They call the functions of the file behind this one; what is here is
-- below them, and nobody's to call but the owner's.

-- Behind which key a worker's next look under a limit begins, since workers keep nothing between their calls.
ALTER TABLE _ayb_job_limits ADD COLUMN worker_after varchar(200) NOT NULL DEFAULT '';

DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    -- Puts those of these jobs under their limits that wait or run beside them. A list or an object in the payload is no
    -- key: its text may be a gigabyte, though it is stored in a page.
    EXECUTE format($create$
        CREATE FUNCTION %1$s._ayb_job_put_under(p_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE
            SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $body$
    WITH limited_types AS MATERIALIZED (
        SELECT type, limits.name, limits.key_field
        FROM %1$s._ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
    ), due AS MATERIALIZED (
        SELECT id, type
        FROM %1$s._ayb_jobs
        WHERE id = ANY (p_ids) AND state IN ('queued', 'running') AND priority <= 4
            AND type = ANY (ARRAY(SELECT type FROM limited_types))
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE %1$s._ayb_jobs AS job
    SET priority = job.priority + 4, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
    FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
        SELECT CASE WHEN length(long) <= 200 THEN long ELSE encode(sha256(convert_to(long, 'UTF8')), 'hex') END AS short
        FROM (
            SELECT coalesce(
                keyed.limit_key,
                CASE WHEN jsonb_typeof(keyed.payload -> limited_types.key_field) NOT IN ('array', 'object')
                    THEN keyed.payload ->> limited_types.key_field END,
                '') AS long
            FROM %1$s._ayb_jobs AS keyed WHERE keyed.id = due.id
        ) AS given
    ) AS key
    WHERE job.id = ANY (ARRAY(SELECT id FROM due)) AND job.id = due.id
        $body$
    $create$, tables);

    -- Lets those jobs of a schedule start that wait for an earlier one, if none runs.
    EXECUTE format($create$
        CREATE FUNCTION %1$s._ayb_job_free_successors(p_schedule_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE
            SET search_path = pg_catalog, pg_temp AS $body$
    WITH found AS MATERIALIZED (
        SELECT successor.id
        FROM %1$s._ayb_jobs AS successor
        WHERE successor.schedule_id = ANY (p_schedule_ids) AND
            successor.state = 'queued' AND successor.run_at = timestamptz '9999-12-31 00:00:00+00' AND successor.blocked_run_at IS NULL
            AND NOT EXISTS (
                SELECT FROM %1$s._ayb_jobs AS earlier
                WHERE earlier.schedule_id = successor.schedule_id AND earlier.state = 'running'
            )
        ORDER BY successor.id
        FOR NO KEY UPDATE OF successor SKIP LOCKED
    ), freed AS (
        UPDATE %1$s._ayb_jobs AS job
        SET run_at = greatest(now(), job.scheduled_for), updated_at = now()
        FROM found
        WHERE job.id = found.id
        RETURNING job.id, job.run_at
    )
    SELECT count(*), CASE WHEN pg_notification_queue_usage() < 0.5 AND count(*) > 0 THEN pg_notify('ayb_jobs', '')::text END
    FROM freed
    WHERE run_at < timestamptz '9999-12-31 00:00:00+00'
        $body$
    $create$, tables);

    -- An error, cut in the middle if it is long, with dots that the database's encoding has.
    EXECUTE format($create$
        CREATE FUNCTION %1$s._ayb_job_error(p_error text) RETURNS text LANGUAGE sql STABLE
            SET search_path = pg_catalog, pg_temp AS $body$
            SELECT CASE
                WHEN length(p_error) <= 16384 THEN p_error
                ELSE left(p_error, 8192) || E'\n' || dots.text || ' ' || length(p_error) - 16384 || ' characters left out '
                    || dots.text || E'\n' || right(p_error, 8192)
            END
            FROM (SELECT chr(CASE getdatabaseencoding() WHEN 'UTF8' THEN 8230 ELSE 46 END) AS text) AS dots
        $body$
    $create$, tables);

    -- A worker is known like a daemon: its row says that it lives, what it runs, and up to which pause and limit it obeys.
    -- Each of its looks obeys all that were there before, so it confirms them here. What it runs already of a type that
    -- has become limited counts from here on. The row is written every ten seconds, or if anything in it changes.
    -- Returns whether the worker is to take no more jobs. Without queues, only the row of a known worker is kept fresh.
    EXECUTE format($create$
        CREATE FUNCTION %1$s._ayb_job_worker_beat(p_worker text, p_queues text[], p_types text[], p_room int) RETURNS boolean
            LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            seen record;
            newest_pause bigint := coalesce((SELECT max(it.id) FROM %1$s._ayb_job_pauses AS it), 0);
            newest_limit bigint := coalesce((SELECT max(it.id) FROM %1$s._ayb_job_limits AS it), 0);
        BEGIN
            SELECT it.version, it.queues, it.types, it.heartbeat_at, it.pauses_confirmed, it.limits_confirmed,
                it.drain_requested_at, it.concurrency
            INTO seen FROM %1$s._ayb_job_workers AS it WHERE it.id = p_worker;
            IF FOUND AND seen.version <> 'sql' THEN
                RAISE EXCEPTION 'worker is %%, the id of a daemon; give each of your processes an id of its own', p_worker
                    USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF p_queues IS NULL AND seen.version IS NULL THEN
                RETURN false;
            END IF;
            p_queues := coalesce(p_queues, seen.queues);
            p_types := coalesce(p_types, seen.types);
            IF seen.heartbeat_at BETWEEN now() - interval '10 s' AND now() + interval '10 s' AND seen.queues = p_queues
                AND seen.types = p_types AND seen.pauses_confirmed = newest_pause AND seen.limits_confirmed = newest_limit
            THEN
                RETURN seen.drain_requested_at IS NOT NULL;
            END IF;
            IF seen.limits_confirmed IS DISTINCT FROM newest_limit AND newest_limit > 0 THEN
                PERFORM %1$s._ayb_job_put_under(ARRAY(
                    SELECT job.id FROM %1$s._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.worker_id = p_worker AND job.priority <= 4));
                IF EXISTS (
                    SELECT FROM %1$s._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.worker_id = p_worker AND job.priority <= 4
                        AND job.type = ANY (ARRAY(SELECT unnest(it.types) FROM %1$s._ayb_job_limits AS it))
                ) THEN  -- some rows are locked
                    newest_limit := seen.limits_confirmed;
                END IF;
            END IF;
            INSERT INTO %1$s._ayb_job_workers AS it
                (id, host, pid, version, concurrency, queues, types, pauses_confirmed, limits_confirmed)
            VALUES (
                p_worker, coalesce(host(inet_client_addr()), 'local'), 0, 'sql',
                coalesce(p_room + (SELECT count(*)::int FROM %1$s._ayb_jobs AS job WHERE job.state = 'running' AND job.worker_id = p_worker),
                    seen.concurrency),
                p_queues, p_types, newest_pause, newest_limit
            )
            ON CONFLICT (id) DO UPDATE
            SET heartbeat_at = now(), concurrency = excluded.concurrency, queues = excluded.queues, types = excluded.types,
                pauses_confirmed = excluded.pauses_confirmed, limits_confirmed = excluded.limits_confirmed
            WHERE it.version = 'sql';
            RETURN seen.drain_requested_at IS NOT NULL;
        END
        $body$
    $create$, tables);
END
$make$;
