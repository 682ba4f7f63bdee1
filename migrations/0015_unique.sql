-- Unique jobs: of those with one key at most one is queued or running. The key is a hash of the type and of what the
-- caller says, made here for every door. If `unique_waiting`, leasing clears the key: one job runs while the next waits,
-- and a retry can never meet another with its key.
ALTER TABLE _ayb_jobs
    ADD COLUMN IF NOT EXISTS unique_key bytea,
    ADD COLUMN IF NOT EXISTS unique_waiting boolean;

CREATE UNIQUE INDEX IF NOT EXISTS idx_ayb_jobs_unique ON _ayb_jobs (unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('queued', 'running');

-- For callers who may insert and not update. `became` is what became of the call: the job was `made`, one was `found`
-- or `replaced`, or one that `runs` cannot be replaced.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_enqueue(
            p_type text, p_payload jsonb, p_queue text, p_priority int, p_max_attempts int, p_run_at timestamptz,
            p_delay interval, p_traceparent text, p_unique_key text, p_unique_by text[], p_scope text,
            p_on_conflict text, p_max_wait interval
        ) RETURNS TABLE (job_id uuid, became text)
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        #variable_conflict use_column
        DECLARE
            new_id uuid;
            due timestamptz;
            holder_state text;
            replaced uuid;
            replaces boolean := p_on_conflict IN ('replace', 'debounce');
            hashed bytea := sha256(convert_to(
                length(p_type) || ':' || p_type || coalesce(
                    'k' || p_unique_key,
                    'f' || (SELECT jsonb_object_agg(field, p_payload -> field)::text FROM unnest(p_unique_by) AS field)
                ), 'UTF8'));
        BEGIN
            IF hashed IS NULL THEN
                RAISE EXCEPTION 'there is no unique key' USING ERRCODE = '22023', COLUMN = 'unique_key';
            END IF;
            FOR attempt IN 1..100 LOOP
                new_id := TABLES._ayb_job_id();
                IF replaces THEN
                    -- A holder that is leased meanwhile has lost its key when we get its row, so that we insert.
                    INSERT INTO TABLES._ayb_jobs AS job
                        (id, type, payload, queue, priority, max_attempts, run_at, traceparent, unique_key, unique_waiting)
                    VALUES (new_id, p_type, p_payload, p_queue, p_priority, p_max_attempts,
                        coalesce(p_run_at, now() + p_delay, now()), p_traceparent, hashed, p_scope = 'waiting')
                    ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND state IN ('queued', 'running') DO UPDATE
                    SET payload = excluded.payload, queue = excluded.queue, priority = excluded.priority,
                        max_attempts = excluded.max_attempts, traceparent = excluded.traceparent,
                        unique_waiting = excluded.unique_waiting, updated_at = now(),
                        attempts = 0, crashes = 0, last_error = NULL, progress = NULL,  -- they were the old payload's
                        limit_key = NULL, limited_by = NULL, limited_key = NULL,  -- whoever meets it puts it under its limit anew
                        run_at = least(excluded.run_at, job.created_at + p_max_wait)
                    WHERE job.state = 'queued'
                    RETURNING job.id, job.run_at INTO job_id, due;
                ELSE
                    INSERT INTO TABLES._ayb_jobs AS job
                        (id, type, payload, queue, priority, max_attempts, run_at, traceparent, unique_key, unique_waiting)
                    VALUES (new_id, p_type, p_payload, p_queue, p_priority, p_max_attempts,
                        coalesce(p_run_at, now() + p_delay, now()), p_traceparent, hashed, p_scope = 'waiting')
                    ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND state IN ('queued', 'running') DO NOTHING
                    RETURNING job.id, job.run_at INTO job_id, due;
                END IF;
                IF FOUND THEN
                    became := CASE job_id WHEN new_id THEN 'made' ELSE 'replaced' END;
                    IF became = 'replaced' THEN
                        replaced := job_id;
                        DELETE FROM TABLES._ayb_job_steps AS step WHERE step.job_id = replaced;
                    END IF;
                    IF due <= now() AND pg_notification_queue_usage() < 0.5 THEN
                        PERFORM pg_notify('ayb_jobs', '');
                    END IF;
                    RETURN NEXT;
                    RETURN;
                END IF;
                -- A statement of its own: the holder may have been committed while the insert ran, unseen by it.
                SELECT job.id, job.state INTO job_id, holder_state FROM TABLES._ayb_jobs AS job
                WHERE job.unique_key = hashed AND job.unique_key IS NOT NULL AND job.state IN ('queued', 'running')
                    AND (NOT replaces OR job.state = 'running');
                IF FOUND THEN
                    became := CASE WHEN replaces THEN 'runs' ELSE 'found' END;
                    RETURN NEXT;
                    RETURN;
                END IF;
                -- It has ended since, or waits again: the key can be had.
            END LOOP;
            RAISE EXCEPTION 'the job was not made: a trigger or a rule on TABLES._ayb_jobs drops it' USING ERRCODE = '55000';
        END
        $body$
    $create$, 'TABLES.', tables || '.');
END
$make$;
