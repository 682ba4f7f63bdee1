-- Keys of limits can be paused, too: a pause of one is named `LIMIT/KEY`. Whoever pauses a key holds the limit's row
-- until the commit, so each lease of the key that does not see the pause was committed before it.
ALTER TABLE _ayb_job_pauses
    ALTER COLUMN name TYPE varchar(301),
    DROP CONSTRAINT IF EXISTS "_ayb_job_pauses_kind_check",
    ADD CONSTRAINT "_ayb_job_pauses_kind_check" CHECK (kind IN ('queue', 'type', 'key'));

-- A paused key has no place: its jobs are not looked at, however many wait, and nobody waits for its next token.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    leasing regprocedure := format('%s._ayb_job_lease_limited', tables)::regproc::oid::regprocedure;
    definition text := pg_get_functiondef(leasing);
    change record;
BEGIN
    FOR change IN
        SELECT old, new FROM (VALUES
            ('picked_keys text[];', $new$picked_keys text[];
            paused_keys text[];$new$),
            ('at := clock_timestamp();', format($new$at := clock_timestamp();
            paused_keys := ARRAY(
                SELECT substr(pause.name, length(p_name) + 2) FROM %s._ayb_job_pauses AS pause
                WHERE pause.kind = 'key' AND starts_with(pause.name, p_name || '/')
                    AND (pause.until IS NULL OR pause.until > now()));$new$, tables)),
            ('WHERE found.free > 0', 'WHERE found.free > 0 AND found.key <> ALL (paused_keys)'),
            ('WHERE kept.limit_name = p_name AND kept.tat > at',
                'WHERE kept.limit_name = p_name AND kept.limit_key <> ALL (paused_keys) AND kept.tat > at')
        ) AS change (old, new)
    LOOP
        IF strpos(definition, change.old) = 0 THEN
            RAISE EXCEPTION '% was changed by hand: %', leasing, change.old;
        END IF;
        definition := replace(definition, change.old, change.new);
    END LOOP;
    EXECUTE definition;
END
$make$;
