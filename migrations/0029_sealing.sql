-- Sealing a batch asks for a member that waits or runs. In this order its index finds one, if there is one. Without an
-- order the server may walk over all jobs that wait, of which most are in other batches.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s._ayb_job_batch_seal(p_batch uuid) RETURNS boolean
            LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            SET enable_seqscan = off SET enable_sort = off AS $body$
        BEGIN
            UPDATE %1$s._ayb_job_batches AS batch SET sealed_at = now() WHERE batch.id = p_batch AND batch.sealed_at IS NULL;
            IF NOT FOUND THEN
                RETURN EXISTS (SELECT FROM %1$s._ayb_job_batches AS batch WHERE batch.id = p_batch);
            END IF;
            IF pg_notification_queue_usage() < 0.5 AND coalesce(
                (SELECT job.id FROM %1$s._ayb_jobs AS job
                WHERE job.batch_id = p_batch AND job.state = 'queued' ORDER BY job.id DESC LIMIT 1),
                (SELECT job.id FROM %1$s._ayb_jobs AS job
                WHERE job.batch_id = p_batch AND job.state = 'running' ORDER BY job.id DESC LIMIT 1)
            ) IS NULL THEN
                PERFORM pg_notify('ayb_jobs', 'batch');
            END IF;
            RETURN true;
        END
        $body$
    $create$, tables);
END
$make$;
