-- Functions for workers in any language: `ayb_jobs_lease`, `ayb_jobs_extend` and `ayb_jobs_settle`. `docs/workers.md`
-- specifies them. They stand beside those for enqueueing, run with the rights of the tables' owner as these do, and obey
-- what daemons obey. `ayb-jobs grant ROLE --worker` lets a role call them.
--
-- `ayb_jobs_cancel` can have a running job end canceled. A function with more arguments is another function to
-- PostgreSQL: the one before goes, and who could call it can call this one.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    holder record;
    holders oid[];
    old text := place || '.ayb_jobs_cancel(uuid)';
BEGIN
    IF to_regprocedure(old) IS NULL THEN
        RETURN;  -- they could not be made before either
    END IF;
    SELECT array_agg(held.grantee) INTO holders
    FROM pg_proc, aclexplode(proacl) AS held
    WHERE pg_proc.oid = to_regprocedure(old) AND held.grantee NOT IN (0, proowner);
    EXECUTE format('DROP FUNCTION %s', old);

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
            IF %2$s._ayb_job_worker_beat(ayb_jobs_lease.worker, ayb_jobs_lease.queues, ayb_jobs_lease.types, ayb_jobs_lease.n) THEN
                RETURN;  -- an operator drains it
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
                        EXIT WHEN spare <= 0;
                        BEGIN
                            SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL), max(look.last_key) INTO ids, key
                            FROM %2$s._ayb_job_lease_limited(
                                found.name, spare, ayb_jobs_lease.types, ayb_jobs_lease.queues, '{}', NULL, found.worker_after,
                                ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true, current_setting('search_path')
                            ) AS look;
                            UPDATE %2$s._ayb_job_limits AS it SET worker_after = key
                            WHERE it.name = found.name AND key <> found.worker_after;
                            leased := leased || ids;
                        EXCEPTION WHEN others THEN
                            RAISE WARNING 'nothing was leased under the limit %%: %%', found.name, SQLERRM;
                        END;
                        spare := ayb_jobs_lease.n - cardinality(leased);
                    END LOOP;
                    CONTINUE;
                END IF;
                -- One that the database refuses to change is told and passed over.
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
                            ELSE
                                UPDATE %2$s._ayb_jobs AS job
                                SET state = 'running', attempts = least(greatest(attempts, 0), 2147483646) + 1,
                                    lease_id = gen_random_uuid(),
                                    lease_until = now() + ayb_jobs_lease.lease_s * interval '1 second', worker_id = ayb_jobs_lease.worker,
                                    execution_id = nextval('%2$s._ayb_job_execution_ids'), progress = NULL, last_run_at = now(), updated_at = now(),
                                    unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END
                                WHERE job.id = found.id
                                RETURNING CASE WHEN job.state = 'running' THEN ARRAY[job.id] END INTO ids;
                                leased := leased || ids;
                            END IF;
                        EXCEPTION WHEN others THEN
                            RAISE WARNING 'job %% was not leased: %%', found.id, SQLERRM;
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
                PERFORM %1$s.ayb_jobs_settle(job.id, job.lease_id, 'discarded', 'the payload cannot be decoded: it is too large as text')
                FROM %2$s._ayb_jobs AS job
                WHERE job.id = ANY (leased) AND job.lease_id IS NOT NULL AND %2$s._ayb_job_text(job.payload) IS NULL;
            END IF;
        END
        $body$
    $create$, place, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_extend(ids uuid[], lease_ids uuid[], lease_s float8 DEFAULT 60)
            RETURNS TABLE (id uuid, lease_id uuid, became text) LANGUAGE plpgsql VOLATILE SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
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
            RETURN QUERY
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
            SELECT asked.id, asked.lease_id, CASE
                    WHEN held.id IS NULL THEN 'lost'
                    WHEN coalesce(extended.is_canceling, held.is_canceling) THEN 'canceling'
                    WHEN extended.is_done THEN 'extended'
                    ELSE 'unchanged'
                END
            FROM asked LEFT JOIN held USING (id, lease_id) LEFT JOIN extended ON extended.id = held.id;
        END
        $body$
    $create$, place, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_settle(
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
            p_error text := %2$s._ayb_job_error(ayb_jobs_settle.error);
        BEGIN
            IF ayb_jobs_settle.outcome IS NULL
                OR ayb_jobs_settle.outcome NOT IN ('completed', 'failed', 'timed_out', 'discarded', 'canceled', 'snoozed', 'released')
            THEN
                RAISE EXCEPTION 'outcome is %%; it is completed, failed, timed_out, discarded, canceled, snoozed or released',
                    coalesce(ayb_jobs_settle.outcome, 'null') USING ERRCODE = '22023', COLUMN = 'outcome';
            ELSIF ayb_jobs_settle.outcome IN ('failed', 'timed_out', 'discarded') AND coalesce(ayb_jobs_settle.error, '') !~ '\S' THEN
                RAISE EXCEPTION 'error is empty; it says why the attempt failed' USING ERRCODE = '22023', COLUMN = 'error';
            ELSIF ayb_jobs_settle.outcome IN ('completed', 'snoozed', 'released') AND ayb_jobs_settle.error IS NOT NULL THEN
                RAISE EXCEPTION 'error does not go with the outcome %%', ayb_jobs_settle.outcome
                    USING ERRCODE = '22023', COLUMN = 'error';
            ELSIF ayb_jobs_settle.outcome <> 'completed' AND ayb_jobs_settle.result IS NOT NULL THEN
                RAISE EXCEPTION 'result goes with the outcome completed alone' USING ERRCODE = '22023', COLUMN = 'result';
            ELSIF pg_column_size(ayb_jobs_settle.result) > 65536 OR octet_length(ayb_jobs_settle.result::text) > 65536 THEN
                RAISE EXCEPTION 'result has more than 65536 bytes' USING ERRCODE = '22023', COLUMN = 'result';
            ELSIF ayb_jobs_settle.records < 0 THEN
                RAISE EXCEPTION 'records is %%; it goes from 0', ayb_jobs_settle.records USING ERRCODE = '22023', COLUMN = 'records';
            ELSIF ayb_jobs_settle.outcome = 'snoozed' AND p_delay_s IS NULL THEN
                RAISE EXCEPTION 'delay is missing; it says for how long to snooze' USING ERRCODE = '22023', COLUMN = 'delay';
            ELSIF ayb_jobs_settle.outcome NOT IN ('snoozed', 'failed', 'timed_out') AND p_delay_s IS NOT NULL THEN
                RAISE EXCEPTION 'delay goes with the outcomes snoozed, failed and timed_out' USING ERRCODE = '22023', COLUMN = 'delay';
            ELSIF p_delay_s NOT BETWEEN 0 AND 316224000 THEN
                RAISE EXCEPTION 'delay is %%; it goes from 0 seconds to ten years', ayb_jobs_settle.delay
                    USING ERRCODE = '22023', COLUMN = 'delay';
            END IF;
            SELECT job.attempts, job.max_attempts, job.execution_id, job.last_run_at, job.worker_id, job.limited_by, job.schedule_id,
                job.canceling_lease_id IS NOT NULL AS is_canceling
            INTO held
            FROM %2$s._ayb_jobs AS job
            WHERE job.id = ayb_jobs_settle.id AND coalesce(job.lease_id, job.canceling_lease_id) = ayb_jobs_settle.lease_id
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                PERFORM FROM %2$s._ayb_job_executions AS execution
                WHERE execution.job_id = ayb_jobs_settle.id AND execution.lease_id = ayb_jobs_settle.lease_id
                    AND execution.outcome IN (ayb_jobs_settle.outcome, 'canceled');
                IF FOUND THEN  -- an answer was lost
                    RETURN coalesce((SELECT job.state FROM %2$s._ayb_jobs AS job WHERE job.id = ayb_jobs_settle.id), 'completed');
                END IF;
                PERFORM FROM %2$s._ayb_jobs AS job WHERE job.id = ayb_jobs_settle.id;
                IF NOT FOUND THEN
                    RAISE EXCEPTION 'there is no job %%', ayb_jobs_settle.id USING ERRCODE = 'P0002';
                END IF;
                RAISE EXCEPTION 'the lease %% of job %% is lost: throw away what came of it', ayb_jobs_settle.lease_id, ayb_jobs_settle.id
                    USING ERRCODE = '55000';
            END IF;

            -- What the ending does to the job: the rules of `model/lifecycle.py`, and the backoff of `model/backoff.py`.
            IF held.is_canceling THEN
                SELECT 'canceled' AS state, 'canceled' AS outcome, NULL::float8 AS delay_s, CASE ayb_jobs_settle.outcome
                    WHEN 'canceled' THEN coalesce(p_error, 'canceled by its handler')
                    WHEN 'completed' THEN 'canceled while it ran; its handler came to its end all the same'
                    ELSE %2$s._ayb_job_error('canceled while it ran' || coalesce(': ' || p_error, ''))
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

            UPDATE %2$s._ayb_jobs AS job
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
                RAISE EXCEPTION 'job %% was not settled: a trigger or a rule on _ayb_jobs keeps it as it is', ayb_jobs_settle.id;
            END IF;
            IF ended.outcome <> 'released' THEN
                INSERT INTO %2$s._ayb_job_executions (id, job_id, job_type, schedule_id, lease_id, attempt, worker_id, outcome,
                    error, records_processed, started_at, ended_at)
                SELECT CASE
                        WHEN held.execution_id IS NULL
                            OR EXISTS (SELECT FROM %2$s._ayb_job_executions AS taken WHERE taken.id = held.execution_id)
                            THEN nextval('%2$s._ayb_job_execution_ids')
                        ELSE held.execution_id
                    END,
                    ayb_jobs_settle.id, settled.type, held.schedule_id, ayb_jobs_settle.lease_id, held.attempts, held.worker_id,
                    ended.outcome, ended.error, ayb_jobs_settle.records, coalesce(held.last_run_at, now()),
                    greatest(held.last_run_at, clock_timestamp());
            END IF;
            IF ended.state = 'completed' AND ayb_jobs_settle.result IS NOT NULL THEN
                INSERT INTO %2$s._ayb_job_results (job_id, result) VALUES (ayb_jobs_settle.id, ayb_jobs_settle.result)
                ON CONFLICT (job_id) DO UPDATE SET result = excluded.result, ended_at = excluded.ended_at;
            END IF;
            IF ended.state = 'canceled' AND held.schedule_id IS NOT NULL THEN
                PERFORM %2$s._ayb_job_free_successors(ARRAY[held.schedule_id]);
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
                    SELECT FROM %2$s._ayb_job_dependencies AS edge WHERE edge.parent_id = ayb_jobs_settle.id AND edge.is_open
                ) THEN
                    PERFORM pg_notify('ayb_jobs', 'ended ' || ayb_jobs_settle.id);
                END IF;
            END IF;
            RETURN ended.state;
        END
        $body$
    $create$, place, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_cancel(id uuid, running boolean DEFAULT false) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            found_state text;
        BEGIN
            SELECT job.state INTO found_state FROM %2$s._ayb_jobs AS job WHERE job.id = ayb_jobs_cancel.id FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no job %%', ayb_jobs_cancel.id USING ERRCODE = 'P0002';
            ELSIF found_state = 'running' AND ayb_jobs_cancel.running THEN
                UPDATE %2$s._ayb_jobs AS job
                SET cancel_requested_at = coalesce(cancel_requested_at, now()),
                    canceling_lease_id = coalesce(canceling_lease_id, lease_id, gen_random_uuid()), lease_id = NULL,
                    updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
                WHERE job.id = ayb_jobs_cancel.id;
                IF pg_notification_queue_usage() < 0.5 THEN
                    PERFORM pg_notify('ayb_jobs', 'canceled');
                END IF;
                RETURN ayb_jobs_cancel.id;
            ELSIF found_state <> 'queued' THEN
                RAISE EXCEPTION 'job %% is %%; only queued%% jobs can be canceled', ayb_jobs_cancel.id, found_state,
                    CASE WHEN ayb_jobs_cancel.running THEN ' and running' ELSE '' END USING ERRCODE = '55000';
            END IF;
            UPDATE %2$s._ayb_jobs AS job SET state = 'canceled', canceled_at = now(), updated_at = now()
            WHERE job.id = ayb_jobs_cancel.id;
            RETURN ayb_jobs_cancel.id;
        END
        $body$
    $create$, place, tables);

    -- PUBLIC may execute every new function, and default privileges may name others.
    FOR holder IN
        SELECT proc.oid::regprocedure AS name, held.grantee
        FROM pg_proc AS proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS held
        WHERE pronamespace = to_regnamespace(place) AND held.grantee <> proowner AND proname = ANY (ARRAY[
            'ayb_jobs_cancel', 'ayb_jobs_lease', 'ayb_jobs_extend', 'ayb_jobs_settle'])
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', holder.name,
            CASE holder.grantee WHEN 0 THEN 'PUBLIC' ELSE holder.grantee::regrole::text END);
    END LOOP;
    FOR holder IN
        SELECT proc.oid::regprocedure AS name, grantee
        FROM pg_proc AS proc, unnest(holders) AS grantee
        WHERE pronamespace = to_regnamespace(place) AND proname = 'ayb_jobs_cancel'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', holder.name, holder.grantee::regrole);
    END LOOP;
END
$make$;
