-- A trigger of the application's may keep a row from being leased without an error: it returns null, or the row as it
-- was. `ayb_jobs_lease` tells such jobs and passes them over, under a limit too, where they would keep its places. Those
-- under a limit for which a trigger raises an error are told and passed over likewise: others of the limit go on.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    place text := CASE WHEN tables IN ('public', 'ayb_jobs') THEN 'ayb_jobs' ELSE quote_ident('ayb_jobs_' || trim('"' FROM tables)) END;
    leasing regprocedure := to_regprocedure(place || '.ayb_jobs_lease(text, text[], text[], integer, double precision)');
    definition text;
    change record;
BEGIN
    IF leasing IS NULL THEN
        RETURN;  -- it could not be made before either
    END IF;
    definition := pg_get_functiondef(leasing);
    FOR change IN
        SELECT old, new FROM (VALUES
            ('given int;', $new$given int;
            kept uuid[];
            kept_id uuid;
            passed_over uuid[] := '{}';$new$),
            ($old$EXIT WHEN spare <= 0;
                        BEGIN
                            SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL), max(look.last_key) INTO ids, key$old$,
            $new$LOOP
                        EXIT WHEN spare <= 0 OR cardinality(passed_over) >= 1000;
                        kept := '{}';
                        BEGIN
                            SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL), max(look.last_key),
                                array_agg(chosen.id) FILTER (WHERE chosen.id IS NOT NULL)
                            INTO ids, key, kept$new$),
            ($old$'{}', NULL, found.worker_after$old$, 'passed_over, NULL, found.worker_after'),
            ($old$current_setting('search_path')
                            ) AS look;$old$, $new$current_setting('search_path')
                            ) AS look LEFT JOIN LATERAL unnest(look.picked) AS chosen (id) ON true;$new$),
            ($old$leased := leased || ids;
                        EXCEPTION$old$, $new$leased := leased || ids;
                            kept := ARRAY(SELECT unnest(kept) EXCEPT SELECT unnest(ids));
                            FOREACH kept_id IN ARRAY kept LOOP
                                RAISE WARNING 'job % was not leased: a trigger or a rule keeps it as it is', kept_id;
                            END LOOP;
                            passed_over := passed_over || kept;
                        EXCEPTION$new$),
            ($old$RAISE WARNING 'nothing was leased under the limit %: %', found.name, SQLERRM;
                        END;$old$, $new$-- Which job it is cannot be told, so each is tried by itself.
                            FOR kept_id IN
                                SELECT job.id FROM _ayb_jobs AS job
                                WHERE job.state = 'queued' AND job.limited_by = found.name AND job.run_at <= now()
                                    AND job.type = ANY (ayb_jobs_lease.types) AND job.queue = ANY (ayb_jobs_lease.queues)
                                    AND job.id <> ALL (passed_over)
                                ORDER BY job.priority, job.run_at, job.id
                                LIMIT 1000
                            LOOP
                                EXIT WHEN spare <= 0;
                                BEGIN
                                    SELECT array_agg(look.id) FILTER (WHERE look.lease_id IS NOT NULL) INTO ids
                                    FROM _ayb_job_lease_limited(
                                        found.name, 1, ayb_jobs_lease.types, ayb_jobs_lease.queues, '{}', ARRAY[kept_id],
                                        found.worker_after, ayb_jobs_lease.worker, ayb_jobs_lease.lease_s, true,
                                        current_setting('search_path')
                                    ) AS look;
                                    leased := leased || ids;
                                    spare := ayb_jobs_lease.n - cardinality(leased);
                                EXCEPTION WHEN others THEN
                                    RAISE WARNING 'job % was not leased: %', kept_id, SQLERRM;
                                END;
                            END LOOP;
                        END;$new$),
            ($old$spare := ayb_jobs_lease.n - cardinality(leased);
                    END LOOP;
                    CONTINUE;$old$, $new$spare := ayb_jobs_lease.n - cardinality(leased);
                        EXIT WHEN cardinality(kept) = 0;
                        END LOOP;
                    END LOOP;
                    CONTINUE;$new$),
            ($old$RETURNING CASE WHEN job.state = 'running' THEN ARRAY[job.id] END INTO ids;$old$,
            $new$RETURNING CASE WHEN job.state = 'running' THEN ARRAY[job.id] END INTO ids;
                                IF ids IS NULL THEN
                                    RAISE WARNING 'job % was not leased: a trigger or a rule keeps it as it is', found.id;
                                END IF;$new$)
        ) AS change (old, new)
    LOOP
        IF strpos(definition, change.old) = 0 THEN
            RAISE EXCEPTION '% was changed by hand: %', leasing, change.old;
        END IF;
        definition := replace(definition, change.old, replace(replace(change.new,
            'FROM _ayb_jobs AS', format('FROM %s._ayb_jobs AS', tables)),
            'FROM _ayb_job_lease_limited', format('FROM %s._ayb_job_lease_limited', tables)));
    END LOOP;
    EXECUTE definition;
END
$make$;
