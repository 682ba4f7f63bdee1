-- Functions for whoever enqueues by SQL alone, in a schema of their own, so that a role can be let call them and do
-- nothing else. They run with the rights of the tables' owner, and check what they are given as the Python calls do.
-- Nothing that others put on a search path can get into them. Nobody may execute them unasked: AYB serves every
-- function that its end users may execute. `ayb-jobs grant` lets a role.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    holder record;
BEGIN
    IF to_regnamespace(place) IS NULL THEN
        IF NOT has_database_privilege(current_database(), 'CREATE') THEN
            RAISE NOTICE 'the functions for enqueueing by SQL were not made, since % may not create a schema in this database; '
                'have its owner run: CREATE SCHEMA % AUTHORIZATION %; then ayb-jobs grant makes them', current_user, place, current_user;
            RETURN;
        END IF;
        EXECUTE format('CREATE SCHEMA %s', place);
        FOR holder IN
            SELECT DISTINCT held.grantee FROM pg_namespace, aclexplode(nspacl) AS held
            WHERE pg_namespace.oid = to_regnamespace(place) AND held.grantee <> nspowner
        LOOP
            EXECUTE format('REVOKE ALL ON SCHEMA %s FROM %s', place,
                CASE holder.grantee WHEN 0 THEN 'PUBLIC' ELSE holder.grantee::regrole::text END);
        END LOOP;
    ELSIF EXISTS (
        SELECT FROM pg_namespace JOIN pg_roles AS owner ON owner.oid = nspowner
        WHERE pg_namespace.oid = to_regnamespace(place) AND owner.rolname <> current_user AND NOT owner.rolsuper
            AND owner.oid <> (SELECT datdba FROM pg_database WHERE datname = current_database())
            AND owner.rolname <> 'pg_database_owner'
    ) OR NOT has_schema_privilege(to_regnamespace(place)::oid, 'CREATE') THEN
        RAISE NOTICE 'the functions for enqueueing by SQL were not made, since the schema % belongs to another role; '
            'have it run: ALTER SCHEMA % OWNER TO %; then ayb-jobs grant makes them', place, place, current_user;
        RETURN;
    END IF;

    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_enqueue(
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
            limit_key text DEFAULT NULL,
            batch_id uuid DEFAULT NULL
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
                RAISE EXCEPTION 'type has % characters; at most 100 are allowed', length(ayb_jobs_enqueue.type)
                    USING ERRCODE = '22023', COLUMN = 'type';
            ELSIF p_queue !~ '\S' THEN
                RAISE EXCEPTION 'queue is empty; it is required' USING ERRCODE = '22023', COLUMN = 'queue';
            ELSIF length(p_queue) > 100 THEN
                RAISE EXCEPTION 'queue has % characters; at most 100 are allowed', length(p_queue)
                    USING ERRCODE = '22023', COLUMN = 'queue';
            ELSIF p_priority NOT BETWEEN 1 AND 4 THEN
                RAISE EXCEPTION 'priority is %; it goes from 1 (first) to 4', p_priority
                    USING ERRCODE = '22023', COLUMN = 'priority';
            ELSIF p_max_attempts < 1 THEN
                RAISE EXCEPTION 'max_attempts is %; at least 1 is needed', p_max_attempts
                    USING ERRCODE = '22023', COLUMN = 'max_attempts';
            ELSIF ayb_jobs_enqueue.run_at IS NOT NULL AND ayb_jobs_enqueue.delay IS NOT NULL THEN
                RAISE EXCEPTION 'give run_at or delay, not both' USING ERRCODE = '22023', COLUMN = 'run_at';
            ELSIF ayb_jobs_enqueue.delay NOT BETWEEN interval '-36525 days' AND interval '36525 days' THEN
                RAISE EXCEPTION 'delay is more than 100 years' USING ERRCODE = '22023', COLUMN = 'delay';
            ELSIF length(ayb_jobs_enqueue.idempotency_key) > 255 THEN
                RAISE EXCEPTION 'idempotency_key has % characters; at most 255 are allowed', length(ayb_jobs_enqueue.idempotency_key)
                    USING ERRCODE = '22023', COLUMN = 'idempotency_key';
            ELSIF length(ayb_jobs_enqueue.traceparent) > 55 THEN
                RAISE EXCEPTION 'traceparent has % characters; at most 55 are allowed', length(ayb_jobs_enqueue.traceparent)
                    USING ERRCODE = '22023', COLUMN = 'traceparent';
            ELSIF pg_column_size(p_payload) > 1048576 OR octet_length(p_payload::text) > 1048576 THEN
                RAISE EXCEPTION 'payload has more than 1048576 bytes' USING ERRCODE = '22023', COLUMN = 'payload';
            ELSIF array_ndims(ayb_jobs_enqueue.depends_on) > 1 THEN
                RAISE EXCEPTION 'depends_on is an array of arrays; it takes ids of jobs' USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF array_position(ayb_jobs_enqueue.depends_on, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'depends_on holds a null; it takes ids of jobs' USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF cardinality(ayb_jobs_enqueue.depends_on) > 10000 THEN
                RAISE EXCEPTION 'depends_on names % jobs; at most 10000 are allowed', cardinality(ayb_jobs_enqueue.depends_on)
                    USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF p_rule NOT IN ('cancel', 'run', 'hold') THEN
                RAISE EXCEPTION 'on_parent_failure is %; it is cancel, run or hold', p_rule
                    USING ERRCODE = '22023', COLUMN = 'on_parent_failure';
            ELSIF ayb_jobs_enqueue.on_parent_failure IS NOT NULL AND NOT has_parents THEN
                RAISE EXCEPTION 'on_parent_failure goes with depends_on' USING ERRCODE = '22023', COLUMN = 'on_parent_failure';
            ELSIF has_parents AND (ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL) THEN
                RAISE EXCEPTION 'give depends_on or a unique key, not both' USING ERRCODE = '22023', COLUMN = 'depends_on';
            ELSIF length(ayb_jobs_enqueue.limit_key) > 200 THEN
                RAISE EXCEPTION 'limit_key has % characters; at most 200 are allowed', length(ayb_jobs_enqueue.limit_key)
                    USING ERRCODE = '22023', COLUMN = 'limit_key';
            ELSIF ayb_jobs_enqueue.limit_key IS NOT NULL
                AND (ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL)
            THEN
                RAISE EXCEPTION 'give limit_key or a unique key, not both; the limit can take its key from a field of the payload'
                    USING ERRCODE = '22023', COLUMN = 'limit_key';
            ELSIF ayb_jobs_enqueue.batch_id IS NOT NULL
                AND (ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL)
            THEN
                RAISE EXCEPTION 'give batch_id or a unique key, not both' USING ERRCODE = '22023', COLUMN = 'batch_id';
            END IF;
            IF ayb_jobs_enqueue.batch_id IS NOT NULL THEN
                became := TABLES._ayb_job_batch_join(ayb_jobs_enqueue.batch_id);
                IF became = 'missing' THEN
                    RAISE EXCEPTION 'there is no batch %', ayb_jobs_enqueue.batch_id USING ERRCODE = 'P0002';
                ELSIF became <> 'open' THEN
                    RAISE EXCEPTION 'batch % is %; it takes no more jobs', ayb_jobs_enqueue.batch_id, became
                        USING ERRCODE = '55000';
                END IF;
            END IF;
            IF ayb_jobs_enqueue.unique_key IS NOT NULL OR ayb_jobs_enqueue.unique_by IS NOT NULL THEN
                IF ayb_jobs_enqueue.unique_key IS NOT NULL AND ayb_jobs_enqueue.unique_by IS NOT NULL THEN
                    RAISE EXCEPTION 'give unique_key or unique_by, not both' USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF ayb_jobs_enqueue.unique_key !~ '\S' THEN
                    RAISE EXCEPTION 'unique_key is empty; it is required' USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF length(ayb_jobs_enqueue.unique_key) > 1000 THEN
                    RAISE EXCEPTION 'unique_key has % characters; at most 1000 are allowed', length(ayb_jobs_enqueue.unique_key)
                        USING ERRCODE = '22023', COLUMN = 'unique_key';
                ELSIF cardinality(ayb_jobs_enqueue.unique_by) = 0 THEN
                    RAISE EXCEPTION 'unique_by names no field of the payload' USING ERRCODE = '22023', COLUMN = 'unique_by';
                ELSIF array_ndims(ayb_jobs_enqueue.unique_by) > 1 THEN
                    RAISE EXCEPTION 'unique_by is an array of arrays; it takes names of fields' USING ERRCODE = '22023', COLUMN = 'unique_by';
                ELSIF array_position(ayb_jobs_enqueue.unique_by, NULL) IS NOT NULL THEN
                    RAISE EXCEPTION 'unique_by holds a null; it takes names of fields' USING ERRCODE = '22023', COLUMN = 'unique_by';
                ELSIF p_scope NOT IN ('unfinished', 'waiting') THEN
                    RAISE EXCEPTION 'unique_scope is %; it is unfinished or waiting', p_scope
                        USING ERRCODE = '22023', COLUMN = 'unique_scope';
                ELSIF p_on_conflict NOT IN ('return', 'reject', 'replace', 'debounce') THEN
                    RAISE EXCEPTION 'on_conflict is %; it is return, reject, replace or debounce', p_on_conflict
                        USING ERRCODE = '22023', COLUMN = 'on_conflict';
                ELSIF p_on_conflict IN ('replace', 'debounce') AND p_scope <> 'waiting' THEN
                    RAISE EXCEPTION 'on_conflict % needs the scope waiting; a job that runs cannot be replaced', p_on_conflict
                        USING ERRCODE = '22023', COLUMN = 'unique_scope';
                ELSIF ayb_jobs_enqueue.max_wait NOT BETWEEN interval '-36525 days' AND interval '36525 days' THEN
                    RAISE EXCEPTION 'max_wait is more than 100 years' USING ERRCODE = '22023', COLUMN = 'max_wait';
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
                FROM TABLES._ayb_job_enqueue(
                    ayb_jobs_enqueue.type, p_payload, p_queue, p_priority, p_max_attempts, ayb_jobs_enqueue.run_at,
                    ayb_jobs_enqueue.delay, ayb_jobs_enqueue.traceparent, ayb_jobs_enqueue.unique_key,
                    ayb_jobs_enqueue.unique_by, p_scope, p_on_conflict, ayb_jobs_enqueue.max_wait
                ) AS asked;
                IF became = 'found' AND p_on_conflict = 'reject' THEN
                    RAISE EXCEPTION 'the unique key is taken by job %', made USING ERRCODE = '23505';
                ELSIF became = 'runs' THEN
                    RAISE EXCEPTION 'the unique key is taken by job %, which runs and cannot be replaced', made
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
                INSERT INTO TABLES._ayb_jobs AS job
                    (id, type, payload, queue, priority, max_attempts, run_at, blocked_run_at, idempotency_key, traceparent,
                    limit_key, batch_id)
                VALUES (
                    TABLES._ayb_job_id(), ayb_jobs_enqueue.type, p_payload, p_queue, p_priority, p_max_attempts,
                    CASE
                        WHEN has_parents THEN '9999-12-31 00:00:00+00'
                        ELSE coalesce(ayb_jobs_enqueue.run_at, now() + ayb_jobs_enqueue.delay, now())
                    END,
                    CASE WHEN has_parents THEN coalesce(ayb_jobs_enqueue.run_at, now() + ayb_jobs_enqueue.delay, now()) END,
                    ayb_jobs_enqueue.idempotency_key, ayb_jobs_enqueue.traceparent, ayb_jobs_enqueue.limit_key,
                    ayb_jobs_enqueue.batch_id
                )
                ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
                RETURNING job.id, job.run_at INTO made, due;
                IF FOUND AND has_parents THEN
                    INSERT INTO TABLES._ayb_job_dependencies (child_id, parent_id, rule)
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
                SELECT job.id INTO made FROM TABLES._ayb_jobs AS job
                WHERE job.idempotency_key = ayb_jobs_enqueue.idempotency_key;
                IF FOUND THEN
                    RETURN made;
                END IF;
            END LOOP;
            RAISE EXCEPTION 'the job was not made: a trigger or a rule on TABLES._ayb_jobs drops it' USING ERRCODE = '55000';
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    -- A trigger of the application's may keep a job as it is without an error: it returns null, or the row as it was.
    -- Canceling and retrying it raise one then, as the Python calls do.
    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_cancel(id uuid, running boolean DEFAULT false) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            found_state text;
        BEGIN
            SELECT job.state INTO found_state FROM TABLES._ayb_jobs AS job WHERE job.id = ayb_jobs_cancel.id FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no job %', ayb_jobs_cancel.id USING ERRCODE = 'P0002';
            ELSIF found_state = 'running' AND ayb_jobs_cancel.running THEN
                UPDATE TABLES._ayb_jobs AS job
                SET cancel_requested_at = coalesce(cancel_requested_at, now()),
                    canceling_lease_id = coalesce(canceling_lease_id, lease_id, gen_random_uuid()), lease_id = NULL,
                    updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
                WHERE job.id = ayb_jobs_cancel.id
                RETURNING CASE WHEN job.state = 'canceled' OR job.cancel_requested_at IS NOT NULL THEN job.state END INTO found_state;
                IF found_state IS NULL THEN
                    RAISE EXCEPTION 'job % stays as it was: a trigger or a rule on its table keeps it so', ayb_jobs_cancel.id
                        USING ERRCODE = '55000';
                END IF;
                IF pg_notification_queue_usage() < 0.5 THEN
                    PERFORM pg_notify('ayb_jobs', 'canceled');
                END IF;
                RETURN ayb_jobs_cancel.id;
            ELSIF found_state <> 'queued' THEN
                RAISE EXCEPTION 'job % is %; only queued% jobs can be canceled', ayb_jobs_cancel.id, found_state,
                    CASE WHEN ayb_jobs_cancel.running THEN ' and running' ELSE '' END USING ERRCODE = '55000';
            END IF;
            UPDATE TABLES._ayb_jobs AS job SET state = 'canceled', canceled_at = now(), updated_at = now()
            WHERE job.id = ayb_jobs_cancel.id
            RETURNING CASE WHEN job.state = 'canceled' OR job.cancel_requested_at IS NOT NULL THEN job.state END INTO found_state;
            IF found_state IS NULL THEN
                RAISE EXCEPTION 'job % stays as it was: a trigger or a rule on its table keeps it so', ayb_jobs_cancel.id
                    USING ERRCODE = '55000';
            END IF;
            IF pg_notification_queue_usage() < 0.5 AND EXISTS (
                SELECT FROM TABLES._ayb_job_dependencies AS edge WHERE edge.parent_id = ayb_jobs_cancel.id AND edge.is_open
                UNION ALL
                SELECT FROM TABLES._ayb_jobs AS member WHERE member.id = ayb_jobs_cancel.id AND member.batch_id IS NOT NULL
            ) THEN
                PERFORM pg_notify('ayb_jobs', 'ended ' || ayb_jobs_cancel.id);
            END IF;
            RETURN ayb_jobs_cancel.id;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_retry(id uuid) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            found_state text;
            key bytea;
            twin uuid;
        BEGIN
            SELECT job.state, job.unique_key INTO found_state, key
            FROM TABLES._ayb_jobs AS job WHERE job.id = ayb_jobs_retry.id FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no job %', ayb_jobs_retry.id USING ERRCODE = 'P0002';
            ELSIF found_state <> 'failed' THEN
                RAISE EXCEPTION 'job % is %; only failed jobs can be retried', ayb_jobs_retry.id, found_state
                    USING ERRCODE = '55000';
            END IF;
            BEGIN
                UPDATE TABLES._ayb_jobs AS job
                SET state = 'queued', run_at = now(),
                    -- Each snooze added an attempt; those since the job was made or retried are its last ones.
                    max_attempts = greatest(1, job.max_attempts - (
                        SELECT count(*) FILTER (WHERE last.outcome = 'snoozed')
                        FROM (
                            SELECT run.outcome FROM TABLES._ayb_job_executions AS run
                            WHERE run.job_id = job.id
                            ORDER BY run.id + 0 DESC
                            LIMIT greatest(job.attempts, 0)
                        ) AS last
                    ))::int,
                    attempts = 0, crashes = 0, last_error = NULL, progress = NULL, updated_at = now(),
                    priority = CASE WHEN job.priority > 4 THEN job.priority - 4 ELSE job.priority END, limited_by = NULL, limited_key = NULL
                WHERE job.id = ayb_jobs_retry.id
            RETURNING CASE WHEN job.state = 'queued' THEN job.state END INTO found_state;
            IF found_state IS NULL THEN
                RAISE EXCEPTION 'job % stays as it was: a trigger or a rule on its table keeps it so', ayb_jobs_retry.id
                    USING ERRCODE = '55000';
            END IF;
            EXCEPTION
                WHEN unique_violation THEN
                    SELECT job.id INTO twin FROM TABLES._ayb_jobs AS job
                    WHERE job.unique_key = key AND job.unique_key IS NOT NULL AND job.state IN ('queued', 'running');
                    IF NOT FOUND THEN
                        RAISE;
                    END IF;
                    RAISE EXCEPTION 'job % has the unique key of job %, which has not ended', ayb_jobs_retry.id, twin
                        USING ERRCODE = '23505';
            END;
            IF pg_notification_queue_usage() < 0.5 THEN
                PERFORM pg_notify('ayb_jobs', '');
            END IF;
            RETURN ayb_jobs_retry.id;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_batch(
            on_success jsonb DEFAULT NULL,
            on_failure jsonb DEFAULT NULL,
            on_done jsonb DEFAULT NULL,
            description text DEFAULT NULL
        ) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            callbacks jsonb := '{}';
            name text;
            callback jsonb;
            wrong text;
        BEGIN
            IF length(ayb_jobs_batch.description) > 200 THEN
                RAISE EXCEPTION 'description has % characters; at most 200 are allowed', length(ayb_jobs_batch.description)
                    USING ERRCODE = '22023', COLUMN = 'description';
            END IF;
            FOR name, callback IN
                SELECT given.* FROM (VALUES
                    ('on_success', ayb_jobs_batch.on_success),
                    ('on_failure', ayb_jobs_batch.on_failure),
                    ('on_done', ayb_jobs_batch.on_done)
                ) AS given (name, callback)
                WHERE given.callback IS NOT NULL
            LOOP
                IF jsonb_typeof(callback) <> 'object' THEN
                    RAISE EXCEPTION '% is no object; one such as {"type": "report"} is needed', name
                        USING ERRCODE = '22023', COLUMN = name;
                END IF;
                SELECT field INTO wrong FROM jsonb_object_keys(callback) AS field
                WHERE field NOT IN ('type', 'payload', 'queue', 'priority', 'max_attempts');
                IF FOUND THEN
                    RAISE EXCEPTION '% has %; a callback takes type, payload, queue, priority, max_attempts', name, wrong
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF jsonb_typeof(callback -> 'type') NOT IN ('string', 'null') THEN
                    RAISE EXCEPTION 'the type of % is no text', name
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF coalesce(callback ->> 'type', '') !~ '\S' OR length(callback ->> 'type') > 100 THEN
                    RAISE EXCEPTION 'the type of % is empty or longer than 100 characters', name
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF jsonb_typeof(callback -> 'queue') NOT IN ('string', 'null') THEN
                    RAISE EXCEPTION 'the queue of % is no text', name
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF coalesce(callback ->> 'queue', 'default') !~ '\S' OR length(callback ->> 'queue') > 100 THEN
                    RAISE EXCEPTION 'the queue of % is empty or longer than 100 characters', name
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF callback ->> 'priority' !~ '^[1-4]$' THEN
                    RAISE EXCEPTION 'the priority of % is %; it goes from 1 (first) to 4', name, callback ->> 'priority'
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF callback ->> 'max_attempts' !~ '^[1-9][0-9]{0,8}$' THEN
                    RAISE EXCEPTION 'the max_attempts of % are %; at least 1 is needed', name, callback ->> 'max_attempts'
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF jsonb_typeof(callback -> 'payload') <> 'object' OR (callback -> 'payload') ? 'batch' THEN
                    RAISE EXCEPTION 'the payload of % must be an object without a field %', name, quote_literal('batch')
                        USING ERRCODE = '22023', COLUMN = name;
                ELSIF octet_length((callback -> 'payload')::text) > 1048576 THEN
                    RAISE EXCEPTION 'the payload of % has more than 1048576 bytes', name
                        USING ERRCODE = '22023', COLUMN = name;
                END IF;
                callbacks := callbacks || jsonb_build_object(substring(name FROM 4), callback);
            END LOOP;
            RETURN TABLES._ayb_job_batch_open(ayb_jobs_batch.description, callbacks, NULL);
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');

    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION PLACE.ayb_jobs_seal_batch(batch_id uuid) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            IF NOT coalesce(TABLES._ayb_job_batch_seal(ayb_jobs_seal_batch.batch_id), false) THEN
                RAISE EXCEPTION 'there is no batch %', ayb_jobs_seal_batch.batch_id USING ERRCODE = 'P0002';
            END IF;
            RETURN ayb_jobs_seal_batch.batch_id;
        END
        $body$
    $create$, 'TABLES.', tables || '.'), 'PLACE.', place || '.');
END
$make$;
