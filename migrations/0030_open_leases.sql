-- A worker in any language may lease in a transaction that stays open. Nobody sees such a lease, so a pause or a limit
-- that comes meanwhile could count as in force, and the job start beside it. What can be seen is a lock: each lease
-- shares one, for as long as its transaction lasts, whose number says up to which pause or limit it obeys.
-- A transaction that stays open cannot be told from a statement by itself: by the protocol that most drivers speak, both
-- begin earlier than the statement that runs.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    leasing regprocedure := to_regprocedure(place || '.ayb_jobs_lease(text, text[], text[], integer, double precision)');
    beat regprocedure := format('%s._ayb_job_worker_beat(text, text[], text[], integer)', tables)::regprocedure;
BEGIN
    -- A pause that is committed between the look and the lock is found by the second look.
    EXECUTE format($create$
        CREATE FUNCTION %1$s._ayb_job_begin_leasing() RETURNS void LANGUAGE plpgsql VOLATILE
            SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            numbers bigint[];
            locked bigint[];
        BEGIN
            LOOP
                numbers := ARRAY[
                    (SELECT coalesce(max(it.id), 0) FROM %1$s._ayb_job_pauses AS it),
                    (SELECT coalesce(max(it.id), 0) FROM %1$s._ayb_job_limits AS it)
                ];
                EXIT WHEN numbers = locked;
                PERFORM pg_advisory_xact_lock_shared(
                    (kind.id - CASE WHEN kind.id > 2147483647 THEN 4294967296 ELSE 0 END)::int,
                    least(kind.number, 2147483647)::int
                ) FROM unnest(
                    ARRAY['%1$s._ayb_job_pauses'::regclass::oid::bigint, '%1$s._ayb_job_limits'::regclass::oid::bigint], numbers
                ) AS kind (id, number);
                locked := numbers;
            END LOOP;
        END
        $body$
    $create$, tables);

    -- A worker confirms a limit once what it runs is under it. What it has leased and not committed cannot be yet.
    EXECUTE replace(pg_get_functiondef(beat),
        ') THEN  -- some rows are locked',
        format($changed$) OR EXISTS (
                    SELECT FROM pg_locks AS open
                    WHERE open.locktype = 'advisory' AND open.objsubid = 2 AND open.granted AND open.pid <> pg_backend_pid()
                        AND open.database = (SELECT it.oid FROM pg_database AS it WHERE it.datname = current_database())
                        AND open.classid = '%1$s._ayb_job_limits'::regclass AND open.objid::bigint < newest_limit
                ) THEN  -- some rows are locked, or leased in a transaction that is not committed$changed$, tables));

    IF leasing IS NOT NULL THEN
        EXECUTE replace(pg_get_functiondef(leasing),
            format('IF %s._ayb_job_worker_beat(', tables),
            format(E'PERFORM %1$s._ayb_job_begin_leasing();\n            IF %1$s._ayb_job_worker_beat(', tables));
    END IF;
END
$make$;
