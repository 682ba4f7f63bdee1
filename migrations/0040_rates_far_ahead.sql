-- A rate never spends beyond its burst from now on. What is further ahead was spent at a slower rate, before it was
-- raised, or by a clock that has gone back since, as after a failover. It counts as a spent burst, and is written so, for
-- only what is written comes nearer with time.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    leasing regprocedure := format('%s._ayb_job_lease_limited', tables)::regproc::oid::regprocedure;
    definition text := pg_get_functiondef(leasing);
    change record;
BEGIN
    FOR change IN
        SELECT old, new FROM (VALUES
            ('at := clock_timestamp();', format($new$at := clock_timestamp();
            IF held.every IS NOT NULL AND held.tat > at + held.burst * held.every THEN
                held.tat := at + held.burst * held.every;
                UPDATE %s._ayb_job_limits AS it SET tat = held.tat WHERE it.name = p_name;
            END IF;$new$, tables)),
            ('SET tat = greatest(kept.tat, at) + (excluded.tat - at);',
                $new$SET tat = greatest(least(kept.tat, at + held.key_burst * held.key_every), at) + (excluded.tat - at);$new$),
            ('-- No key starts before its limit may, and none while all places are taken.', format($new$IF held.key_every IS NOT NULL AND coalesce(cardinality(picked), 0) < spare THEN
                UPDATE %s._ayb_job_limit_keys AS kept SET tat = at + held.key_burst * held.key_every
                WHERE kept.limit_name = p_name AND kept.tat > at + held.key_burst * held.key_every;
            END IF;
            -- No key starts before its limit may, and none while all places are taken.$new$, tables))
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
