-- A list or an object in the payload is no key of a limit: its text may be a gigabyte, though it is stored in a page.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    EXECUTE format($create$
        CREATE OR REPLACE FUNCTION %1$s._ayb_job_put_under(p_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE
            SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $body$
    WITH limited_types AS MATERIALIZED (
        SELECT type, limits.name, limits.key_field
        FROM %1$s._ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
    ), due AS MATERIALIZED (
        SELECT id, type
        FROM %1$s._ayb_jobs
        WHERE id = ANY (p_ids) AND state IN ('queued', 'running') AND priority <= 4
            AND type = ANY (ARRAY(SELECT type FROM limited_types))
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE %1$s._ayb_jobs AS job
    SET priority = job.priority + 4, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
    FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
        SELECT CASE WHEN length(long) <= 200 THEN long ELSE encode(sha256(convert_to(long, 'UTF8')), 'hex') END AS short
        FROM (
            SELECT coalesce(
                keyed.limit_key,
                CASE WHEN jsonb_typeof(keyed.payload -> limited_types.key_field) NOT IN ('array', 'object')
                    THEN keyed.payload ->> limited_types.key_field END,
                '') AS long
            FROM %1$s._ayb_jobs AS keyed WHERE keyed.id = due.id
        ) AS given
    ) AS key
    WHERE job.id = ANY (ARRAY(SELECT id FROM due)) AND job.id = due.id
        $body$
    $create$, tables);
END
$make$;
