-- Sequential scans are off in what seals a batch and keeps one from its end: the tables may be small or never analyzed
-- when a plan is made, and grow while it is kept.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    EXECUTE format('ALTER FUNCTION %s._ayb_job_batch_seal(uuid) SET enable_seqscan = off', tables);
    EXECUTE format('ALTER FUNCTION %s._ayb_job_batch_join(uuid) SET enable_seqscan = off', tables);
END
$make$;
