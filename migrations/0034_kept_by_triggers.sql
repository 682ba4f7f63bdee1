-- A trigger of the application's may keep a job as it is without an error: it returns null, or the row as it was.
-- `ayb_jobs_cancel` and `ayb_jobs_retry` raise an error then, as the Python calls do.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    change record;
    definition text;
    written text;
BEGIN
    FOR change IN
        SELECT to_regprocedure(place || '.' || arguments) AS changing, name, is_done
        FROM (VALUES
            ('ayb_jobs_cancel(uuid, boolean)', 'ayb_jobs_cancel', 'job.state = ''canceled'' OR job.cancel_requested_at IS NOT NULL'),
            ('ayb_jobs_retry(uuid)', 'ayb_jobs_retry', 'job.state = ''queued''')
        ) AS change (arguments, name, is_done)
    LOOP
        CONTINUE WHEN change.changing IS NULL;  -- it could not be made before either
        definition := pg_get_functiondef(change.changing);
        written := format('WHERE job.id = %s.id;', change.name);
        IF strpos(definition, written) = 0 THEN
            RAISE EXCEPTION '% was changed by hand', change.changing;
        END IF;
        EXECUTE replace(definition, written, format($new$WHERE job.id = %1$s.id
            RETURNING CASE WHEN %2$s THEN job.state END INTO found_state;
            IF found_state IS NULL THEN
                RAISE EXCEPTION 'job %% stays as it was: a trigger or a rule on its table keeps it so', %1$s.id
                    USING ERRCODE = '55000';
            END IF;$new$, change.name, change.is_done));
    END LOOP;
END
$make$;
