-- A worker leases under several limits in one transaction, and holds each until its end. It waits for no limit whose name
-- comes before one that it holds: it takes such a limit only if it is free. So workers never wait for each other in a
-- circle. The newest name that a transaction holds is kept in a setting, since it may lease more than once.
-- Locks are read before the rows that are judged by them: in one statement the rows would be the older ones.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    beat regprocedure := format('%s._ayb_job_worker_beat(text, text[], text[], integer)', tables)::regprocedure;
    leasing regprocedure := to_regprocedure(place || '.ayb_jobs_lease(text, text[], text[], integer, double precision)');
    open_leases text := format($old$EXISTS (
                    SELECT FROM pg_locks AS open
                    WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted AND open.pid <> pg_backend_pid()
                        AND open.database = (SELECT it.oid FROM pg_database AS it WHERE it.datname = current_database())
                        AND open.classid = '%1$s._ayb_job_limits'::regclass AND open.objid::bigint < newest_limit
                )$old$, tables);
    change record;
    definition text;
BEGIN
    FOR change IN
        SELECT name, old, new FROM (VALUES
            (beat, open_leases, 'is_open'),
            (beat, 'running_id uuid;', E'running_id uuid;\n            is_open boolean;'),
            (beat, 'FOR running_id IN', format(E'is_open := %s;\n                FOR running_id IN', open_leases)),
            (leasing, 'kept_id uuid;', E'kept_id uuid;\n            first_limit text;\n            held_limit text;'),
            (leasing, $old$IF turn <> 2 THEN
$old$, format($new$IF turn <> 2 THEN
                    first_limit := (
                        SELECT it.name FROM %s._ayb_job_limits AS it
                        WHERE it.types && ayb_jobs_lease.types::varchar[] ORDER BY random() LIMIT 1);
$new$, tables)),
            (leasing, $old$ORDER BY random()
                    LOOP
$old$, format($new$ORDER BY it.name < first_limit, it.name
                    LOOP
                        held_limit := coalesce(current_setting('ayb_job_limits.held', true), '');
                        IF found.name < held_limit THEN
                            CONTINUE WHEN (
                                SELECT it.name FROM %s._ayb_job_limits AS it WHERE it.name = found.name FOR NO KEY UPDATE SKIP LOCKED
                            ) IS NULL;
                        ELSE
                            PERFORM set_config('ayb_job_limits.held', found.name, true);
                        END IF;
$new$, tables))
        ) AS change (name, old, new)
        WHERE name IS NOT NULL
    LOOP
        definition := pg_get_functiondef(change.name);
        IF strpos(definition, change.old) = 0 THEN
            RAISE EXCEPTION '% was changed by hand: %', change.name, change.old;
        END IF;
        EXECUTE replace(definition, change.old, change.new);
    END LOOP;
END
$make$;
