-- A trigger of the application's may keep a job that was chosen as it is. It has not started, so it spends nothing of a
-- rate: with each retry of it a slow rate would let nothing else start.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    leasing regprocedure := format('%s._ayb_job_lease_limited', tables)::regproc::oid::regprocedure;
    spent text := $old$IF held.every IS NOT NULL THEN
                    held.tat := greatest(held.tat, at) + cardinality(picked) * held.every;$old$;
    definition text := pg_get_functiondef(leasing);
BEGIN
    IF strpos(definition, spent) = 0 THEN
        RAISE EXCEPTION '% was changed by hand', leasing;
    END IF;
    EXECUTE replace(definition, spent, format($new$IF held.every IS NOT NULL OR held.key_every IS NOT NULL THEN
                    picked_keys := ARRAY(
                        SELECT chosen.key FROM unnest(picked, picked_keys) AS chosen (id, key)
                        JOIN %s._ayb_jobs AS job ON job.id = chosen.id
                        WHERE job.state = 'running' AND job.lease_id IS NOT NULL);
                END IF;
                IF held.every IS NOT NULL THEN
                    held.tat := greatest(held.tat, at) + cardinality(picked_keys) * held.every;$new$, tables));
END
$make$;
