-- Nothing of ours needs a function of ours to be inserted, and no function of ours runs what others put on the path.
-- Who holds which right is seen to by the program, after the files, for whatever they made.

-- The default of an id is made of built-ins alone, so that whoever may insert needs no right to a function. Bodies that
-- are no quoted text are bound when they are written: later operators of the same name change nothing in them.
-- Tables that AYB made keep AYB's own defaults.
DO $$
DECLARE
    new_id text := CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 'uuidv7()' ELSE $id$
        encode(
            set_bit(set_bit(
                overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
                52, 1), 53, 1),
            'hex')::uuid $id$ END;
    made record;
BEGIN
    EXECUTE 'CREATE OR REPLACE FUNCTION _ayb_job_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE RETURN ' || new_id;
    FOR made IN
        SELECT adrelid::regclass AS place, attname
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE pg_get_expr(adbin, adrelid) ~ '_ayb_job_id\(\)$'
            AND adrelid IN ('_ayb_jobs'::regclass, '_ayb_job_schedules'::regclass, '_ayb_job_alerts'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', made.place, made.attname, new_id);
    END LOOP;
END
$$;

ALTER FUNCTION _ayb_job_schedule_definition(_ayb_job_schedules) SET search_path = pg_catalog, pg_temp;

-- AYB serves every view whose name does not begin with `_ayb_` to its end users. Beside AYB's own tables the view is
-- made by the program, if the pack `barycenter` is in use.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_class
        WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = '_ayb_jobs'::regclass)
            AND relkind IN ('r', 'p') AND relname LIKE '\_ayb\_%' AND relname NOT LIKE '\_ayb\_job%'
    ) AND EXISTS (
        SELECT FROM pg_class
        WHERE oid = to_regclass('job_execution') AND relkind = 'v'
            AND pg_get_viewdef(oid) LIKE '%\_ayb\_job\_executions%'
    ) THEN
        DROP VIEW job_execution;
    END IF;
END
$$;
