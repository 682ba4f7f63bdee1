-- Functions for whoever enqueues by SQL alone: `ayb_jobs_enqueue`, `ayb_jobs_cancel`, `ayb_jobs_retry`, in a schema of
-- their own, so that a role can be let call them and do nothing else. They run with the rights of the tables' owner, and
-- check what they are given as the Python calls do. Nothing that others put on a search path can get into them.
-- Nobody may execute them unasked: AYB serves every function that its end users may execute. `ayb-jobs grant` lets a role.
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
            traceparent text DEFAULT NULL
        ) RETURNS uuid LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            made uuid;
            due timestamptz;
            -- What is null was not given.
            p_payload jsonb := coalesce(ayb_jobs_enqueue.payload, '{}');
            p_queue text := coalesce(ayb_jobs_enqueue.queue, 'default');
            p_priority int := coalesce(ayb_jobs_enqueue.priority, 2);
            p_max_attempts int := coalesce(ayb_jobs_enqueue.max_attempts, 3);
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
            END IF;
            FOR attempt IN 1..100 LOOP
                INSERT INTO %2$s._ayb_jobs AS job
                    (id, type, payload, queue, priority, max_attempts, run_at, idempotency_key, traceparent)
                VALUES (
                    %3$s, ayb_jobs_enqueue.type, p_payload, p_queue, p_priority, p_max_attempts,
                    coalesce(ayb_jobs_enqueue.run_at, now() + ayb_jobs_enqueue.delay, now()),
                    ayb_jobs_enqueue.idempotency_key, ayb_jobs_enqueue.traceparent
                )
                ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
                RETURNING job.id, job.run_at INTO made, due;
                IF FOUND THEN
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
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_cancel(id uuid) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            found_state text;
        BEGIN
            SELECT job.state INTO found_state FROM %2$s._ayb_jobs AS job WHERE job.id = ayb_jobs_cancel.id FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no job %%', ayb_jobs_cancel.id USING ERRCODE = 'P0002';
            ELSIF found_state <> 'queued' THEN
                RAISE EXCEPTION 'job %% is %%; only queued jobs can be canceled', ayb_jobs_cancel.id, found_state
                    USING ERRCODE = '55000';
            END IF;
            UPDATE %2$s._ayb_jobs AS job SET state = 'canceled', canceled_at = now(), updated_at = now()
            WHERE job.id = ayb_jobs_cancel.id;
            RETURN ayb_jobs_cancel.id;
        END
        $body$
    $create$, place, tables);

    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s.ayb_jobs_retry(id uuid) RETURNS uuid
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            found_state text;
        BEGIN
            SELECT job.state INTO found_state FROM %2$s._ayb_jobs AS job WHERE job.id = ayb_jobs_retry.id FOR UPDATE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'there is no job %%', ayb_jobs_retry.id USING ERRCODE = 'P0002';
            ELSIF found_state <> 'failed' THEN
                RAISE EXCEPTION 'job %% is %%; only failed jobs can be retried', ayb_jobs_retry.id, found_state
                    USING ERRCODE = '55000';
            END IF;
            UPDATE %2$s._ayb_jobs AS job
            SET state = 'queued', run_at = now(), attempts = 0, crashes = 0, last_error = NULL, progress = NULL, updated_at = now()
            WHERE job.id = ayb_jobs_retry.id;
            IF pg_notification_queue_usage() < 0.5 THEN
                PERFORM pg_notify('ayb_jobs', '');
            END IF;
            RETURN ayb_jobs_retry.id;
        END
        $body$
    $create$, place, tables);

    -- PUBLIC may execute every new function, and default privileges may name others.
    FOR holder IN
        SELECT proc.oid::regprocedure AS name, held.grantee
        FROM pg_proc AS proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS held
        WHERE pronamespace = to_regnamespace(place) AND proname IN ('ayb_jobs_enqueue', 'ayb_jobs_cancel', 'ayb_jobs_retry')
            AND held.grantee <> proowner
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', holder.name,
            CASE holder.grantee WHEN 0 THEN 'PUBLIC' ELSE holder.grantee::regrole::text END);
    END LOOP;
END
$make$;
