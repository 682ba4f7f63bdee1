-- A job that the database refuses to lease is told, remembered, and passed over: so each call gets to the jobs behind it.
-- It is tried again after 15, 30 and then every 60 seconds, sooner at first if the error may pass by itself. A lease that
-- cannot be extended, and a running job that cannot be put under a limit, keep no other from it.
--
-- The functions stand here whole. Those of the files before are patched by later ones, and who makes the functions for
-- a role that could make no schema runs the files whose names end in `_functions`.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    change record;
    definition text;
    written text;
BEGIN
    -- Whoever tries a job has locked its row: two workers never write the same row here, nor wait for each other.
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s._ayb_job_refuse(p_id uuid, p_worker text, p_error text DEFAULT NULL, p_code text DEFAULT '')
            RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            why text := left(coalesce(p_error, 'a trigger or a rule keeps it as it is'), 500);
            first_s int := CASE WHEN p_code ~ '^(40|53|55P03|25006|08|57P)' THEN 1 ELSE 15 END;
        BEGIN
            RAISE WARNING 'job %% was not leased: %%', p_id, why;
            PERFORM FROM %1$s._ayb_jobs AS job WHERE job.id = p_id FOR NO KEY UPDATE SKIP LOCKED;
            IF FOUND THEN
                INSERT INTO %1$s._ayb_job_refusals AS refusal (job_id, worker_id, error, retry_s, retry_at)
                VALUES (p_id, p_worker, why, first_s, now() + first_s * interval '1 second')
                ON CONFLICT (job_id) DO UPDATE
                SET worker_id = excluded.worker_id, error = excluded.error, retry_s = least(2 * refusal.retry_s, 60),
                    retry_at = now() + least(2 * refusal.retry_s, 60) * interval '1 second';
            END IF;
        END
        $body$
    $create$, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s._ayb_job_worker_beat(p_worker text, p_queues text[], p_types text[], p_room int)
            RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            seen record;
            running_id uuid;
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
                FOR running_id IN
                    SELECT job.id FROM %1$s._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.worker_id = p_worker AND job.priority <= 4
                LOOP
                    BEGIN
                        PERFORM %1$s._ayb_job_put_under(ARRAY[running_id]);
                    EXCEPTION WHEN others THEN
                        RAISE WARNING 'job %% was not put under its limit: %%', running_id, SQLERRM;
                    END;
                END LOOP;
                IF EXISTS (
                    SELECT FROM %1$s._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.worker_id = p_worker AND job.priority <= 4
                        AND job.type = ANY (ARRAY(SELECT unnest(it.types) FROM %1$s._ayb_job_limits AS it))
                ) OR EXISTS (
                    SELECT FROM pg_locks AS open
                    WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted AND open.pid <> pg_backend_pid()
                        AND open.database = (SELECT it.oid FROM pg_database AS it WHERE it.datname = current_database())
                        AND open.classid = '%1$s._ayb_job_limits'::regclass AND open.objid::bigint < newest_limit
                ) THEN  -- some rows are locked, refused, or leased in a transaction that is not committed
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

    IF to_regprocedure(place || '.ayb_jobs_lease(text, text[], text[], integer, double precision)') IS NULL THEN
        RETURN;  -- they could not be made before either
    END IF;

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_lease(
            worker text,
            types text[],
            queues text[] DEFAULT '{default}',
            n int DEFAULT 1,
            lease_s float8 DEFAULT 60
        ) RETURNS TABLE (
            id uuid, lease_id uuid, type text, payload text, queue text, priority int, attempt int, max_attempts int,
            run_at timestamptz, scheduled_for timestamptz, timeout_s float8, traceparent text
        ) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $body$
        #variable_conflict use_column
        DECLARE
            found record;
            ids uuid[];
            leased uuid[] := '{}';
            met uuid[] := '{}';  -- what a look has met already, whatever became of it
            spare int := ayb_jobs_lease.n;
            asked int;
            seen int;
            key text;
            given int;
            kept uuid[];
            kept_id uuid;
            passed_over uuid[] := '{}';
            has_refusals boolean := EXISTS (SELECT FROM %2$s._ayb_job_refusals);
            again uuid[] := '{}';  -- what was refused before, and may be tried again
            refused int;
        BEGIN
            IF coalesce(ayb_jobs_lease.worker, '') !~ '\S' THEN
                RAISE EXCEPTION 'worker is empty; it is required' USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF length(ayb_jobs_lease.worker) > 100 THEN
                RAISE EXCEPTION 'worker has %% characters; at most 100 are allowed', length(ayb_jobs_lease.worker)
                    USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF coalesce(cardinality(ayb_jobs_lease.types), 0) = 0 OR array_position(ayb_jobs_lease.types, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'types names no job type, or a null; it takes the names of the types that the worker runs'
                    USING ERRCODE = '22023', COLUMN = 'types';
            ELSIF coalesce(cardinality(ayb_jobs_lease.queues), 0) = 0 OR array_position(ayb_jobs_lease.queues, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'queues names no queue, or a null; it takes names of queues'
                    USING ERRCODE = '22023', COLUMN = 'queues';
            ELSIF ayb_jobs_lease.n IS NULL OR ayb_jobs_lease.n NOT BETWEEN 1 AND 1000 THEN
                RAISE EXCEPTION 'n is %%; it goes from 1 to 1000', ayb_jobs_lease.n USING ERRCODE = '22023', COLUMN = 'n';
            ELSIF ayb_jobs_lease.lease_s IS NULL OR ayb_jobs_lease.lease_s NOT BETWEEN 1 AND 86400 THEN
                RAISE EXCEPTION 'lease_s is %%; it goes from 1 to 86400 seconds', ayb_jobs_lease.lease_s
                    USING ERRCODE = '22023', COLUMN = 'lease_s';
            ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
                RAISE EXCEPTION 'the transaction is %%; jobs are leased in READ COMMITTED, or limits could not be exact',
                    upper(current_setting('transaction_isolation')) USING ERRCODE = '25001';
            END IF;
            PERFORM %2$s._ayb_job_begin_leasing();
            IF %2$s._ayb_job_worker_beat(ayb_jobs_lease.worker, ayb_jobs_lease.queues, ayb_jobs_lease.types, ayb_jobs_lease.n) THEN
                RETURN;  -- an operator drains it
            END IF;

            -- What was refused lately is passed over, but for a few whose wait is over. A retry that nobody could make for
            -- ten minutes is forgotten, and so is one that the clock puts far ahead.
            IF has_refusals THEN
                DELETE FROM %2$s._ayb_job_refusals AS refusal WHERE refusal.job_id = ANY (ARRAY(
                    SELECT old.job_id FROM %2$s._ayb_job_refusals AS old
                    WHERE old.retry_at < now() - interval '10 minutes' OR old.retry_at > now() + interval '2 minutes'
                    FOR UPDATE SKIP LOCKED));
                again := ARRAY(
                    SELECT refusal.job_id
                    FROM (
                        SELECT due.job_id, due.retry_at FROM %2$s._ayb_job_refusals AS due
                        WHERE due.retry_at <= now() ORDER BY due.retry_at LIMIT 10000
                    ) AS refusal JOIN %2$s._ayb_jobs AS job ON job.id = refusal.job_id
                    WHERE job.state = 'queued' AND job.run_at <= now() AND job.type = ANY (ayb_jobs_lease.types)
                        AND job.queue = ANY (ayb_jobs_lease.queues)
                    ORDER BY refusal.retry_at
                    LIMIT 16);
            END IF;

            -- Jobs under limits and others come first in turn, so that neither takes all the room. What a look at the
            -- others has put under its limit can be leased at once.
            FOR turn IN 1..3 LOOP
                CONTINUE WHEN turn = 1 AND random() < 0.5;
                EXIT WHEN spare <= 0;
                IF turn <> 2 THEN
                    FOR found IN
                        SELECT it.name, it.worker_after FROM %2$s._ayb_job_limits AS it
                        WHERE it.types && ayb_jobs_lease.types::varchar[] ORDER BY random()
                    LOOP
                        passed_over := CASE WHEN has_refusals THEN ARRAY(
                            SELECT refusal.job_id
                            FROM %2$s._ayb_job_refusals AS refusal JOIN %2$s._ayb_jobs AS job ON job.id = refusal.job_id
                            WHERE job.limited_by = found.name AND job.state = 'queued' AND refusal.job_id <> ALL (again)
                            LIMIT 10000
                        ) ELSE '{}' END;
                        refused := 0;
                        LOOP
                        EXIT WHEN spare <= 0 OR refused >= 1000;
                        kept := '{}';
                        BEGIN
                            SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL), max(look.last_key),
                                array_agg(chosen.id) FILTER (WHERE chosen.id IS NOT NULL)
                            INTO ids, key, kept
                            FROM %2$s._ayb_job_lease_limited(
                                found.name, spare, ayb_jobs_lease.types, ayb_jobs_lease.queues, passed_over, NULL, found.worker_after,
                                ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true, current_setting('search_path')
                            ) AS look LEFT JOIN LATERAL unnest(look.picked) AS chosen (id) ON true;
                            UPDATE %2$s._ayb_job_limits AS it SET worker_after = key
                            WHERE it.name = found.name AND key <> found.worker_after;
                            leased := leased || ids;
                            kept := ARRAY(SELECT unnest(kept) EXCEPT SELECT unnest(ids));
                            FOREACH kept_id IN ARRAY kept LOOP
                                PERFORM %2$s._ayb_job_refuse(kept_id, ayb_jobs_lease.worker);
                                has_refusals := true;
                                again := array_remove(again, kept_id);
                                refused := refused + 1;
                            END LOOP;
                            passed_over := passed_over || kept;
                        EXCEPTION WHEN others THEN
                            -- Which job it is cannot be told, so each is tried by itself.
                            FOR kept_id IN
                                SELECT job.id FROM %2$s._ayb_jobs AS job
                                WHERE job.state = 'queued' AND job.limited_by = found.name AND job.run_at <= now()
                                    AND job.type = ANY (ayb_jobs_lease.types) AND job.queue = ANY (ayb_jobs_lease.queues)
                                    AND job.id <> ALL (passed_over)
                                ORDER BY job.priority, job.run_at, job.id
                                LIMIT 1000
                            LOOP
                                EXIT WHEN spare <= 0;
                                BEGIN
                                    SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL) INTO ids
                                    FROM %2$s._ayb_job_lease_limited(
                                        found.name, 1, ayb_jobs_lease.types, ayb_jobs_lease.queues, '{}', ARRAY[kept_id],
                                        found.worker_after, ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true,
                                        current_setting('search_path')
                                    ) AS look;
                                    leased := leased || ids;
                                    spare := ayb_jobs_lease.n - cardinality(leased);
                                EXCEPTION WHEN others THEN
                                    PERFORM %2$s._ayb_job_refuse(kept_id, ayb_jobs_lease.worker, SQLERRM, SQLSTATE);
                                    has_refusals := true;
                                    again := array_remove(again, kept_id);
                                END;
                            END LOOP;
                        END;
                        spare := ayb_jobs_lease.n - cardinality(leased);
                        EXIT WHEN cardinality(kept) = 0;
                        END LOOP;
                    END LOOP;
                    CONTINUE;
                END IF;
                -- One that the database refuses to change is told and passed over. After a thousand the call ends, and the
                -- next one goes on behind them.
                WHILE spare > 0 AND cardinality(met) < 1000 LOOP
                    asked := spare;
                    seen := 0;
                    FOR found IN
                        SELECT next_in_priority.id, next_in_priority.type = ANY (ARRAY(
                            SELECT unnest(it.types) FROM %2$s._ayb_job_limits AS it)) AS is_limited
                        FROM generate_series(1, 4) AS level (priority)
                        CROSS JOIN LATERAL (
                            SELECT next_in_lane.id, next_in_lane.type
                            FROM unnest(ayb_jobs_lease.queues) AS lane (queue)
                            CROSS JOIN LATERAL (
                                SELECT job.run_at, job.id, job.type
                                FROM %2$s._ayb_jobs AS job
                                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                                    AND job.run_at <= now() AND job.id <> ALL (met)
                                    AND (NOT has_refusals OR job.id = ANY (again) OR NOT EXISTS (
                                        SELECT FROM %2$s._ayb_job_refusals AS refusal WHERE refusal.job_id = job.id OFFSET 0))
                                    AND job.type = ANY (ARRAY(
                                        SELECT name FROM unnest(ayb_jobs_lease.types) AS name
                                        WHERE name <> ALL (ARRAY(
                                            SELECT pause.name FROM %2$s._ayb_job_pauses AS pause
                                            WHERE pause.kind = 'type' AND (pause.until IS NULL OR pause.until > now())
                                        ))
                                    ))
                                ORDER BY job.run_at, job.id
                                LIMIT asked
                                FOR UPDATE SKIP LOCKED
                            ) AS next_in_lane
                            WHERE lane.queue <> ALL (ARRAY(
                                SELECT pause.name FROM %2$s._ayb_job_pauses AS pause
                                WHERE pause.kind = 'queue' AND (pause.until IS NULL OR pause.until > now())
                            ))
                            ORDER BY next_in_lane.run_at, next_in_lane.id
                            LIMIT asked
                        ) AS next_in_priority
                        LIMIT asked
                    LOOP
                        seen := seen + 1;
                        met := met || found.id;
                        BEGIN
                            IF found.is_limited THEN
                                PERFORM %2$s._ayb_job_put_under(ARRAY[found.id]);
                                IF EXISTS (
                                    SELECT FROM %2$s._ayb_jobs AS job
                                    WHERE job.id = found.id AND job.state = 'queued' AND job.priority <= 4
                                        AND job.type = ANY (ARRAY(SELECT unnest(it.types) FROM %2$s._ayb_job_limits AS it))
                                ) THEN
                                    PERFORM %2$s._ayb_job_refuse(found.id, ayb_jobs_lease.worker);
                                    has_refusals := true;
                                END IF;
                            ELSE
                                UPDATE %2$s._ayb_jobs AS job
                                SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
                                    lease_id = gen_random_uuid(),
                                    lease_until = now() + ayb_jobs_lease.lease_s * interval '1 second', worker_id = ayb_jobs_lease.worker,
                                    execution_id = nextval('%2$s._ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
                                    unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
                                WHERE job.id = found.id
                                RETURNING CASE WHEN job.state = 'running' THEN ARRAY[job.id] END INTO ids;
                                IF ids IS NULL THEN
                                    PERFORM %2$s._ayb_job_refuse(found.id, ayb_jobs_lease.worker);
                                    has_refusals := true;
                                END IF;
                                leased := leased || ids;
                            END IF;
                        EXCEPTION WHEN others THEN
                            PERFORM %2$s._ayb_job_refuse(found.id, ayb_jobs_lease.worker, SQLERRM, SQLSTATE);
                            has_refusals := true;
                        END;
                    END LOOP;
                    spare := ayb_jobs_lease.n - cardinality(leased);
                    EXIT WHEN seen < asked;
                END LOOP;
            END LOOP;

            RETURN QUERY
            SELECT job.id, job.lease_id, job.type::text, written.payload, job.queue::text,
                CASE WHEN job.priority > 4 THEN job.priority - 4 ELSE job.priority END::int, job.attempts, job.max_attempts,
                job.run_at, job.scheduled_for, job.timeout_s, job.traceparent::text
            FROM %2$s._ayb_jobs AS job
            CROSS JOIN LATERAL (SELECT %2$s._ayb_job_text(job.payload) AS payload OFFSET 0) AS written
            WHERE job.id = ANY (leased) AND job.lease_id IS NOT NULL AND written.payload IS NOT NULL
            ORDER BY 6, job.run_at, job.id;
            GET DIAGNOSTICS given = ROW_COUNT;
            IF given < cardinality(leased) THEN
                FOR found IN
                    SELECT job.id, job.lease_id FROM %2$s._ayb_jobs AS job
                    WHERE job.id = ANY (leased) AND job.lease_id IS NOT NULL AND %2$s._ayb_job_text(job.payload) IS NULL
                LOOP
                    BEGIN
                        PERFORM %1$s.ayb_jobs_settle(
                            found.id, found.lease_id, 'discarded', 'the payload cannot be decoded: it is too large as text');
                    EXCEPTION WHEN others THEN  -- it is recovered when its lease is over
                        RAISE WARNING 'job %% was not settled: %%', found.id, SQLERRM;
                    END;
                END LOOP;
            END IF;
            IF has_refusals AND cardinality(leased) > 0 THEN
                DELETE FROM %2$s._ayb_job_refusals AS refusal WHERE refusal.job_id = ANY (ARRAY(
                    SELECT over.job_id FROM %2$s._ayb_job_refusals AS over
                    WHERE over.job_id = ANY (leased) FOR UPDATE SKIP LOCKED));
            END IF;
        END
        $body$
    $create$, place, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_extend(ids uuid[], lease_ids uuid[], lease_s float8 DEFAULT 60)
            RETURNS TABLE (id uuid, lease_id uuid, became text) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            told_ids uuid[];
            told_leases uuid[];
            told_became text[];
        BEGIN
            IF ayb_jobs_extend.ids IS NULL OR ayb_jobs_extend.lease_ids IS NULL
                OR cardinality(ayb_jobs_extend.ids) <> cardinality(ayb_jobs_extend.lease_ids)
                OR array_position(ayb_jobs_extend.ids, NULL) IS NOT NULL OR array_position(ayb_jobs_extend.lease_ids, NULL) IS NOT NULL
            THEN
                RAISE EXCEPTION 'lease_ids does not fit ids; each job has its lease at the same place, and none is null'
                    USING ERRCODE = '22023', COLUMN = 'lease_ids';
            ELSIF ayb_jobs_extend.lease_s IS NULL OR ayb_jobs_extend.lease_s NOT BETWEEN 1 AND 86400 THEN
                RAISE EXCEPTION 'lease_s is %%; it goes from 1 to 86400 seconds', ayb_jobs_extend.lease_s
                    USING ERRCODE = '22023', COLUMN = 'lease_s';
            END IF;
            PERFORM %2$s._ayb_job_worker_beat(holding.worker_id, NULL, NULL, NULL) FROM (
                SELECT DISTINCT job.worker_id::text FROM %2$s._ayb_jobs AS job
                WHERE job.id = ANY (ayb_jobs_extend.ids) AND coalesce(job.lease_id, job.canceling_lease_id) = ANY (ayb_jobs_extend.lease_ids)
            ) AS holding;
            BEGIN
                WITH asked AS MATERIALIZED (
                    SELECT DISTINCT asked.id, asked.lease_id FROM unnest(ayb_jobs_extend.ids, ayb_jobs_extend.lease_ids) AS asked (id, lease_id)
                ), held AS MATERIALIZED (
                    SELECT job.id, asked.lease_id, job.canceling_lease_id IS NOT NULL AS is_canceling
                    FROM %2$s._ayb_jobs AS job
                    JOIN asked ON asked.id = job.id AND asked.lease_id = coalesce(job.lease_id, job.canceling_lease_id)
                    WHERE job.id = ANY (ayb_jobs_extend.ids)
                ), free AS MATERIALIZED (
                    SELECT job.id, held.lease_id
                    FROM %2$s._ayb_jobs AS job
                    JOIN held ON held.id = job.id AND held.lease_id = coalesce(job.lease_id, job.canceling_lease_id)
                    FOR NO KEY UPDATE OF job SKIP LOCKED
                ), extended AS (
                    UPDATE %2$s._ayb_jobs AS job
                    SET lease_until = now() + ayb_jobs_extend.lease_s * interval '1 second',
                        cancel_heard_at = CASE WHEN job.canceling_lease_id IS NULL THEN job.cancel_heard_at ELSE coalesce(job.cancel_heard_at, now()) END
                    FROM free
                    WHERE job.id = free.id AND coalesce(job.lease_id, job.canceling_lease_id) = free.lease_id
                    RETURNING job.id, job.canceling_lease_id IS NOT NULL AS is_canceling,
                        job.lease_until = now() + ayb_jobs_extend.lease_s * interval '1 second' AS is_done
                )
                SELECT array_agg(told.id), array_agg(told.lease_id), array_agg(told.became) INTO told_ids, told_leases, told_became FROM (
                SELECT asked.id, asked.lease_id, CASE
                        WHEN held.id IS NULL THEN 'lost'
                        WHEN coalesce(extended.is_canceling, held.is_canceling) THEN 'canceling'
                        WHEN extended.is_done THEN 'extended'
                        ELSE 'unchanged'
                    END AS became
                FROM asked LEFT JOIN held USING (id, lease_id) LEFT JOIN extended ON extended.id = held.id
                ) AS told;
                RETURN QUERY SELECT * FROM unnest(told_ids, told_leases, told_became);
            EXCEPTION WHEN others THEN
                IF cardinality(ayb_jobs_extend.ids) = 1 THEN
                    RAISE WARNING 'the lease of job %% was not extended: %%', ayb_jobs_extend.ids[1], SQLERRM;
                    RETURN QUERY SELECT ayb_jobs_extend.ids[1], ayb_jobs_extend.lease_ids[1], 'unchanged';
                ELSE  -- which job it is cannot be told, so each is extended by itself
                    RETURN QUERY
                    SELECT one.* FROM (
                        SELECT DISTINCT asked.id, asked.lease_id
                        FROM unnest(ayb_jobs_extend.ids, ayb_jobs_extend.lease_ids) AS asked (id, lease_id)
                    ) AS each CROSS JOIN LATERAL %1$s.ayb_jobs_extend(
                        ARRAY[each.id], ARRAY[each.lease_id], ayb_jobs_extend.lease_s) AS one;
                END IF;
            END;
        END
        $body$
    $create$, place, tables);

    -- A trigger may keep a job as it is without an error. Cancelling and retrying it raise one then.
    FOR change IN
        SELECT to_regprocedure(place || '.' || arguments) AS changing, name, is_done
        FROM (VALUES
            ('ayb_jobs_cancel(uuid, boolean)', 'ayb_jobs_cancel', 'job.state = ''canceled'' OR job.cancel_requested_at IS NOT NULL'),
            ('ayb_jobs_retry(uuid)', 'ayb_jobs_retry', 'job.state = ''queued''')
        ) AS change (arguments, name, is_done)
    LOOP
        definition := pg_get_functiondef(change.changing);
        written := format('WHERE job.id = %s.id;', change.name);
        EXECUTE replace(definition, written, format($new$WHERE job.id = %1$s.id
            RETURNING CASE WHEN %2$s THEN job.state END INTO found_state;
            IF found_state IS NULL THEN
                RAISE EXCEPTION 'job %% stays as it was: a trigger or a rule on its table keeps it so', %1$s.id
                    USING ERRCODE = '55000';
            END IF;$new$, change.name, change.is_done));
    END LOOP;
END
$make$;
