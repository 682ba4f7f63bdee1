-- Functions for workers in any language: `ayb_jobs_lease`, `ayb_jobs_extend` and `ayb_jobs_settle`. `docs/workers.md`
-- specifies them. They stand beside those for enqueueing, run with the rights of the tables' owner as these do, and obey
-- what daemons obey. `ayb-jobs grant ROLE --worker` lets a role call them.
--
-- `ayb_jobs_enqueue` takes the key of a limit, and `ayb_jobs_cancel` can have a running job end canceled. A function
-- with more arguments is another function to PostgreSQL: the ones before go, and who could call them can call these.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    new_id text := CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'uuidv7()' ELSE $id$
        encode(
            set_bit(set_bit(
                overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
                52, 1), 53, 1),
            'hex')::uuid $id$ END;
    holder record;
    holders jsonb;
    gone regprocedure[] := ARRAY[
        to_regprocedure(place || '.ayb_jobs_enqueue(text, jsonb, text, int, int, timestamptz, interval, text, text,'
            ' text, text[], text, text, interval, uuid[], text)'),
        to_regprocedure(place || '.ayb_jobs_cancel(uuid)')
    ];
BEGIN
    IF gone[1] IS NULL THEN
        RETURN;  -- they could not be made before either
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_array(proname, held.grantee::regrole)), '[]') INTO holders
    FROM pg_proc, aclexplode(proacl) AS held
    WHERE pg_proc.oid = ANY (gone::oid[]) AND held.grantee NOT IN (0, proowner);
    EXECUTE format('DROP FUNCTION %s, %s', gone[1], gone[2]);

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
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_enqueue(
            type text,
            payload jsonb DEFAULT '{}',
            queue text DEFAULT 'default',
            priority int DEFAULT 2,
            max_attempts int DEFAULT 3,
            run_at timestamptz DEFAULT NULL,
            delay interval DEFAULT NULL,
            idempotency_key text DEFAULT NULL,
            traceparent text DEFAULT NULL,
            unique_key text DEFAULT NULL,
            unique_by text[] DEFAULT NULL,
            unique_scope text DEFAULT NULL,
            on_conflict text DEFAULT NULL,
            max_wait interval DEFAULT NULL,
            depends_on uuid[] DEFAULT NULL,
            on_parent_failure text DEFAULT NULL,
            limit_key text DEFAULT NULL
        ) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            made uuid;
            due timestamptz;
            became text;
            -- What is null was not given.
            p_payload jsonb := coalesce(ayb_jobs_enqueue.payload, '{}');
            p_queue text := coalesce(ayb_jobs_enqueue.queue, 'default');
            p_priority int := coalesce(ayb_jobs_enqueue.priority, 2);
            p_max_attempts int := coalesce(ayb_jobs_enqueue.max_attempts, 3);
            p_on_conflict text := coalesce(ayb_jobs_enqueue.on_conflict, 'return');
            p_rule text := coalesce(ayb_jobs_enqueue.on_parent_failure, 'cancel');
            has_parents boolean := coalesce(cardinality(ayb_jobs_enqueue.depends_on), 0) > 0;
            p_scope text := coalesce(ayb_jobs_enqueue.unique_scope,
                CASE WHEN ayb_jobs_enqueue.on_conflict IN ('replace', 'debounce') THEN 'waiting' ELSE 'unfinished' END);
        BEGIN
            IF coalesce(ayb_jobs_enqueue.type, '') !~ '\S' THEN
                RAISE EXCEPTION 'type is empty; it is required' USING ERRCODE = '22023', COLUMN = 'type';
            ELSIF length(ayb_jobs_enqueue.type) > 100 THEN
                RAISE EXCEPTION 'type has %% characters; at most 100 are allowed', length(ayb_jobs_enqueue.type)
                    USING ERRCODE = '22023', COLUMN = 'type';
            ELSIF p_queue !~ '\S' THEN
                RAISE EXCEPTION 'queue is empty; it is required' USING ERRCODE = '22023', COLUMN = 'queue';
            ELSIF length(p_queue) > 100 THEN
                RAISE EXCEPTION 'queue has %% characters; at most 100 are allowed', length(p_queue)
                    USING ERRCODE = '22023', COLUMN = 'queue';
            ELSIF p_priority NOT BETWEEN 1 AND 4 THEN
                RAISE EXCEPTION 'priority is %%; it goes from 1 (first) to 4', p_priority
                    USING ERRCODE = '22023', COLUMN = 'priority';
            ELSIF p_max_attempts < 1 THEN
                RAISE EXCEPTION 'max_attempts is %%; at least 1 is needed', p_max_attempts
                    USING ERRCODE = '22023', COLUMN = 'max_attempts';
            ELSIF ayb_jobs_enqueue.run_at IS NOT NULL AND ayb_jobs_enqueue.delay IS NOT NULL THEN
                RAISE EXCEPTION 'give run_at or delay, not both' USING ERRCODE = '22023', COLUMN = 'run_at';
            ELSIF length(ayb_jobs_enqueue.idempotency_key) > 255 THEN
                RAISE EXCEPTION 'idempotency_key has %% characters; at most 255 are allowed', length(ayb_jobs_enqueue.idempotency_key)
                    USING ERRCODE = '22023', COLUMN = 'idempotency_key';
            ELSIF length(ayb_jobs_enqueue.traceparent) > 55 THEN
                RAISE EXCEPTION 'traceparent has %% characters; at most 55 are allowed', length(ayb_jobs_enqueue.traceparent)
                    USING ERRCODE = '22023', COLUMN = 'traceparent';
            ELSIF pg_column_size(p_payload) > 1048576 OR octet_length(p_payload::text) > 1048576 THEN
                RAISE EXCEPTION 'payload has more than 1048576 bytes' USING ERRCODE = '22023', COLUMN = 'payload';
            ELSIF array_position(ayb_jobs_enqueue.depends_on, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'depends_on holds a null; it takes ids of jobs' USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF cardinality(ayb_jobs_enqueue.depends_on) > 10000 THEN
                RAISE EXCEPTION 'depends_on names %% jobs; at most 10000 are allowed', cardinality(ayb_jobs_enqueue.depends_on)
                    USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF p_rule NOT IN ('cancel', 'run', 'hold') THEN
                RAISE EXCEPTION 'on_parent_failure is %%; it is cancel, run or hold', p_rule
                    USING ERRCODE = '22023', COLUMN = 'on_parent_failure';
            ELSIF ayb_jobs_enqueue.on_parent_failure IS NOT NULL AND NOT has_parents THEN
                RAISE EXCEPTION 'on_parent_failure goes with depends_on' USING ERRCODE = '22023', COLUMN = 'on_parent_failure';
            ELSIF has_parents AND (ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL) THEN
                RAISE EXCEPTION 'give depends_on or a unique key, not both' USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF length(ayb_jobs_enqueue.limit_key) > 200 THEN
                RAISE EXCEPTION 'limit_key has %% characters; at most 200 are allowed', length(ayb_jobs_enqueue.limit_key)
                    USING ERRCODE = '22023', COLUMN = 'limit_key';
            ELSIF ayb_jobs_enqueue.limit_key IS NOT NULL
                AND (ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL)
            THEN
                RAISE EXCEPTION 'give limit_key or a unique key, not both; the limit can take its key from a field of the payload'
                    USING ERRCODE = '22023', COLUMN = 'limit_key';
            END IF;
            IF ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL THEN
                IF ayb_jobs_enqueue.unique_key IS NOT NULL AND ayb_jobs_enqueue.unique_by IS NOT NULL THEN
                    RAISE EXCEPTION 'give unique_key or unique_by, not both' USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF ayb_jobs_enqueue.unique_key !~ '\S' THEN
                    RAISE EXCEPTION 'unique_key is empty; it is required' USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF length(ayb_jobs_enqueue.unique_key) > 1000 THEN
                    RAISE EXCEPTION 'unique_key has %% characters; at most 1000 are allowed', length(ayb_jobs_enqueue.unique_key)
                        USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF cardinality(ayb_jobs_enqueue.unique_by) = 0 THEN
                    RAISE EXCEPTION 'unique_by names no field of the payload' USING ERRCODE = '22023', COLUMN = 'unique_by';
                ELSIF array_position(ayb_jobs_enqueue.unique_by, NULL) IS NOT NULL THEN
                    RAISE EXCEPTION 'unique_by holds a null; it takes names of fields' USING ERRCODE = '22023', COLUMN = 'unique_by';
                ELSIF p_scope NOT IN ('unfinished', 'waiting') THEN
                    RAISE EXCEPTION 'unique_scope is %%; it is unfinished or waiting', p_scope
                        USING ERRCODE = '22023', COLUMN = 'unique_scope';
                ELSIF p_on_conflict NOT IN ('return', 'reject', 'replace', 'debounce') THEN
                    RAISE EXCEPTION 'on_conflict is %%; it is return, reject, replace or debounce', p_on_conflict
                        USING ERRCODE = '22023', COLUMN = 'on_conflict';
                ELSIF p_on_conflict IN ('replace', 'debounce') AND p_scope <> 'waiting' THEN
                    RAISE EXCEPTION 'on_conflict %% needs the scope waiting; a job that runs cannot be replaced', p_on_conflict
                        USING ERRCODE = '22023', COLUMN = 'unique_scope';
                ELSIF p_on_conflict = 'debounce' AND ayb_jobs_enqueue.delay IS NULL THEN
                    RAISE EXCEPTION 'debounce needs a delay: how long to wait after the last call' USING ERRCODE = '22023', COLUMN = 'delay';
                ELSIF ayb_jobs_enqueue.max_wait IS NOT NULL AND p_on_conflict <> 'debounce' THEN
                    RAISE EXCEPTION 'max_wait goes with on_conflict debounce alone' USING ERRCODE = '22023', COLUMN = 'max_wait';
                ELSIF ayb_jobs_enqueue.max_wait < ayb_jobs_enqueue.delay THEN
                    RAISE EXCEPTION 'max_wait is shorter than the delay' USING ERRCODE = '22023', COLUMN = 'max_wait';
                ELSIF ayb_jobs_enqueue.idempotency_key IS NOT NULL THEN
                    RAISE EXCEPTION 'give idempotency_key or a unique key, not both' USING ERRCODE = '22023', COLUMN = 'idempotency_key';
                END IF;
                SELECT asked.job_id, asked.became INTO made, became
                FROM %2$s._ayb_job_enqueue(
                    ayb_jobs_enqueue.type, p_payload, p_queue, p_priority, p_max_attempts, ayb_jobs_enqueue.run_at,
                    ayb_jobs_enqueue.delay, ayb_jobs_enqueue.traceparent, ayb_jobs_enqueue.unique_key,
                    ayb_jobs_enqueue.unique_by, p_scope, p_on_conflict, ayb_jobs_enqueue.max_wait
                ) AS asked;
                IF became = 'found' AND p_on_conflict = 'reject' THEN
                    RAISE EXCEPTION 'the unique key is taken by job %%', made USING ERRCODE = '23505';
                ELSIF became = 'runs' THEN
                    RAISE EXCEPTION 'the unique key is taken by job %%, which runs and cannot be replaced', made
                        USING ERRCODE = '23505';
                END IF;
                RETURN made;
            ELSIF ayb_jobs_enqueue.unique_scope IS NOT NULL OR ayb_jobs_enqueue.on_conflict IS NOT NULL
                OR ayb_jobs_enqueue.max_wait IS NOT NULL
            THEN
                RAISE EXCEPTION 'unique_scope, on_conflict and max_wait go with unique_key or unique_by'
                    USING ERRCODE = '22023', COLUMN = 'unique_key';
            END IF;
            FOR attempt IN 1..100 LOOP
                INSERT INTO %2$s._ayb_jobs AS job
                    (id, type, payload, queue, priority, max_attempts, run_at, blocked_run_at, idempotency_key, traceparent, limit_key)
                VALUES (
                    %3$s, ayb_jobs_enqueue.type, p_payload, p_queue, p_priority, p_max_attempts,
                    CASE
                        WHEN has_parents THEN '9999-12-31 00:00:00+00'
                        ELSE coalesce(ayb_jobs_enqueue.run_at, now() + ayb_jobs_enqueue.delay, now())
                    END,
                    CASE WHEN has_parents THEN coalesce(ayb_jobs_enqueue.run_at, now() + ayb_jobs_enqueue.delay, now()) END,
                    ayb_jobs_enqueue.idempotency_key, ayb_jobs_enqueue.traceparent, ayb_jobs_enqueue.limit_key
                )
                ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
                RETURNING job.id, job.run_at INTO made, due;
                IF FOUND AND has_parents THEN
                    INSERT INTO %2$s._ayb_job_dependencies (child_id, parent_id, rule)
                    SELECT DISTINCT made, parent, p_rule FROM unnest(ayb_jobs_enqueue.depends_on) AS parent;
                    IF pg_notification_queue_usage() < 0.5 THEN
                        PERFORM pg_notify('ayb_jobs', 'blocked');
                    END IF;
                    RETURN made;
                ELSIF FOUND THEN
                    IF due <= now() AND pg_notification_queue_usage() < 0.5 THEN
                        PERFORM pg_notify('ayb_jobs', '');
                    END IF;
                    RETURN made;
                END IF;
                -- A statement of its own: the key's holder may have been committed while the insert ran, unseen by it.
                SELECT job.id INTO made FROM %2$s._ayb_jobs AS job
                WHERE job.idempotency_key = ayb_jobs_enqueue.idempotency_key;
                IF FOUND THEN
                    RETURN made;
                END IF;
            END LOOP;
            RAISE EXCEPTION 'the job was not made: a trigger or a rule on _ayb_jobs drops it' USING ERRCODE = '55000';
        END
        $body$
    $create$, place, tables, new_id);

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
            'ayb_jobs_enqueue', 'ayb_jobs_cancel', 'ayb_jobs_lease', 'ayb_jobs_extend', 'ayb_jobs_settle'])
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', holder.name,
            CASE holder.grantee WHEN 0 THEN 'PUBLIC' ELSE holder.grantee::regrole::text END);
    END LOOP;
    FOR holder IN
        SELECT DISTINCT proc.oid::regprocedure AS name, held ->> 1 AS grantee
        FROM pg_proc AS proc JOIN jsonb_array_elements(holders) AS held ON held ->> 0 = proname
        WHERE pronamespace = to_regnamespace(place)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', holder.name, holder.grantee);
    END LOOP;
END
$make$;
