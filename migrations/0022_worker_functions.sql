-- Functions for workers in any language: `ayb_jobs_lease`, `ayb_jobs_extend` and `ayb_jobs_settle`. `docs/workers.md`
-- specifies them. They stand beside those for enqueueing, run with the rights of the tables' owner as these do, and
-- obey what daemons obey. `ayb-jobs grant ROLE --worker` lets a role call them.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    made text[] := ARRAY[
        'ayb_jobs_enqueue', 'ayb_jobs_cancel', 'ayb_jobs_retry', 'ayb_jobs_batch', 'ayb_jobs_seal_batch',
        'ayb_jobs_lease', 'ayb_jobs_extend', 'ayb_jobs_settle'];
    holder record;
BEGIN
    IF to_regproc(place || '.ayb_jobs_enqueue') IS NULL THEN
        RETURN;  -- the file before says why there is no schema for them
    END IF;

    -- A job that the database refuses to lease, or that a trigger keeps as it is, is told, remembered, and passed over:
    -- each call gets to the jobs behind it, under a limit too. A call leases under several limits in one transaction,
    -- and holds each until its end. It waits for no limit whose name comes before one that it holds: it takes such a
    -- limit only if it is free. So workers never wait for each other in a circle. The newest name that a transaction
    -- holds is kept in a setting, since it may lease more than once.
    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_lease(
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
            taken_at timestamptz;
            asked int;
            seen int;
            key text;
            given int;
            kept uuid[];
            kept_id uuid;
            first_limit text;
            held_limit text;
            wait_s float8 := 0.05;  -- for one limit; the next ones are taken if they are free
            passed_over uuid[] := '{}';
            has_refusals boolean := EXISTS (SELECT FROM TABLES._ayb_job_refusals);
            again uuid[] := '{}';  -- what was refused before, and may be tried again
            refused int;
        BEGIN
            IF coalesce(ayb_jobs_lease.worker, '') !~ '\S' THEN
                RAISE EXCEPTION 'worker is empty; it is required' USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF length(ayb_jobs_lease.worker) > 100 THEN
                RAISE EXCEPTION 'worker has % characters; at most 100 are allowed', length(ayb_jobs_lease.worker)
                    USING ERRCODE = '22023', COLUMN = 'worker';
            ELSIF array_ndims(ayb_jobs_lease.types) > 1 THEN
                RAISE EXCEPTION 'types is an array of arrays; it takes names of job types' USING ERRCODE = '22023', COLUMN = 'types';
            ELSIF coalesce(cardinality(ayb_jobs_lease.types), 0) = 0 OR array_position(ayb_jobs_lease.types, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'types names no job type, or a null; it takes the names of the types that the worker runs'
                    USING ERRCODE = '22023', COLUMN = 'types';
            ELSIF array_ndims(ayb_jobs_lease.queues) > 1 THEN
                RAISE EXCEPTION 'queues is an array of arrays; it takes names of queues' USING ERRCODE = '22023', COLUMN = 'queues';
            ELSIF coalesce(cardinality(ayb_jobs_lease.queues), 0) = 0 OR array_position(ayb_jobs_lease.queues, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'queues names no queue, or a null; it takes names of queues'
                    USING ERRCODE = '22023', COLUMN = 'queues';
            ELSIF ayb_jobs_lease.n IS NULL OR ayb_jobs_lease.n NOT BETWEEN 1 AND 1000 THEN
                RAISE EXCEPTION 'n is %; it goes from 1 to 1000', ayb_jobs_lease.n USING ERRCODE = '22023', COLUMN = 'n';
            ELSIF ayb_jobs_lease.lease_s IS NULL OR ayb_jobs_lease.lease_s NOT BETWEEN 1 AND 86400 THEN
                RAISE EXCEPTION 'lease_s is %; it goes from 1 to 86400 seconds', ayb_jobs_lease.lease_s
                    USING ERRCODE = '22023', COLUMN = 'lease_s';
            ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
                RAISE EXCEPTION 'the transaction is %; jobs are leased in READ COMMITTED, or limits could not be exact',
                    upper(current_setting('transaction_isolation')) USING ERRCODE = '25001';
            END IF;
            PERFORM TABLES._ayb_job_begin_leasing();
            IF TABLES._ayb_job_worker_beat(ayb_jobs_lease.worker, ayb_jobs_lease.queues, ayb_jobs_lease.types, ayb_jobs_lease.n) THEN
                RETURN;  -- an operator drains it
            END IF;

            -- What was refused lately is passed over, but for a few whose wait is over. A retry that nobody could make for
            -- ten minutes is forgotten, and so is one that the clock puts far ahead.
            IF has_refusals THEN
                DELETE FROM TABLES._ayb_job_refusals AS refusal WHERE refusal.job_id = ANY (ARRAY(
                    SELECT old.job_id FROM TABLES._ayb_job_refusals AS old
                    WHERE old.retry_at < now() - interval '10 minutes' OR old.retry_at > now() + interval '2 minutes'
                    FOR UPDATE SKIP LOCKED));
                again := ARRAY(
                    SELECT refusal.job_id
                    FROM (
                        SELECT due.job_id, due.retry_at FROM TABLES._ayb_job_refusals AS due
                        WHERE due.retry_at <= now() ORDER BY due.retry_at LIMIT 10000
                    ) AS refusal JOIN TABLES._ayb_jobs AS job ON job.id = refusal.job_id
                    WHERE job.state = 'queued' AND job.run_at <= now() AND job.type = ANY (ayb_jobs_lease.types)
                        AND job.queue = ANY (ayb_jobs_lease.queues)
                    ORDER BY random()  -- those for which there is no place keep none from it
                    LIMIT 16);
            END IF;

            -- Jobs under limits and others come first in turn, so that neither takes all the room. What a look at the
            -- others has put under its limit can be leased at once.
            FOR turn IN 1..3 LOOP
                CONTINUE WHEN turn = 1 AND random() < 0.5;
                EXIT WHEN spare <= 0;
                IF turn <> 2 THEN
                    first_limit := (
                        SELECT it.name FROM TABLES._ayb_job_limits AS it
                        WHERE it.types && ayb_jobs_lease.types::varchar[] ORDER BY random() LIMIT 1);
                    FOR found IN
                        SELECT it.name, it.worker_after FROM TABLES._ayb_job_limits AS it
                        WHERE it.types && ayb_jobs_lease.types::varchar[] ORDER BY it.name < first_limit, it.name
                    LOOP
                        held_limit := coalesce(current_setting('ayb_job_limits.held', true), '');
                        IF found.name < held_limit THEN
                            CONTINUE WHEN (
                                SELECT it.name FROM TABLES._ayb_job_limits AS it WHERE it.name = found.name FOR NO KEY UPDATE SKIP LOCKED
                            ) IS NULL;
                        ELSE
                            PERFORM set_config('ayb_job_limits.held', found.name, true);
                        END IF;
                        passed_over := CASE WHEN has_refusals THEN ARRAY(
                            SELECT refusal.job_id
                            FROM TABLES._ayb_job_refusals AS refusal JOIN TABLES._ayb_jobs AS job ON job.id = refusal.job_id
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
                                FROM TABLES._ayb_job_lease_limited(
                                    found.name, spare, ayb_jobs_lease.types, ayb_jobs_lease.queues, passed_over, NULL, found.worker_after,
                                    ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true, wait_s, current_setting('search_path')
                                ) AS look LEFT JOIN LATERAL unnest(look.picked) AS chosen (id) ON true;
                                IF key IS NULL THEN
                                    wait_s := 0;
                                    EXIT;
                                END IF;
                                UPDATE TABLES._ayb_job_limits AS it SET worker_after = key
                                WHERE it.name = found.name AND key <> found.worker_after;
                                leased := leased || ids;
                                kept := ARRAY(SELECT unnest(kept) EXCEPT SELECT unnest(ids));
                                FOREACH kept_id IN ARRAY kept LOOP
                                    PERFORM TABLES._ayb_job_refuse(kept_id, ayb_jobs_lease.worker);
                                    has_refusals := true;
                                    again := array_remove(again, kept_id);
                                    refused := refused + 1;
                                END LOOP;
                                passed_over := passed_over || kept;
                            EXCEPTION WHEN others THEN
                                -- Which job it is cannot be told, so each is tried by itself.
                                FOR kept_id IN
                                    SELECT job.id FROM TABLES._ayb_jobs AS job
                                    WHERE job.state = 'queued' AND job.limited_by = found.name AND job.run_at <= now()
                                        AND job.type = ANY (ayb_jobs_lease.types) AND job.queue = ANY (ayb_jobs_lease.queues)
                                        AND job.id <> ALL (passed_over)
                                    ORDER BY job.priority, job.run_at, job.id
                                    LIMIT 1000
                                LOOP
                                    EXIT WHEN spare <= 0;
                                    BEGIN
                                        SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL) INTO ids
                                        FROM TABLES._ayb_job_lease_limited(
                                            found.name, 1, ayb_jobs_lease.types, ayb_jobs_lease.queues, '{}', ARRAY[kept_id],
                                            found.worker_after, ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true,
                                            0, current_setting('search_path')
                                        ) AS look;
                                        leased := leased || ids;
                                        spare := ayb_jobs_lease.n - cardinality(leased);
                                    EXCEPTION WHEN others THEN
                                        PERFORM TABLES._ayb_job_refuse(kept_id, ayb_jobs_lease.worker, SQLERRM, SQLSTATE);
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
                            SELECT unnest(it.types) FROM TABLES._ayb_job_limits AS it)) AS is_limited
                        FROM generate_series(1, 4) AS level (priority)
                        CROSS JOIN LATERAL (
                            SELECT next_in_lane.id, next_in_lane.type
                            FROM unnest(ayb_jobs_lease.queues) AS lane (queue)
                            CROSS JOIN LATERAL (
                                SELECT job.run_at, job.id, job.type
                                FROM TABLES._ayb_jobs AS job
                                WHERE job.state = 'queued' AND job.queue = lane.queue AND job.priority = level.priority
                                    AND job.run_at <= now() AND job.id <> ALL (met)
                                    AND (NOT has_refusals OR job.id = ANY (again) OR NOT EXISTS (
                                        SELECT FROM TABLES._ayb_job_refusals AS refusal WHERE refusal.job_id = job.id OFFSET 0))
                                    AND job.type = ANY (ARRAY(
                                        SELECT name FROM unnest(ayb_jobs_lease.types) AS name
                                        WHERE name <> ALL (ARRAY(
                                            SELECT pause.name FROM TABLES._ayb_job_pauses AS pause
                                            WHERE pause.kind = 'type' AND (pause.until IS NULL OR pause.until > now())
                                        ))
                                    ))
                                ORDER BY job.run_at, job.id
                                LIMIT asked
                                FOR UPDATE SKIP LOCKED
                            ) AS next_in_lane
                            WHERE lane.queue <> ALL (ARRAY(
                                SELECT pause.name FROM TABLES._ayb_job_pauses AS pause
                                WHERE pause.kind = 'queue' AND (pause.until IS NULL OR pause.until > now())
                            ))
                            ORDER BY next_in_lane.run_at, next_in_lane.id
                            LIMIT asked
                        ) AS next_in_priority
                        LIMIT asked
                    LOOP
                        seen := seen + 1;
                        met := met || found.id;
                        taken_at := clock_timestamp();  -- the caller's transaction may be old
                        BEGIN
                            IF found.is_limited THEN
                                PERFORM TABLES._ayb_job_put_under(ARRAY[found.id]);
                                IF EXISTS (
                                    SELECT FROM TABLES._ayb_jobs AS job
                                    WHERE job.id = found.id AND job.state = 'queued' AND job.priority <= 4
                                        AND job.type = ANY (ARRAY(SELECT unnest(it.types) FROM TABLES._ayb_job_limits AS it))
                                ) THEN
                                    PERFORM TABLES._ayb_job_refuse(found.id, ayb_jobs_lease.worker);
                                    has_refusals := true;
                                END IF;
                            ELSE
                                UPDATE TABLES._ayb_jobs AS job
                                SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
                                    lease_id = gen_random_uuid(),
                                    lease_until = taken_at + ayb_jobs_lease.lease_s * interval '1 second', worker_id = ayb_jobs_lease.worker,
                                    execution_id = nextval('TABLES._ayb_job_execution_ids'), progress = NULL, last_run_at = taken_at, updated_at = now(),
                                    unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
                                WHERE job.id = found.id
                                RETURNING CASE WHEN job.state = 'running' THEN ARRAY[job.id] END INTO ids;
                                IF ids IS NULL THEN
                                    PERFORM TABLES._ayb_job_refuse(found.id, ayb_jobs_lease.worker);
                                    has_refusals := true;
                                END IF;
                                leased := leased || ids;
                            END IF;
                        EXCEPTION WHEN others THEN
                            PERFORM TABLES._ayb_job_refuse(found.id, ayb_jobs_lease.worker, SQLERRM, SQLSTATE);
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
            FROM TABLES._ayb_jobs AS job
            CROSS JOIN LATERAL (SELECT TABLES._ayb_job_text(job.payload) AS payload OFFSET 0) AS written
            WHERE job.id = ANY (leased) AND job.lease_id IS NOT NULL AND written.payload IS NOT NULL
            ORDER BY 6, job.run_at, job.id;
            GET DIAGNOSTICS given = ROW_COUNT;
            IF given < cardinality(leased) THEN
                FOR found IN
                    SELECT job.id, job.lease_id FROM TABLES._ayb_jobs AS job
                    WHERE job.id = ANY (leased) AND job.lease_id IS NOT NULL AND TABLES._ayb_job_text(job.payload) IS NULL
                LOOP
                    BEGIN
                        PERFORM PLACE.ayb_jobs_settle(
                            found.id, found.lease_id, 'discarded', 'the payload cannot be decoded: it is too large as text');
                    EXCEPTION WHEN others THEN  -- it is recovered when its lease is over
                        RAISE WARNING 'job % was not settled: %', found.id, SQLERRM;
                    END;
                END LOOP;
            END IF;
            IF has_refusals AND cardinality(leased) > 0 THEN
                DELETE FROM TABLES._ayb_job_refusals AS refusal WHERE refusal.job_id = ANY (ARRAY(
                    SELECT over.job_id FROM TABLES._ayb_job_refusals AS over
                    WHERE over.job_id = ANY (leased) FOR UPDATE SKIP LOCKED));
            END IF;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    -- A lease that cannot be extended, and a running job that cannot be put under a limit, keep no other from it.
    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_extend(ids uuid[], lease_ids uuid[], lease_s float8 DEFAULT 60)
            RETURNS TABLE (id uuid, lease_id uuid, became text) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            ends_at timestamptz;  -- behind the present, not behind the beginning of the caller's transaction
            told_ids uuid[];
            told_leases uuid[];
            told_became text[];
        BEGIN
            IF array_ndims(ayb_jobs_extend.ids) > 1 THEN
                RAISE EXCEPTION 'ids is an array of arrays; it takes ids of jobs' USING ERRCODE = '22023', COLUMN = 'ids';
            ELSIF array_ndims(ayb_jobs_extend.lease_ids) > 1 THEN
                RAISE EXCEPTION 'lease_ids is an array of arrays; it takes ids of leases'
                    USING ERRCODE = '22023', COLUMN = 'lease_ids';
            ELSIF ayb_jobs_extend.ids IS NULL OR ayb_jobs_extend.lease_ids IS NULL
                OR cardinality(ayb_jobs_extend.ids) <> cardinality(ayb_jobs_extend.lease_ids)
                OR array_position(ayb_jobs_extend.ids, NULL) IS NOT NULL OR array_position(ayb_jobs_extend.lease_ids, NULL) IS NOT NULL
            THEN
                RAISE EXCEPTION 'lease_ids does not fit ids; each job has its lease at the same place, and none is null'
                    USING ERRCODE = '22023', COLUMN = 'lease_ids';
            ELSIF ayb_jobs_extend.lease_s IS NULL OR ayb_jobs_extend.lease_s NOT BETWEEN 1 AND 86400 THEN
                RAISE EXCEPTION 'lease_s is %; it goes from 1 to 86400 seconds', ayb_jobs_extend.lease_s
                    USING ERRCODE = '22023', COLUMN = 'lease_s';
            END IF;
            PERFORM TABLES._ayb_job_worker_beat(holding.worker_id, NULL, NULL, NULL) FROM (
                SELECT DISTINCT job.worker_id::text FROM TABLES._ayb_jobs AS job
                WHERE job.id = ANY (ayb_jobs_extend.ids) AND coalesce(job.lease_id, job.canceling_lease_id) = ANY (ayb_jobs_extend.lease_ids)
            ) AS holding;
            ends_at := clock_timestamp() + ayb_jobs_extend.lease_s * interval '1 second';
            BEGIN
                WITH asked AS MATERIALIZED (
                    SELECT DISTINCT asked.id, asked.lease_id FROM unnest(ayb_jobs_extend.ids, ayb_jobs_extend.lease_ids) AS asked (id, lease_id)
                ), held AS MATERIALIZED (
                    SELECT job.id, asked.lease_id, job.canceling_lease_id IS NOT NULL AS is_canceling
                    FROM TABLES._ayb_jobs AS job
                    JOIN asked ON asked.id = job.id AND asked.lease_id = CASE job.state WHEN 'running' THEN coalesce(job.lease_id, job.canceling_lease_id) END
                    WHERE job.id = ANY (ayb_jobs_extend.ids)
                ), free AS MATERIALIZED (
                    SELECT job.id, held.lease_id
                    FROM TABLES._ayb_jobs AS job
                    JOIN held ON held.id = job.id AND held.lease_id = CASE job.state WHEN 'running' THEN coalesce(job.lease_id, job.canceling_lease_id) END
                    FOR NO KEY UPDATE OF job SKIP LOCKED
                ), extended AS (
                    UPDATE TABLES._ayb_jobs AS job
                    SET lease_until = ends_at,
                        cancel_heard_at = CASE WHEN job.canceling_lease_id IS NULL THEN job.cancel_heard_at ELSE coalesce(job.cancel_heard_at, now()) END
                    FROM free
                    WHERE job.id = free.id AND coalesce(job.lease_id, job.canceling_lease_id) = free.lease_id
                    RETURNING job.id, job.canceling_lease_id IS NOT NULL AS is_canceling,
                        job.lease_until = ends_at AS is_done
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
                    RAISE WARNING 'the lease of job % was not extended: %', ayb_jobs_extend.ids[1], SQLERRM;
                    RETURN QUERY SELECT ayb_jobs_extend.ids[1], ayb_jobs_extend.lease_ids[1], 'unchanged';
                ELSE  -- which job it is cannot be told, so each is extended by itself
                    RETURN QUERY
                    SELECT one.* FROM (
                        SELECT DISTINCT asked.id, asked.lease_id
                        FROM unnest(ayb_jobs_extend.ids, ayb_jobs_extend.lease_ids) AS asked (id, lease_id)
                    ) AS each CROSS JOIN LATERAL PLACE.ayb_jobs_extend(
                        ARRAY[each.id], ARRAY[each.lease_id], ayb_jobs_extend.lease_s) AS one;
                END IF;
            END;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_settle(
            id uuid,
            lease_id uuid,
            outcome text DEFAULT 'completed',
            error text DEFAULT NULL,
            result jsonb DEFAULT NULL,
            records bigint DEFAULT NULL,
            delay interval DEFAULT NULL
        ) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            held record;
            ended record;
            settled record;
            p_delay_s float8 := extract(epoch FROM ayb_jobs_settle.delay);
            p_error text := TABLES._ayb_job_error(ayb_jobs_settle.error);
        BEGIN
            IF ayb_jobs_settle.outcome IS NULL
                OR ayb_jobs_settle.outcome NOT IN ('completed', 'failed', 'timed_out', 'discarded', 'canceled', 'snoozed', 'released')
            THEN
                RAISE EXCEPTION 'outcome is %; it is completed, failed, timed_out, discarded, canceled, snoozed or released',
                    coalesce(ayb_jobs_settle.outcome, 'null') USING ERRCODE = '22023', COLUMN = 'outcome';
            ELSIF ayb_jobs_settle.outcome IN ('failed', 'timed_out', 'discarded') AND coalesce(ayb_jobs_settle.error, '') !~ '\S' THEN
                RAISE EXCEPTION 'error is empty; it says why the attempt failed' USING ERRCODE = '22023', COLUMN = 'error';
            ELSIF ayb_jobs_settle.outcome IN ('completed', 'snoozed', 'released') AND ayb_jobs_settle.error IS NOT NULL THEN
                RAISE EXCEPTION 'error does not go with the outcome %', ayb_jobs_settle.outcome
                    USING ERRCODE = '22023', COLUMN = 'error';
            ELSIF ayb_jobs_settle.outcome <> 'completed' AND ayb_jobs_settle.result IS NOT NULL THEN
                RAISE EXCEPTION 'result goes with the outcome completed alone' USING ERRCODE = '22023', COLUMN = 'result';
            ELSIF pg_column_size(ayb_jobs_settle.result) > 65536 OR octet_length(ayb_jobs_settle.result::text) > 65536 THEN
                RAISE EXCEPTION 'result has more than 65536 bytes' USING ERRCODE = '22023', COLUMN = 'result';
            ELSIF ayb_jobs_settle.records < 0 THEN
                RAISE EXCEPTION 'records is %; it goes from 0', ayb_jobs_settle.records USING ERRCODE = '22023', COLUMN = 'records';
            ELSIF ayb_jobs_settle.outcome = 'snoozed' AND p_delay_s IS NULL THEN
                RAISE EXCEPTION 'delay is missing; it says for how long to snooze' USING ERRCODE = '22023', COLUMN = 'delay';
            ELSIF ayb_jobs_settle.outcome NOT IN ('snoozed', 'failed', 'timed_out') AND p_delay_s IS NOT NULL THEN
                RAISE EXCEPTION 'delay goes with the outcomes snoozed, failed and timed_out' USING ERRCODE = '22023', COLUMN = 'delay';
            ELSIF p_delay_s NOT BETWEEN 0 AND 316224000 THEN
                RAISE EXCEPTION 'delay is %; it goes from 0 seconds to ten years', ayb_jobs_settle.delay
                    USING ERRCODE = '22023', COLUMN = 'delay';
            END IF;
            SELECT job.attempts, job.max_attempts, job.execution_id, job.last_run_at, job.worker_id, job.limited_by, job.schedule_id,
                job.canceling_lease_id IS NOT NULL AS is_canceling
            INTO held
            FROM TABLES._ayb_jobs AS job
            WHERE job.id = ayb_jobs_settle.id AND coalesce(job.lease_id, job.canceling_lease_id) = ayb_jobs_settle.lease_id
                AND (job.state = 'running') IS NOT FALSE
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                PERFORM FROM TABLES._ayb_job_executions AS execution
                WHERE execution.job_id = ayb_jobs_settle.id AND execution.lease_id = ayb_jobs_settle.lease_id
                    AND execution.outcome IN (ayb_jobs_settle.outcome, 'canceled');
                IF FOUND THEN  -- an answer was lost
                    RETURN coalesce((SELECT job.state FROM TABLES._ayb_jobs AS job WHERE job.id = ayb_jobs_settle.id), 'completed');
                END IF;
                PERFORM FROM TABLES._ayb_jobs AS job WHERE job.id = ayb_jobs_settle.id;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'there is no job %', ayb_jobs_settle.id USING ERRCODE = 'P0002';
                END IF;
                RAISE EXCEPTION 'the lease % of job % is lost: throw away what came of it', ayb_jobs_settle.lease_id, ayb_jobs_settle.id
                    USING ERRCODE = '55000';
            END IF;

            -- What the ending does to the job: the rules of `model/lifecycle.py`, and the backoff of `model/backoff.py`.
            IF held.is_canceling THEN
                SELECT 'canceled' AS state, 'canceled' AS outcome, NULL::float8 AS delay_s, CASE ayb_jobs_settle.outcome
                    WHEN 'canceled' THEN coalesce(p_error, 'canceled by its handler')
                    WHEN 'completed' THEN 'canceled while it ran; its handler came to its end all the same'
                    ELSE TABLES._ayb_job_error('canceled while it ran' || coalesce(': ' || p_error, ''))
                END AS error INTO ended;
            ELSIF ayb_jobs_settle.outcome IN ('failed', 'timed_out') AND held.attempts < held.max_attempts THEN
                SELECT 'queued' AS state, ayb_jobs_settle.outcome AS outcome,
                    coalesce(p_delay_s, least(5 * 2.0 ^ (least(greatest(held.attempts, 1), 61) - 1), 300) + random()) AS delay_s,
                    p_error AS error INTO ended;
            ELSE
                SELECT CASE ayb_jobs_settle.outcome
                        WHEN 'completed' THEN 'completed'
                        WHEN 'canceled' THEN 'canceled'
                        WHEN 'snoozed' THEN 'queued'
                        WHEN 'released' THEN 'queued'
                        ELSE 'failed'
                    END AS state, ayb_jobs_settle.outcome AS outcome, CASE ayb_jobs_settle.outcome WHEN 'snoozed' THEN p_delay_s END AS delay_s,
                    CASE ayb_jobs_settle.outcome WHEN 'canceled' THEN coalesce(p_error, 'canceled by its handler')
                        ELSE p_error END AS error INTO ended;
            END IF;

            UPDATE TABLES._ayb_jobs AS job
            SET state = ended.state,
                run_at = CASE ended.state WHEN 'queued' THEN coalesce(now() + ended.delay_s * interval '1 second', job.run_at) ELSE job.run_at END,
                attempts = CASE ended.outcome WHEN 'released' THEN greatest(job.attempts - 1, 0) ELSE job.attempts END,
                max_attempts = CASE ended.outcome
                    WHEN 'snoozed' THEN least(job.max_attempts, 2147483646) + 1
                    ELSE job.max_attempts
                END,
                last_error = coalesce(ended.error, job.last_error),
                completed_at = CASE ended.state WHEN 'completed' THEN now() END,
                canceled_at = CASE ended.state WHEN 'canceled' THEN now() END,
                canceling_lease_id = NULL,
                lease_id = NULL, lease_until = NULL, worker_id = NULL, updated_at = now()
            WHERE job.id = ayb_jobs_settle.id
            RETURNING job.type, coalesce(job.lease_id, job.canceling_lease_id) AS lease_left, job.run_at <= now() AS is_due INTO settled;
            IF settled.lease_left IS NOT NULL OR settled IS NULL THEN
                RAISE EXCEPTION 'job % was not settled: a trigger or a rule on TABLES._ayb_jobs keeps it as it is', ayb_jobs_settle.id;
            END IF;
            IF ended.outcome <> 'released' THEN
                INSERT INTO TABLES._ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
                    error, records_processed, started_at, ended_at)
                SELECT CASE
                        WHEN held.execution_id IS NULL
                            OR EXISTS (SELECT FROM TABLES._ayb_job_executions AS taken WHERE taken.id = held.execution_id)
                            THEN nextval('TABLES._ayb_job_execution_ids')
                        ELSE held.execution_id
                    END,
                    ayb_jobs_settle.id, settled.type, held.schedule_id, ayb_jobs_settle.lease_id, held.attempts, held.worker_id,
                    ended.outcome, ended.error, ayb_jobs_settle.records, coalesce(held.last_run_at, now()),
                    greatest(held.last_run_at, clock_timestamp());
            END IF;
            IF ended.state = 'completed' AND ayb_jobs_settle.result IS NOT NULL THEN
                INSERT INTO TABLES._ayb_job_results (job_id, result) VALUES (ayb_jobs_settle.id, ayb_jobs_settle.result)
                ON CONFLICT (job_id) DO UPDATE SET result = excluded.result, ended_at = excluded.ended_at;
            END IF;
            IF ended.state = 'canceled' AND held.schedule_id IS NOT NULL THEN
                PERFORM TABLES._ayb_job_free_successors(ARRAY[held.schedule_id]);
            END IF;

            -- Who waits for the result, for the place under the limit, for the job itself, or for its end.
            IF pg_notification_queue_usage() < 0.5 THEN
                IF ended.state = 'completed' AND ayb_jobs_settle.result IS NOT NULL THEN
                    PERFORM pg_notify('ayb_jobs_results', ayb_jobs_settle.id::text);
                END IF;
                IF held.limited_by IS NOT NULL OR ended.state = 'queued' AND settled.is_due THEN
                    PERFORM pg_notify('ayb_jobs', '');
                END IF;
                IF ended.state <> 'queued' AND EXISTS (
                    SELECT FROM TABLES._ayb_job_dependencies AS edge WHERE edge.parent_id = ayb_jobs_settle.id AND edge.is_open
                    UNION ALL
                    SELECT FROM TABLES._ayb_jobs AS member WHERE member.id = ayb_jobs_settle.id AND member.batch_id IS NOT NULL
                ) THEN
                    PERFORM pg_notify('ayb_jobs', 'ended ' || ayb_jobs_settle.id);
                END IF;
            END IF;
            RETURN ended.state;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    -- PUBLIC may execute every new function, those of the file before as well, and default privileges may name others.
    FOR holder IN
        SELECT proc.oid::regprocedure AS name, held.grantee
        FROM pg_proc AS proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS held
        WHERE pronamespace = to_regnamespace(place) AND proname = ANY (made) AND held.grantee <> proowner
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', holder.name,
            CASE holder.grantee WHEN 0 THEN 'PUBLIC' ELSE holder.grantee::regrole::text END);
    END LOOP;
END
$make$;
